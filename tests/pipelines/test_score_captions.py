"""`python -m pipelines.score_captions` gives the scores of pycocoevalcap for the same captions."""

import json
from pathlib import Path
from typing import Any

import pytest
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider

from datamodules.captions.coco_files import CocoImage
from pipelines.score_captions import Row, find_images, score
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
        ([{"image_id": 3.5, "caption": "a cat"}], "has image_id 3.5 with caption 'a cat'; it must be a list"),
        ([{"image_id": 3, "caption": None}], "has image_id 3 with caption None; it must be a list"),
        ([{"image_id": 3, "caption": "a"}, {"image_id": "3", "caption": "b"}], "has 2 captions of 1 image; there must"),
        ([*rows(CAPTIONS), *rows(CAPTIONS)], "has 6 captions of 3 images; there must be one caption per image"),
        ([], "has 0 captions of 0 images; there must be one caption per image"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, results: Any, says: str) -> None:
    finished = run_pipeline("score_captions", write(tmp_path, results), tmp_path)
    assert finished.code == 2
    assert says in finished.err and finished.err.count("\n") == 1


def test_ids_may_be_text_and_files_have_byte_order_marks(tmp_path: Path) -> None:
    expected = score(*(tmp_path / file for file in write(tmp_path, rows(CAPTIONS))))
    results, annotations = tmp_path / "results.json", tmp_path / "references.json"
    content = json.loads(annotations.read_text())
    results.write_text(json.dumps([{**row, "image_id": f"img_{row['image_id']}"} for row in rows(CAPTIONS)]), "utf-16")
    content["images"] = [{**image, "id": f"img_{image['id']}"} for image in content["images"]]
    content["annotations"] = [{**entry, "image_id": f"img_{entry['image_id']}"} for entry in content["annotations"]]
    annotations.write_text(json.dumps(content), "utf-8-sig")
    assert score(results, annotations) == expected
    del content["images"]  # captions alone
    annotations.write_text(json.dumps(content))
    assert score(results, annotations) == expected
    write(tmp_path, [{**row, "image_id": str(row["image_id"])} for row in rows(CAPTIONS)])
    assert score(results, annotations) == expected


def test_images_whose_ids_are_indices_are_found_by_their_names(tmp_path: Path) -> None:
    """As `pipelines.caption` writes them for names without numbers, or with the same number in two folders."""
    references: dict[int | str, CocoImage] = {
        number: CocoImage(name, ["a"]) for number, name in enumerate(["b/7.jpg", "a/7.jpg", "c/one.jpg"])
    }
    given = [Row(0, "x", "a/7.jpg"), Row(1, "x", "b/7.jpg"), Row(2, "x", "one.jpg"), Row("?", "x", "two.jpg")]
    assert find_images(given, references) == [1, 0, 2, None]
    assert find_images([Row(2, "x", "7.jpg")], references) == [None]  # either of two
    coco2014: dict[int | str, CocoImage] = {9: CocoImage("COCO_val2014_000000000009.jpg", ["a"])}
    assert find_images([Row(9, "x", "000000000009.jpg")], coco2014) == [9]
    assert find_images([Row(9, "x", "")], coco2014) == [9]


@pytest.mark.parametrize("numbers", [[3], [3, 33]])
def test_cider_is_undefined_where_no_word_is_rare(tmp_path: Path, numbers: list[int]) -> None:
    write(tmp_path, rows(dict.fromkeys(numbers, "a cat")))
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in numbers]
    texts = [{"image_id": number, "caption": text} for number in numbers for text in REFERENCES[3]]
    (tmp_path / "references.json").write_text(json.dumps({"images": images, "annotations": texts}))
    finished = run_pipeline("score_captions", ["results.json", "references.json"], tmp_path)
    assert finished.code == 0 and "cider    undefined: it weighs words by how few images they" in finished.out
    assert "bleu1    0." in finished.out


def test_missing_files_are_named(tmp_path: Path) -> None:
    assert "There is no results file at a.json" in run_pipeline("score_captions", ["a.json", "b.json"], tmp_path).err
    results, _ = write(tmp_path, rows(CAPTIONS))
    finished = run_pipeline("score_captions", [results, "b.json"], tmp_path)
    assert finished.code == 2 and "b.json" in finished.err and finished.err.count("\n") == 1
