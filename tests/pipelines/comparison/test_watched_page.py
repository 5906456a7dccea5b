"""A watched page: it marks the best run and the states, reloads itself, and looks as before afterwards."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.comparison.page.write import render, write_page
from tests.chromium import Browser, open_browser
from tests.pipelines.comparison.run_folders import RunningRun, compared, write_run, write_sweep


def test_the_page_marks_the_best_run_and_the_state_of_each(tmp_path: Path) -> None:
    run = RunningRun(tmp_path / "a", 0.9)
    write_run(tmp_path / "b", [0.5], "stopped", "the sweep: other trials did better")
    page = render(compared(tmp_path), reload=5)
    run.kill()
    rows = re.findall(r"<tr data-run=.*?</tr>", page)
    assert '<span class="state running">running</span> <span class="state top">best</span>' in rows[0]
    assert '<span class="state stopped">stopped</span>' in rows[1] and "did better" in rows[1]
    assert page.count('class="state top"') == 1
    assert "reloads itself every 5 s" in page and "reloads itself" not in render(compared(tmp_path))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as running:
        yield running


@contextmanager
def _trials(logs: Path) -> Iterator[list[RunningRun]]:
    """Twelve running trials with a learning rate each, the first with the best accuracy."""
    trials = [RunningRun(logs / "softmax" / f"live-{i:04}", 0.5, 0.9 - i / 100, lr=10 ** (-i / 4)) for i in range(12)]
    write_sweep(logs, "live")
    yield trials
    for run in trials:
        run.kill()


_PANEL = "views[0].panels[0]"
_ROW = "[...document.querySelectorAll('.runs tbody tr')].find((row) => row.textContent.includes('{}'))"
_BESTS = "[...document.querySelectorAll('.runs tbody tr:not([hidden]) td.best')].map((cell) => cell.textContent)"


@pytest.mark.slow
def test_a_watched_page_reloads_and_looks_as_before_until_it_is_final(browser: Browser, tmp_path: Path) -> None:
    logs, page = tmp_path / "logs", tmp_path / "page.html"
    with _trials(logs) as trials:
        sweep = logs / "sweeps" / "live"
        write_page(compared(sweep), page, reload=600)
        browser.open(page)
        browser.scroll_to(".curves")
        browser.until("document.querySelectorAll('.curves .panel:first-child path.js-line').length === 12")
        browser.scroll_to(".parallel")
        browser.until("document.querySelectorAll('.parallel path.line').length === 12")
        # Sort by lr, filter, hide one run, pin another, choose a metric, zoom, select a range, scroll.
        browser.run("document.querySelector('.runs th[data-short=lr] button').click()")
        browser.run(f"{_ROW.format('live-0011')}.querySelector('input').click()")
        browser.run(f"{_ROW.format('live-0003')}.click()")
        browser.run("views[0].find('.filter').value = 'lr<0.9'")
        browser.run("filterRows(views[0])")
        browser.run(f"{_PANEL}.select.value = 'train/loss'; {_PANEL}.select.dispatchEvent(new Event('change'))")
        browser.scroll_to(".curves")
        browser.until(f"{_PANEL}.area.layout?.uirevision.startsWith('train/loss')")
        browser.run(f"Plotly.relayout({_PANEL}.area, {{'xaxis.range': [2, 12], 'yaxis.range': [1, 3]}}).then(() => 0)")
        _drag_last_axis(browser)
        browser.run("views[0].find('.filter').focus({preventScroll: true})")
        browser.run("views[0].find('.filter').setSelectionRange(1, 2)")
        shown = browser.run(_BESTS)
        assert shown == ["0.7900", "0.8000", "0.8100", "0.8200", "0.8300", "0.8400"]  # by lr
        before = browser.run("document.querySelector('.curves').getBoundingClientRect().top")

        trials[5].log(0.99)
        write_run(logs / "softmax" / "live-0012", [0.8], lr=1e-4)  # a row more above what is read
        write_page(compared(sweep), page, reload=0.1)
        browser.run("document.body.dataset.old = ''")
        browser.run("page.reload()")
        browser.until("document.body.dataset.ready !== undefined && document.body.dataset.old === undefined")
        write_page(compared(sweep), page)  # final
        browser.until("data.reload === null && document.body.dataset.ready !== undefined")

        assert browser.run(f"{_ROW.format('live-0005')}.querySelector('td.best').textContent") == "0.9900"
        assert browser.run("document.querySelector('.runs th[data-short=lr]').ariaSort") == "ascending"
        assert browser.run("views[0].find('.filter').value") == "lr<0.9"
        hidden = "views[0].rows.filter((row) => row.classList.contains('off')).map((row) => idOf(views[0], row))"
        assert browser.run(hidden) == ["live-0011"]
        assert browser.run("views[0].runs[views[0].pinned].id") == "live-0003"
        assert browser.run("[...document.querySelectorAll('tr.pinned td.id')].map((c) => c.textContent)") == [
            "live-0003"
        ]
        assert browser.run(_BESTS) == ["0.8000", *shown]  # the range is one of values, on an axis that is longer now
        assert browser.run(f"{_PANEL}.select.value") == "train/loss"
        assert browser.run("document.activeElement.className") == "filter"
        assert browser.run("[document.activeElement.selectionStart, document.activeElement.selectionEnd]") == [1, 2]
        after = browser.run("document.querySelector('.curves').getBoundingClientRect().top")
        assert abs(after - before) < 2 and browser.run("scrollY") > 100
        browser.until(f"{_PANEL}.area.layout?.uirevision.startsWith('train/loss')")
        assert browser.run(f"{_PANEL}.area.layout.xaxis.range") == [2, 12]
        assert browser.run(f"{_PANEL}.area.layout.yaxis.range") == [1, 3]
        assert browser.run("page.reload === undefined && history.state === null")  # from now on a page like any other
        assert browser.errors == []
        assert [url for url in browser.requests if not url.startswith(("data:", "file:", "blob:"))] == []


def _drag_last_axis(browser: Browser) -> None:
    """Selects the worse half of the accuracies in the parallel coordinates."""
    grip = "[...document.querySelectorAll('.parallel .grip')].at(-1)"
    browser.scroll_to(".parallel")
    browser.until(f"{grip} !== undefined")
    box = browser.run(f"(() => {{ const b = {grip}.getBoundingClientRect(); return [b.x + b.width / 2, b.bottom] }})()")
    for kind, above in (("mousePressed", 5), ("mouseMoved", 200), ("mouseReleased", 200)):
        browser.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1] - above, button="left", clickCount=1)
    browser.scroll_to(".curves")


@pytest.mark.slow
def test_a_page_does_not_reload_while_a_picture_is_enlarged(browser: Browser, tmp_path: Path) -> None:
    write_run(tmp_path / "softmax" / "a", [0.5], pictures=["templates"])
    write_page(compared(tmp_path / "softmax"), tmp_path / "page.html", reload=600)
    browser.open(tmp_path / "page.html")
    browser.run("document.querySelector('.picture').click()")
    assert browser.run("page.isBusy()") is True
    browser.run("enlarged.close()")
    browser.until("page.isBusy() === false")


@pytest.mark.slow
def test_a_reload_keeps_what_was_chosen_in_each_group_when_a_group_joins(browser: Browser, tmp_path: Path) -> None:
    logs, page = tmp_path / "logs", tmp_path / "page.html"
    for topic in ("softmax", "svm"):
        for i in range(4):
            write_run(logs / topic / f"r{i}", [0.1, 0.5 + i / 10], lr=10.0**-i, seed=i % 2)
    write_page(compared(logs), page, reload=600)
    browser.open(page)
    for control, value in ((".group-by", '["seed_everything"]'), (".smoothing", "0.5"), (".curve-x", "epoch")):
        browser.run(f"views[1].find('{control}').value = '{value}'")
        for event in ("input", "change"):
            browser.run(f"views[1].find('{control}').dispatchEvent(new Event('{event}'))")
    browser.run("differences.restore([['svm on Digits', 'r2'], ['softmax on Digits', 'r1']])")
    write_run(logs / "knn" / "first", [0.9])  # its group comes before the others
    write_page(compared(logs), page)
    browser.run("document.body.dataset.old = ''")
    browser.run("page.reload()")
    browser.until("document.body.dataset.ready !== undefined && document.body.dataset.old === undefined")
    assert browser.run("views.map((view) => view.group.title)") == [
        "knn on Digits",
        "softmax on Digits",
        "svm on Digits",
    ]
    assert browser.run("views.map((view) => view.groupBy)") == [None, None, ["seed_everything"]]
    assert browser.run("views.map((view) => view.find('.smoothing').value)") == ["0", "0", "0.5"]
    assert browser.run("views.map((view) => view.find('.curve-x').value)") == ["step", "step", "epoch"]
    chosen = "[...document.querySelectorAll('#differences select')].map((each) => each.selectedOptions[0].text)"
    assert browser.run(chosen) == ["r2", "r1"]
    assert browser.errors == []
