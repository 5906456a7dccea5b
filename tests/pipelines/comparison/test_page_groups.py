"""The page of several groups: contents, headings, pictures, averages, panels and the comparison of two runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from pipelines.comparison.page.data import payload
from pipelines.comparison.page.write import render, write_page
from tests.chromium import Browser, open_browser
from tests.pipelines.comparison.pages import Page
from tests.pipelines.comparison.run_folders import compared, write_run


def write_topics(logs: Path) -> Path:
    """Writes three topics: a GAN with samples, nearest neighbors with one value a run, and one with seeds."""
    write_run(logs / "gan" / "g0", [30.0, 20.0, 10.0], monitor="val/fid", mode="min", data="MNIST",
              pictures=["losses", "samples"])  # fmt: skip
    for i, value in enumerate([0.4, 0.5]):
        write_run(logs / "knn" / f"k{i}", [value], reg=i, pictures=["confusion/val"])
    for lr, values in {0.1: [0.5, 0.7, 0.6], 0.2: [0.9, 0.8, 0.95]}.items():
        for seed, value in enumerate(values):
            write_run(logs / "svm" / f"s{lr}-{seed}", [0.1, value / 2, value], lr=lr, seed=seed, reg=0.5 * seed)
    return logs


def test_contents_link_to_each_group_with_its_metric(tmp_path: Path) -> None:
    page = Page(render(compared(write_topics(tmp_path / "logs"))))
    cards = page.having("a", **{"class": "card"})
    assert [card["href"] for card in cards] == ["#group-1", "#group-2", "#group-3"]
    assert [found["id"] for found in page.having("article")] == ["group-1", "group-2", "group-3"]
    text = render(compared(tmp_path / "logs"))
    assert '<span class="figure">10.0000</span>' in text and "val/fid ↓" in text
    alone = render(compared(tmp_path / "logs" / "gan"))
    assert 'class="card"' not in alone and "<h2>" not in alone and "1 run of gan on MNIST" in alone


def test_pictures_come_first_where_a_topic_is_made_of_them(tmp_path: Path) -> None:
    names = [found["class"] for found in Page(render(compared(write_topics(tmp_path / "logs")))).having("section")[:-1]]
    sections = [(name or "").split()[0] for name in names]
    assert sections[:2] == ["pictures", "ranking"]
    assert sections[6:8] == ["ranking", "curves"] and sections[11] == "pictures"  # nearest neighbors
    gan = render(compared(tmp_path / "logs" / "gan"))
    assert gan.index("<h4>samples</h4>") < gan.index("<h4>losses</h4>")
    assert [f"step {step}</figcaption>" in gan for step in (9, 30)] == [True, True]  # over time, as it is the only run


def test_a_link_leads_to_each_runs_folder_from_wherever_the_page_lies(tmp_path: Path) -> None:
    run = write_run(tmp_path / "logs" / "svm" / "a b#1")
    page = tmp_path / "pages" / "mine" / "page.html"
    write_page(compared(tmp_path / "logs"), page)
    (link,) = Page(page.read_text()).having("a", **{"class": "folder"})
    assert (page.parent / unquote(link["href"] or "")).resolve() == run.resolve()
    assert "javascript:" not in (link["href"] or "")


def test_any_two_runs_have_the_settings_in_which_they_differ(tmp_path: Path) -> None:
    write_topics(tmp_path / "logs")
    write_run(tmp_path / "logs" / "svm" / "adam", [0.1], optimizer="torch.optim.Adam")
    groups = payload(compared(tmp_path / "logs"))["groups"]
    by_id = {run["id"]: {**run["settings"], **run["others"]} for group in groups for run in group["runs"]}
    assert by_id["adam"]["optimizer.betas"] == "[0.9, 0.999]" and by_id["g0"]["optimizer.momentum"] == 0.9
    assert by_id["g0"]["data"] == "MNIST" and by_id["adam"]["data"] == "Digits"
    assert not any("root_dir" in key or "dirpath" in key for settings in by_id.values() for key in settings)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that shows the page of three topics, averaged over the seeds of each learning rate."""
    folder = tmp_path_factory.mktemp("topics")
    write_page(compared(write_topics(folder / "logs")), folder / "page.html", group_by="lr")
    with open_browser() as running:
        running.open(folder / "page.html")
        yield running
        assert running.errors == []
        assert {url.split(":")[0] for url in running.requests} <= {"file", "data", "blob"}


_SVM = "views[2]"


def choose(browser: Browser, selector: str, value: str, view: str = _SVM) -> None:
    """Sets a control of a group and tells the page."""
    control = f"{view}.find({json.dumps(selector)})"
    assert browser.run(
        f"{control}.type === 'checkbox' ? ({control}.checked = {value}, 1) : ({control}.value = '{value}', 1)"
    )
    for event in ("input", "change"):
        browser.run(f"{control}.dispatchEvent(new Event('{event}'))")


def cells(browser: Browser, selector: str) -> list[list[str]]:
    script = "(rows) => [...rows].map((row) => [...row.cells].map((cell) => cell.textContent))"
    return list(browser.run(f"({script})({selector})"))


@pytest.mark.slow
def test_nothing_is_wider_than_a_window_of_1400_pixels(browser: Browser) -> None:
    assert browser.run("innerWidth") == 1400
    assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.run(
        "[...document.querySelectorAll('.scroll')].every((area) => area.scrollWidth <= area.clientWidth)"
    )
    right = "[...document.querySelectorAll('.picture, .card')].map((each) => each.getBoundingClientRect().right)"
    assert max(browser.run(right)) <= 1400


@pytest.mark.slow
def test_averages_are_those_of_the_terminal(browser: Browser) -> None:
    choose(browser, ".group-by", '["optimizer.lr"]')
    rows = cells(browser, f"{_SVM}.article.querySelectorAll('.averages tbody tr')")
    assert rows == [
        ["", "0.2", "3", "0.8833 ± 0.0764", "0.8000", "0.9500"],
        ["", "0.1", "3", "0.6000 ± 0.1000", "0.5000", "0.7000"],
    ]
    browser.scroll_to("#group-3 .curves")
    browser.until(f"{_SVM}.panels[0].area.data?.length === 4")  # a band and a line each
    best = browser.run(f"{_SVM}.panels[0].area.data.at(-1)")
    assert best["y"] == pytest.approx([0.1, 0.8833 / 2, 0.8833], abs=1e-4) and best["x"] == [9, 19, 29]
    band = browser.run(f"{_SVM}.panels[0].area.data.at(-2).y")
    assert band[2] - band[3] == pytest.approx(2 * np.std([0.9, 0.8, 0.95], ddof=1), abs=1e-4)
    legend = f"[...{_SVM}.article.querySelectorAll('ul.legend b')].map((each) => each.textContent)"
    assert browser.run(legend) == ["lr 0.2", "lr 0.1"]
    browser.run(f"setChecked({_SVM}.rows[0], false); {_SVM}.changed()")
    assert cells(browser, f"{_SVM}.article.querySelectorAll('.averages tbody tr')")[0][2:4] == ["2", "0.8500 ± 0.0707"]
    browser.run(f"setChecked({_SVM}.rows[0], true); {_SVM}.changed()")
    choose(browser, ".group-by", "null")
    assert browser.run(f"{_SVM}.find('.averages').hidden") is True
    assert len(browser.run(legend)) == 6


@pytest.mark.slow
def test_smoothing_is_the_moving_average_that_makes_up_for_its_start(browser: Browser) -> None:
    choose(browser, ".group-by", "null")
    browser.scroll_to("#group-3 .curves")
    choose(browser, ".smoothing", "0.6")
    browser.until(f"{_SVM}.panels[0].area.data?.length === 12")  # the raw values behind
    y = np.array([0.1, 0.475, 0.95])
    weights = [np.array([0.6**k for k in range(n, -1, -1)]) for n in range(3)]
    wanted = [float(w @ y[: len(w)] / w.sum()) for w in weights]
    assert browser.run(f"{_SVM}.panels[0].area.data.at(-1).y") == pytest.approx(wanted)
    choose(browser, ".smoothing", "0")
    browser.until(f"{_SVM}.panels[0].area.data?.length === 6")


@pytest.mark.slow
def test_axes_can_be_logarithmic_and_all_metrics_shown(browser: Browser) -> None:
    browser.scroll_to("#group-3 .curves")
    layout = f"{_SVM}.panels[0].area.layout"
    for axis in ("x", "y"):
        choose(browser, f".log-{axis}", "true")
        browser.until(f"{layout}?.{axis}axis.type === 'log'")
        choose(browser, f".log-{axis}", "false")
        browser.until(f"{layout}?.{axis}axis.type === 'linear'")
    names = "views[{}].panels.map(({{ select }}) => select.value)"
    assert browser.run(names.format(0)) == ["val/fid", "train/loss"]
    assert browser.run(f"{_SVM}.find('.every-metric').closest('label').hidden") is True  # both are shown


@pytest.mark.slow
def test_metrics_with_one_value_a_run_are_rows_of_points(browser: Browser) -> None:
    browser.scroll_to("#group-2 .curves")
    browser.until("views[1].panels[0].area.data?.length === 2")
    points = browser.run("views[1].panels[0].area.data.map(({ x, y, text }) => [x[0], y[0], text[0]])")
    assert points == [[0.4, "k0", "0.4000"], [0.5, "k1", "0.5000"]]  # the best on top


@pytest.mark.slow
def test_two_runs_of_different_topics_are_compared(browser: Browser) -> None:
    options = "[...document.querySelector('#differences .one').options].map((each) => each.text)"
    assert browser.run(options)[:3] == ["g0", "k1", "k0"]
    browser.scroll_to("#differences")
    browser.run("differences.restore([['gan on MNIST', 'g0'], ['svm on Digits', 's0.2-2']])")
    rows = {row[0]: row[1:] for row in cells(browser, "document.querySelectorAll('.differences tr')")}
    assert rows[""] == ["g0 (gan on MNIST)", "s0.2-2 (svm on Digits)"]
    assert rows["best"] == ["10.0000  (val/fid)", "0.9500  (val/accuracy)"]
    assert rows["data"] == ["MNIST", "Digits"] and rows["optimizer.lr"] == ["0.1", "0.2"]
    assert "model" not in rows  # the same
    browser.run(f"{_SVM}.pin(0)")
    assert browser.run("document.querySelector('#differences .one').selectedOptions[0].text") == "g0"  # it is the other
    browser.run(f"{_SVM}.pin(1)")
    assert browser.run("document.querySelector('#differences .one').selectedOptions[0].text") == "s0.2-0"
    browser.run(f"{_SVM}.pin(1)")
