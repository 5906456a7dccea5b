"""Pages of the comparison for tests: their elements, and one with 200 runs."""

from html.parser import HTMLParser
from pathlib import Path

from pipelines.comparison.page.write import write_page
from tests.pipelines.comparison.run_folders import compared, write_run, write_sweep

EVIL = "</script><script>document.body.dataset.evil = 1</script><img src=x onerror=\"document.title='evil'\">"


class Page(HTMLParser):
    """The elements of a page, in order, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def having(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]


def write_page_of_200(folder: Path) -> Path:
    """Writes the page of a sweep of 200 runs of all kinds; the first has the pictures and the best accuracy."""
    logs = folder / "logs"
    for i in range(200):
        state = "failed" if i % 20 == 7 else "finished"
        write_run(
            logs / "softmax" / f"large-{i:04}",
            [] if i == 7 else [0.5, 0.9 - i / 1000, 0.8 - i / 1000],
            state,
            "ValueError: no" if state == "failed" else None,
            pictures=("templates", "confusion/val") if i < 20 else (),
            lr=10 ** -(i % 50 / 10),
            reg=i / 7,
            optimizer="torch.optim.SGD" if i % 2 else "torch.optim.Adam",
        )
    (logs / "softmax" / "large-0003" / "config.yaml").unlink()
    (logs / "softmax" / "large-0005" / "pictures" / "templates" / "00000030.png").write_bytes(b"\x89PNG no more")
    page = logs.parent / "comparison.html"
    write_page(compared(write_sweep(logs, "large")), page)
    return page
