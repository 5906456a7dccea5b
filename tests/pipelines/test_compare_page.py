"""The page of `python -m pipelines.compare`: its HTML, and its behavior in a browser without a network."""

import html
import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from pipelines.comparison.page import payload, render, write_page
from pipelines.comparison.ranking import Comparison
from tests.chromium import Browser, open_browser
from tests.pipelines.test_compare import compared, write_run, write_sweep

_EVIL = "</script><script>document.body.dataset.evil = 1</script><img src=x onerror=\"document.title='evil'\">"


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as running:
        yield running


@pytest.fixture(scope="module")
def sweep_of_200(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a sweep of 200 runs of all kinds; the first has the pictures and the best accuracy."""
    logs = tmp_path_factory.mktemp("large") / "logs"
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


@pytest.fixture
def small(tmp_path: Path) -> Comparison:
    for i, value in enumerate([0.7, 0.9, 0.8]):
        write_run(tmp_path / "softmax" / f"r{i}", [0.1, value], lr=10.0**-i)
    return compared(tmp_path / "softmax")


# ------------------------------------------------------------------------------------------------------ without browser


def test_the_page_is_self_contained(small: Comparison) -> None:
    page = Page(render(small))
    addresses = [value or "" for _, found in page.elements for key, value in found.items() if key in ("src", "href")]
    assert all(address.startswith("data:") for address in addresses)
    assert not page.having("script", type="module") and len(page.having("script")) == 3
    (policy,) = (found["content"] or "" for found in page.having("meta") if "http-equiv" in found)
    assert policy.startswith("default-src 'none'") and "http" not in policy
    ours = render(small).replace(get_plotlyjs(), "")
    assert set(re.findall(r"https?://[^\s\"'<]+", ours)) == {"http://www.w3.org/2000/svg"}  # a name, never fetched


def test_the_payload_is_what_was_read(small: Comparison) -> None:
    data = payload(small)
    assert (data["metric"], data["maximize"], data["metrics"]) == ("val/accuracy", True, ["val/accuracy", "train/loss"])
    assert data["settings"] == [{"key": "optimizer.lr", "name": "lr"}]
    assert [run["id"] for run in data["runs"]] == ["r1", "r2", "r0"]
    assert data["runs"][0]["settings"] == {"optimizer.lr": 0.1}
    assert data["runs"][0]["curves"]["val/accuracy"] == {"step": [9, 19], "epoch": [0.0, 1.0], "value": [0.1, 0.9]}


def test_long_curves_are_thinned_and_values_that_are_not_finite_become_gaps(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [*(math.sin(i) for i in range(3000)), "nan", "inf"])
    curve = payload(compared(tmp_path))["runs"][0]["curves"]["val/accuracy"]
    assert 400 < len(curve["step"]) <= 500 and curve["step"][-1] == 30019 and curve["value"][-1] is None
    assert json.dumps(curve, allow_nan=False)


def test_the_table_is_complete_without_scripts(tmp_path: Path) -> None:
    write_run(tmp_path / "softmax" / "good", [0.5])
    write_run(tmp_path / "svm" / "bad", [], "failed", "ValueError: <b> & 'c'")
    page = render(compared(tmp_path))
    assert '<span class="topic">svm</span>' in page
    assert "ValueError: &lt;b&gt; &amp; &#x27;c&#x27;; metrics.csv has no values yet" in page
    assert '<li class="state failed"><b>1</b> failed</li>' in page
    heads = [found["data-short"] for found in Page(page).having("th") if "data-short" in found]
    assert heads == ["run", "state", "best val/accuracy", "at step", "last", "max_epochs", "took"]


def test_markup_in_settings_stays_text(tmp_path: Path) -> None:
    write_run(tmp_path / "logs" / "soft<i>max" / "a", [0.5], "failed", _EVIL, optimizer=f"torch.optim.{_EVIL}")
    write_run(tmp_path / "logs" / "soft<i>max" / "b", [0.4], lr=0.3)
    write_run(tmp_path / "logs" / "soft<i>max" / "c<b>\u2028", [0.3], monitor="<u>")
    comparison = compared(tmp_path / "logs")
    assert len(Page(render(comparison)).having("script")) == 3
    assert _EVIL not in render(comparison)
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', render(comparison))
    assert json.loads(data)["runs"][0]["settings"]["optimizer"] in _EVIL and "\u2028" not in data
    assert html.escape(_EVIL) in render(comparison)


def test_only_the_best_runs_show_their_pictures(sweep_of_200: Path) -> None:
    text = sweep_of_200.read_text()
    images = Page(text).having("img", loading="lazy", decoding="async")
    assert len(images) == 12 * 2 - 1
    assert all(
        (image["src"] or "").startswith("data:image/webp;base64,") and image["width"] == "560" for image in images
    )
    assert "the 12 best of 20 runs with pictures shown" in text
    assert text.count("the file can’t be read") == 1
    assert "at step 30" in (images[0]["alt"] or "")
    assert sweep_of_200.stat().st_size < 8e6  # of which Plotly is 4.8


def test_nothing_is_left_behind_where_nothing_can_be_written(small: Comparison, tmp_path: Path) -> None:
    (tmp_path / "out.html").mkdir()
    with pytest.raises(IsADirectoryError):
        write_page(small, tmp_path / "out.html")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.html", "softmax"]


# --------------------------------------------------------------------------------------------------------- with browser

_SHOWN = "[...document.querySelectorAll('.runs tbody tr:not([hidden]) td.id')].map((cell) => cell.textContent)"


def _filter(browser: Browser, text: str) -> list[str]:
    browser.run(f"document.getElementById('filter').value = {json.dumps(text)}")
    browser.run("filterRows()")
    return list(browser.run(_SHOWN))


def _lines(browser: Browser) -> int:
    return int(browser.run("document.querySelectorAll('#curves path.js-line').length"))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_200_runs_are_drawn_without_error_or_request(browser: Browser, sweep_of_200: Path, scheme: str) -> None:
    browser.open(sweep_of_200, scheme)
    assert browser.run("document.querySelectorAll('.runs tbody tr').length") == 200
    browser.scroll_to("#curves")
    browser.until("document.querySelectorAll('#curves path.js-line').length === 199")
    browser.scroll_to("#progress")
    browser.until("document.querySelectorAll('#progress path.point').length === 199")
    browser.until("document.querySelectorAll('#scatter path.point').length === 198")  # one has no configuration
    browser.scroll_to("#parallel")
    browser.until("document.querySelectorAll('#parallel path.line').length === 199")
    browser.scroll_to("#pictures")
    browser.until("[...document.images].filter((image) => image.naturalWidth === 560).length >= 4")
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("data:", "file:", "blob:"))] == []
    assert [url for url in browser.requests if url.startswith("file:")] == [sweep_of_200.resolve().as_uri()]


@pytest.mark.slow
def test_a_click_on_a_head_sorts_and_another_reverses_the_order(browser: Browser, sweep_of_200: Path) -> None:
    browser.open(sweep_of_200)
    assert browser.run(_SHOWN)[:2] == ["large-0000", "large-0001"] and browser.run(_SHOWN)[-1] == "large-0007"
    head = "document.querySelector('.runs th[data-short=reg]')"
    browser.run(f"{head}.querySelector('button').click()")
    shown = browser.run(_SHOWN)
    assert shown[:3] == ["large-0000", "large-0001", "large-0002"] and shown[-1] == "large-0003"  # which has no reg
    assert shown[98:100] == ["large-0099", "large-0100"]  # by number, not by letter
    assert browser.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    browser.run(f"{head}.querySelector('button').click()")
    shown = browser.run(_SHOWN)
    assert shown[0] == "large-0199" and shown[-1] == "large-0003"
    assert browser.run("document.querySelectorAll('[aria-sort=descending], [aria-sort=ascending]').length") == 1


@pytest.mark.slow
def test_the_filter_takes_words_columns_and_numbers(browser: Browser, sweep_of_200: Path) -> None:
    browser.open(sweep_of_200)
    assert len(_filter(browser, "state:failed")) == 10
    assert _filter(browser, "LARGE-0042") == ["large-0042"]
    assert len(_filter(browser, "lr>0.5 optimizer:sgd")) == 7
    assert len(_filter(browser, "reg<=1")) == 7  # 0 to 7 but the one without configuration
    assert len(_filter(browser, "accuracy>=0.895")) == 6
    assert len(_filter(browser, "lr=1")) == 4
    assert _filter(browser, "no run has this") == []
    assert browser.run("document.getElementById('count').textContent") == "0 of 200"
    assert len(_filter(browser, "")) == 200
    assert browser.errors == []


@pytest.mark.slow
def test_curves_follow_the_table(browser: Browser, sweep_of_200: Path) -> None:
    browser.open(sweep_of_200)
    browser.scroll_to("#curves")
    _filter(browser, "state:failed")
    browser.until("document.querySelectorAll('#curves path.js-line').length === 9")
    browser.run("document.querySelector('.runs tbody tr:not([hidden]) input').click()")
    browser.until("document.querySelectorAll('#curves path.js-line').length === 8")
    browser.run("document.querySelectorAll('.runs tbody tr:not([hidden])')[1].dispatchEvent(new Event('pointerenter'))")
    assert browser.run("document.querySelectorAll('#curves .dim .trace.lit').length") == 1
    assert browser.run("getComputedStyle(document.querySelector('#curves .trace:not(.lit)')).opacity") == "0.13"
    browser.run("Plotly.Fx.hover(document.querySelector('#curves .plot'), [{curveNumber: 0, pointNumber: 1}])")
    tooltip = browser.run("document.querySelector('#curves .hoverlayer').textContent")
    assert tooltip.startswith("large-0187") and "optimizer SGD" in tooltip and "step 19: 0.713" in tooltip
    browser.run("document.querySelectorAll('.runs tbody tr:not([hidden])')[1].dispatchEvent(new Event('pointerleave'))")
    assert browser.run("document.querySelectorAll('#curves .trace.lit').length") == 0
    for select, value in {"curve-metric": "train/loss", "curve-x": "epoch"}.items():
        browser.run(f"document.getElementById('{select}').value = '{value}'")
        browser.run(f"document.getElementById('{select}').dispatchEvent(new Event('change'))")
    browser.until("document.querySelector('#curves .ytitle').textContent === 'train/loss'")
    assert browser.run("document.querySelector('#curves .xtitle').textContent") == "epoch"
    assert browser.errors == []


@pytest.mark.slow
def test_a_range_selected_on_an_axis_keeps_the_runs_within_it(browser: Browser, sweep_of_200: Path) -> None:
    browser.open(sweep_of_200)
    browser.scroll_to("#parallel")
    browser.until("document.querySelectorAll('#parallel path.line').length === 199")
    box = browser.run(
        "(() => { const b = [...document.querySelectorAll('#parallel .grip')].at(-1).getBoundingClientRect();"
        "return { x: b.x + b.width / 2, y: b.y } })()"
    )
    for kind, below in (("mousePressed", 0), ("mouseMoved", 60), ("mouseReleased", 90)):  # the best accuracies
        browser.call("Input.dispatchMouseEvent", type=kind, x=box["x"], y=box["y"] + below, button="left", clickCount=1)
    kept = browser.run(_SHOWN)
    assert 20 < len(kept) < 120 and kept[0] == "large-0000"
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=box["x"], y=box["y"] + 20, button="left", clickCount=1)
    assert len(browser.run(_SHOWN)) == 200


@pytest.mark.slow
def test_a_picture_is_enlarged_by_a_click(browser: Browser, sweep_of_200: Path) -> None:
    browser.open(sweep_of_200)
    browser.run("document.querySelector('.picture').click()")
    assert browser.run("document.getElementById('enlarged').open") is True
    assert "of large-0000 at step 30" in browser.run("document.querySelector('#enlarged p').textContent")


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_runs_without_metrics_are_shown(browser: Browser, tmp_path: Path, count: int) -> None:
    for i in range(count):
        write_run(tmp_path / "softmax" / f"r{i}", [], "failed", "ValueError: no")
        (tmp_path / "softmax" / f"r{i}" / "metrics.csv").unlink()
    write_page(compared(tmp_path / "softmax"), tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    browser.until("document.querySelector('#curves .message') !== null")
    assert browser.run("document.querySelector('#curves .message').textContent") == "No run has logged a metric yet."
    assert browser.run("[...document.querySelectorAll('section')].filter((s) => !s.hidden).map((s) => s.id)") == [
        "runs", "curves",
    ]  # fmt: skip
    assert browser.errors == []


@pytest.mark.slow
def test_a_few_trials_are_counted_in_whole_numbers(browser: Browser, tmp_path: Path) -> None:
    for i in range(4):
        write_run(tmp_path / "logs" / "softmax" / f"few-{i:04}", [0.5, 0.6 + i / 100], lr=10.0**-i)
    write_page(compared(write_sweep(tmp_path / "logs", "few")), tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    browser.scroll_to("#progress")
    browser.until("document.querySelectorAll('#progress path.point').length === 4")
    ticks = "[...document.querySelectorAll('#progress .xtick text')].map((tick) => tick.textContent)"
    assert browser.run(ticks) == ["0", "1", "2", "3"]
    assert browser.errors == []


@pytest.mark.slow
def test_markup_in_settings_is_not_run(browser: Browser, tmp_path: Path) -> None:
    for i in range(4):
        write_run(tmp_path / "softmax" / f"r{i}{'<b>' * i}", [i / 10], "failed", _EVIL, lr=10.0**-i,
                  optimizer=f"torch.optim.{i}{_EVIL}")  # fmt: skip
    write_page(compared(tmp_path / "softmax"), tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    for section in ("#curves", "#parallel", "#scatter"):
        browser.scroll_to(section)
        browser.until(f"document.querySelector('{section} svg') !== null")
    browser.run("Plotly.Fx.hover(document.querySelector('#scatter .plot'), [{curveNumber: 0, pointNumber: 0}])")
    assert browser.run("document.querySelector('#scatter .hoverlayer').textContent").startswith("r0")
    assert browser.run("document.body.dataset.evil === undefined && document.title !== 'evil'") is True
    assert browser.run("document.querySelectorAll('img[src=x], .hoverlayer a').length") == 0
    assert browser.errors == []
