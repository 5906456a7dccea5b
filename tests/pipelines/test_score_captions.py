"""`python -m pipelines.score_captions` gives the scores of pycocoevalcap for the same captions."""

import json
from pathlib import Path
from typing import Any

import pytest
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider

from pipelines.score_captions import score
from tests.command_line import run_pipeline

CAPTIONS = {7: "a dog runs over the grass", 3: "a cat", 5: "two red cars on a wet road"}
REFERENCES = {
    3: ["a cat sleeps on a chair", "the cat on a chair"],
    5: ["two cars drive on a road", "red cars on a road"],
    7: ["a dog runs over grass", "a brown dog"],
    9: ["an image without a caption"],
}


def write(folder: Path, results: Any) -> list[str]:
    """A results file and an annotation file in COCO's formats."""
    (folder / "results.json").write_text(results if isinstance(results, str) else json.dumps(results))
    images = [{"id": number, "file_name": f"{number:012d}.jpg"} for number in REFERENCES]
    captions = [(number, text) for number, texts in REFERENCES.items() for text in texts]
    annotations = [{"id": i, "image_id": number, "caption": text} for i, (number, text) in enumerate(captions)]
    (folder / "references.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return ["results.json", "references.json"]


def rows(captions: dict[int, str]) -> list[dict[str, Any]]:
    return [{"image_id": number, "caption": text} for number, text in captions.items()]


def test_scores_equal_those_of_coco_caption(tmp_path: Path) -> None:
    files = write(tmp_path, rows(CAPTIONS))
    found = score(*(tmp_path / file for file in files))
    bleu = BleuScorer(n=4)
    for number, text in CAPTIONS.items():
        bleu += (text, REFERENCES[number])
    expected, _ = bleu.compute_score(option="closest", verbose=0)
    assert [found[f"bleu{n}"] for n in range(1, 5)] == pytest.approx(expected, abs=1e-6)
    cider, _ = Cider().compute_score({n: REFERENCES[n] for n in CAPTIONS}, {n: [text] for n, text in CAPTIONS.items()})
    assert found["cider"] == pytest.approx(cider, abs=1e-6)
    assert found["images"] == 3  # image 9 was not captioned
    finished = run_pipeline("score_captions", files, tmp_path)
    assert finished.code == 0 and f"cider    {cider:.4f}" in finished.out and finished.out.endswith("images   3\n")


@pytest.mark.parametrize(
    ("results", "says"),
    [
        (
            rows({1: "of no image"}),
            "results.json has captions of 1 of 1 image without references in references.json, such as image 1;",
        ),
        ('[{"image_id": 3,', "is not in COCO's results format"),
        ({"captions": []}, "is not in COCO's results format"),
        ([{"image_id": "3", "caption": "a cat"}], "has image_id '3' with caption 'a cat'; it must be a list"),
        ([*rows(CAPTIONS), *rows(CAPTIONS)], "has 6 captions of 3 images; there must be one caption per image"),
        ([], "has 0 captions of 0 images; there must be one caption per image"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, results: Any, says: str) -> None:
    finished = run_pipeline("score_captions", write(tmp_path, results), tmp_path)
    assert finished.code == 2
    assert says in finished.err and finished.err.count("\n") == 1


def test_missing_files_are_named(tmp_path: Path) -> None:
    assert "There is no results file at a.json" in run_pipeline("score_captions", ["a.json", "b.json"], tmp_path).err
    results, _ = write(tmp_path, rows(CAPTIONS))
    finished = run_pipeline("score_captions", [results, "b.json"], tmp_path)
    assert finished.code == 2 and "b.json" in finished.err and finished.err.count("\n") == 1
