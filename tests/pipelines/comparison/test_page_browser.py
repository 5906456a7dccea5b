"""The page of one group in a browser without a network: 200 runs, sorting, filtering, plots."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.comparison.page.write import write_page
from tests.chromium import Browser, open_browser
from tests.pipelines.comparison.pages import EVIL, write_page_of_200
from tests.pipelines.comparison.run_folders import compared, write_run, write_sweep


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as running:
        yield running


@pytest.fixture(scope="module")
def sweep_of_200(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page_of_200(tmp_path_factory.mktemp("large"))


_EVENTS = {"curve-metric": "change", "curve-x": "input"}
_SHOWN = "[...document.querySelectorAll('.runs tbody tr:not([hidden]) td.id')].map((cell) => cell.textContent)"


def _filter(browser: Browser, text: str) -> list[str]:
    browser.run(f"views[0].find('.filter').value = {json.dumps(text)}")
    browser.run("filterRows(views[0])")
    return list(browser.run(_SHOWN))


def _lines(browser: Browser) -> int:
    return int(browser.run("document.querySelectorAll('.curves .panel:first-child path.js-line').length"))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_200_runs_are_drawn_without_error_or_request(browser: Browser, sweep_of_200: Path, scheme: str) -> None:
    browser.open(sweep_of_200, scheme)
    assert browser.run("document.querySelectorAll('.runs tbody tr').length") == 200
    browser.scroll_to(".curves")
    browser.until("document.querySelectorAll('.curves .panel:first-child path.js-line').length === 199")
    browser.scroll_to(".progress")
    browser.until("document.querySelectorAll('.progress path.point').length === 199")
    browser.until("document.querySelectorAll('.against path.point').length === 198")  # one has no configuration
    browser.scroll_to(".parallel")
    browser.until("document.querySelectorAll('.parallel path.line').length === 199")
    browser.scroll_to(".pictures")
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
    assert browser.run("document.querySelector('.count').textContent") == "0 of 200"
    assert len(_filter(browser, "")) == 200
    assert browser.errors == []


@pytest.mark.slow
def test_curves_follow_the_table(browser: Browser, sweep_of_200: Path) -> None:
    browser.open(sweep_of_200)
    browser.scroll_to(".curves")
    _filter(browser, "state:failed")
    browser.until("document.querySelectorAll('.curves .panel:first-child path.js-line').length === 9")
    browser.run("document.querySelector('.runs tbody tr:not([hidden]) input').click()")
    browser.until("document.querySelectorAll('.curves .panel:first-child path.js-line').length === 8")
    browser.run("document.querySelectorAll('.runs tbody tr:not([hidden])')[1].dispatchEvent(new Event('pointerenter'))")
    assert browser.run("document.querySelectorAll('.curves .panel:first-child .dim .trace.lit').length") == 1
    assert (
        browser.run("getComputedStyle(document.querySelector('.curves .panel:first-child .trace:not(.lit)')).opacity")
        == "0.13"
    )
    browser.run("Plotly.Fx.hover(document.querySelector('.curves .plot'), [{curveNumber: 0, pointNumber: 1}])")
    tooltip = browser.run("document.querySelector('.curves .hoverlayer').textContent")
    assert tooltip.startswith("large-0187") and "optimizer SGD" in tooltip and "step 19: 0.713" in tooltip
    browser.run("document.querySelectorAll('.runs tbody tr:not([hidden])')[1].dispatchEvent(new Event('pointerleave'))")
    assert browser.run("document.querySelectorAll('.curves .panel:first-child .trace.lit').length") == 0
    for select, value in {"curve-metric": "train/loss", "curve-x": "epoch"}.items():
        browser.run(f"document.querySelector('.{select}').value = '{value}'")
        browser.run(f"document.querySelector('.{select}').dispatchEvent(new Event('{_EVENTS[select]}'))")
    browser.until("views[0].panels[0].area.layout.uirevision.startsWith('train/loss,epoch')")
    assert browser.run("document.querySelector('.curves .xtitle').textContent") == "epoch"
    assert browser.errors == []


@pytest.mark.slow
def test_a_range_selected_on_an_axis_keeps_the_runs_within_it(browser: Browser, sweep_of_200: Path) -> None:
    browser.open(sweep_of_200)
    browser.scroll_to(".parallel")
    browser.until("document.querySelectorAll('.parallel path.line').length === 199")
    box = browser.run(
        "(() => { const b = [...document.querySelectorAll('.parallel .grip')].at(-1).getBoundingClientRect();"
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
    browser.until("document.querySelector('.curves .message') !== null")
    assert browser.run("document.querySelector('.curves .message').textContent") == "No run has logged a metric yet."
    names = "[...document.querySelectorAll('section')].filter((s) => !s.hidden).map((s) => s.classList[0] ?? s.id)"
    assert browser.run(names) == ["ranking", "curves", *(["differences"] if count > 1 else [])]
    assert browser.errors == []


@pytest.mark.slow
def test_a_few_trials_are_counted_in_whole_numbers(browser: Browser, tmp_path: Path) -> None:
    for i in range(4):
        write_run(tmp_path / "logs" / "softmax" / f"few-{i:04}", [0.5, 0.6 + i / 100], lr=10.0**-i)
    write_page(compared(write_sweep(tmp_path / "logs", "few")), tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    browser.scroll_to(".progress")
    browser.until("document.querySelectorAll('.progress path.point').length === 4")
    ticks = "[...document.querySelectorAll('.progress .xtick text')].map((tick) => tick.textContent)"
    assert browser.run(ticks) == ["0", "1", "2", "3"]
    assert browser.errors == []


@pytest.mark.slow
def test_markup_in_settings_is_not_run(browser: Browser, tmp_path: Path) -> None:
    for i in range(4):
        write_run(tmp_path / "softmax" / f"r{i}{'<b>' * i}", [i / 10], "failed", EVIL, lr=10.0**-i,
                  optimizer=f"torch.optim.{i}{EVIL}")  # fmt: skip
    write_page(compared(tmp_path / "softmax"), tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    for section in (".curves", ".parallel", ".against"):
        browser.scroll_to(section)
        browser.until(f"document.querySelector('{section} svg') !== null")
    browser.run("Plotly.Fx.hover(document.querySelector('.against .plot'), [{curveNumber: 0, pointNumber: 0}])")
    assert browser.run("document.querySelector('.against .hoverlayer').textContent").startswith("r0")
    assert browser.run("document.body.dataset.evil === undefined && document.title !== 'evil'") is True
    assert browser.run("document.querySelectorAll('img[src=x], .hoverlayer a').length") == 0
    assert browser.errors == []


@pytest.mark.slow
def test_axes_of_settings_are_logarithmic_where_that_spreads_the_values(browser: Browser, tmp_path: Path) -> None:
    write_run(tmp_path / "softmax" / "a", [0.5])
    write_page(compared(tmp_path / "softmax"), tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    cases = {"[0.003, 0.01, 0.03, 0.1]": True, "[1, 1000]": True, "[1, 4, 7, 10]": False, "[1, 2, 5]": False,
             "[0, 1, 1000]": False, "[-1, 100]": False, "[1e-5, 1e-3, 1e-2, null]": True, "[3]": False}  # fmt: skip
    assert {values: browser.run(f"spansDecades({values})") for values in cases} == cases
