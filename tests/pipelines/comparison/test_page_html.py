"""The HTML of the comparison's page."""

import html
import json
import math
import re
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from pipelines.comparison.page.data import payload
from pipelines.comparison.page.write import render, write_page
from pipelines.comparison.ranking import Comparison
from tests.pipelines.comparison.pages import EVIL, Page, write_page_of_200
from tests.pipelines.comparison.run_folders import compared, write_run


@pytest.fixture(scope="module")
def sweep_of_200(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page_of_200(tmp_path_factory.mktemp("large"))


@pytest.fixture
def small(tmp_path: Path) -> Comparison:
    for i, value in enumerate([0.7, 0.9, 0.8]):
        write_run(tmp_path / "softmax" / f"r{i}", [0.1, value], lr=10.0**-i)
    return compared(tmp_path / "softmax")


def test_the_page_is_self_contained(small: Comparison) -> None:
    page = Page(render(small))
    loaded = [value or "" for name, found in page.elements for key, value in found.items()
              if key in ("src", "href") and name != "a"]  # fmt: skip
    assert all(address.startswith("data:") for address in loaded)
    assert not page.having("script", type="module") and len(page.having("script")) == 3
    (policy,) = (found["content"] or "" for found in page.having("meta") if "http-equiv" in found)
    assert policy.startswith("default-src 'none'") and "http" not in policy
    ours = render(small).replace(get_plotlyjs(), "")
    assert set(re.findall(r"https?://[^\s\"'<]+", ours)) == {"http://www.w3.org/2000/svg"}  # a name, never fetched


def test_the_payload_is_what_was_read(small: Comparison) -> None:
    (data,) = payload(small)["groups"]
    assert (data["metric"], data["maximize"], data["metrics"]) == ("val/accuracy", True, ["val/accuracy", "train/loss"])
    assert data["settings"] == [{"key": "optimizer.lr", "name": "lr", "seed": False}]
    assert [run["id"] for run in data["runs"]] == ["r1", "r2", "r0"]
    assert data["runs"][0]["settings"] == {"optimizer.lr": 0.1}
    assert data["runs"][0]["curves"]["val/accuracy"] == {"step": [9, 19], "epoch": [0.0, 1.0], "value": [0.1, 0.9]}


def test_long_curves_are_thinned_and_values_that_are_not_finite_become_gaps(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [*(math.sin(i) for i in range(3000)), "nan", "inf"])
    curve = payload(compared(tmp_path))["groups"][0]["runs"][0]["curves"]["val/accuracy"]
    assert 400 < len(curve["step"]) <= 500 and curve["step"][-1] == 30019 and curve["value"][-1] is None
    assert json.dumps(curve, allow_nan=False)


def test_the_table_is_complete_without_scripts(tmp_path: Path) -> None:
    write_run(tmp_path / "softmax" / "good", [0.5])
    write_run(tmp_path / "svm" / "bad", [], "failed", "ValueError: <b> & 'c'")
    page = render(compared(tmp_path))
    assert "<h2>svm <span>on Digits</span></h2>" in page
    assert "ValueError: &lt;b&gt; &amp; &#x27;c&#x27;; metrics.csv has no values yet" in page
    assert '<li class="state failed"><b>1</b> failed</li>' in page
    heads = [found["data-short"] for found in Page(page).having("th") if "data-short" in found]
    assert heads == 2 * ["run", "state", "best val/accuracy", "at step", "last", "took"]


def test_markup_in_settings_stays_text(tmp_path: Path) -> None:
    write_run(tmp_path / "logs" / "soft<i>max" / "a", [0.5], "failed", EVIL, optimizer=f"torch.optim.{EVIL}")
    write_run(tmp_path / "logs" / "soft<i>max" / "b", [0.4], lr=0.3)
    write_run(tmp_path / "logs" / "soft<i>max" / "c<b>\u2028", [0.3], monitor="<u>")
    comparison = compared(tmp_path / "logs")
    assert len(Page(render(comparison)).having("script")) == 3
    assert EVIL not in render(comparison)
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', render(comparison))
    assert json.loads(data)["groups"][0]["runs"][0]["settings"]["optimizer"] in EVIL and "\u2028" not in data
    assert html.escape(EVIL) in render(comparison)


def test_only_the_best_runs_show_their_pictures(sweep_of_200: Path) -> None:
    text = sweep_of_200.read_text()
    images = Page(text).having("img", loading="lazy", decoding="async")
    assert len(images) == 12 * 2 - 1
    assert all(
        (image["src"] or "").startswith("data:image/webp;base64,") and image["width"] == "560" for image in images
    )
    assert "the 12 best of 20 runs with pictures shown" in text
    assert text.count("The file can’t be read.") == 1
    assert "at step 30" in (images[0]["alt"] or "")
    assert sweep_of_200.stat().st_size < 8e6  # of which Plotly is 4.8


def test_nothing_is_left_behind_where_nothing_can_be_written(small: Comparison, tmp_path: Path) -> None:
    (tmp_path / "out.html").mkdir()
    with pytest.raises(IsADirectoryError):
        write_page(small, tmp_path / "out.html")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.html", "softmax"]
