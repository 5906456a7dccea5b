"""results.yaml: its rows are complete, their commands are understood, and RESULTS.md and README.md have its figures."""

import re
from pathlib import Path

import pytest

from docs.render_results import FILES, PROJECT, render
from pipelines.reproduction.rows import read_results
from pipelines.train import resolve

ROW = """
data: {{CIFAR10: abc}}
machines: {{here: a machine}}
rows:
  svm:
    label: svm
    data: CIFAR10
    run: [fit --config svm]
    seeds: [0, 1]
    figures: {{test/accuracy: [0.5, 0.25], test/cider: [1.5, 2.5]}}
    tolerance: 0.1
    minutes: 2
    machine: here
    {more}
"""


@pytest.mark.parametrize("name", FILES)
def test_the_pages_have_the_figures_of_the_file(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert render(text, read_results()) == text, "run `make results`"


def test_all_rows_but_those_of_studies_are_on_a_page() -> None:
    text = "".join((PROJECT / name).read_text() for name in FILES)
    tables = re.findall(r"<!-- results (.+?) -->", text)
    shown = set(" ".join(tables).split()) | set(re.findall(r"<!-- (\w+) -->", text))
    assert shown == set(read_results().rows)


def test_every_fit_of_a_row_is_understood() -> None:
    for row in read_results().rows.values():
        assert row.run[-1] == ["test", "--ckpt_path", "RUN"]
        for words in row.run[:-1]:
            _, topic = resolve([*words, "--seed_everything", "0"])
            assert topic == words[2]


def test_a_table_and_a_figure_are_written(tmp_path: Path) -> None:
    file = tmp_path / "results.yaml"
    file.write_text(ROW.format(more="note: of a few"))
    text = "a\n<!-- results svm -->\nold\n<!-- end of results -->\nb <!-- svm -->9 %<!-- --> c"
    assert render(text, read_results(file)) == (
        "a\n<!-- results svm -->\n"
        "| topic | test accuracy | test CIDEr-D | command of each seed | time | row |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| svm | **37.50 %** (50.00, 25.00), of a few | 2 (1.5, 2.5) | `python -m pipelines.train fit --config svm` | "
        "2 min on a machine | `svm` |\n"
        "<!-- end of results -->\nb <!-- svm -->37.5 %<!-- --> c"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("    minutes: 2\n", ""), "lacks or may not have minutes; its keys are data, figures, label, machine,"),
        (("minutes: 2", "minutes: 2\n    hours: 1"), "lacks or may not have hours; its keys are"),
        (("seeds: [0, 1]", "seeds: [0]"), "has 1 seeds; give one or more figures, each as often."),
        (("machine: here", "machine: there"), "ran on there, which is none of its machines."),
        (("data: CIFAR10", "data: MNIST"), "has the data MNIST, of which there is no checksum."),
    ],
)
def test_mistakes_in_a_row(change: tuple[str, str], sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "results.yaml"
    file.write_text(ROW.format(more="needs: []").replace(*change))
    with pytest.raises(ValueError, match=re.escape(f"The row svm of {file} {sentence}")):
        read_results(file)
