"""COCO's annotation files: the content of complete ones, and the message for each kind of damage."""

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datamodules.captions.coco_files import BadSamples, read_captions, read_karpathy
from datamodules.files.data_files import DataFileError
from tests.datamodules.captions.coco_dataset import annotations, captions_of, write_coco, write_json, write_karpathy


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_coco(tmp_path, num_train=4, num_val=1) / "annotations" / "captions_train2017.json"


def read(file: Path, content: Any, policy: Any = "skip") -> tuple[dict[int | str, list[str]], Counter[str]]:
    write_json(file, content)
    bad = BadSamples(policy)
    return {number: image.captions for number, image in read_captions(file, bad).items()}, bad.skipped


def test_a_complete_file_gives_every_caption_of_every_image_in_order(file: Path) -> None:
    shuffled = annotations([1, 2, 3, 4], "train2017")
    shuffled["images"].reverse()
    shuffled["annotations"].sort(key=lambda entry: entry["caption"])
    found, skipped = read(file, shuffled, "stop")
    assert list(found) == [1, 2, 3, 4]
    assert found == {number: sorted(captions_of(number)) for number in range(1, 5)}
    assert not skipped


def test_line_breaks_within_a_caption_become_spaces(file: Path) -> None:
    content = annotations([1], "train2017")
    content["annotations"][0]["caption"] = " A dog\nstands  here. \n"
    assert read(file, content)[0][1][0] == "A dog stands here."


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
def test_a_truncated_file_is_named(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataFileError, match=rf"^{file} is not JSON, or is truncated \(.*\); correct it, or get the"):
        read_captions(file, BadSamples("skip"))


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"[" * 100_000, b"not json"])
def test_invalid_json_is_named(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(DataFileError, match="is not JSON, or is truncated"):
        read_captions(file, BadSamples("skip"))


def test_a_missing_file_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"none\.json does not exist; .* pipelines\.data download coco\."):
        read_captions(tmp_path / "none.json", BadSamples("skip"))
    with pytest.raises(DataFileError, match=r"does not exist; .* pipelines\.data download coco2014\."):
        read_captions(tmp_path / "captions_train2014.json", BadSamples("skip"))


def without(content: dict[str, Any], where: str, key: str, value: Any = None) -> dict[str, Any]:
    changed = copy.deepcopy(content)
    entry = changed if where == "" else changed[where][1]
    if value is None:
        del entry[key]
    else:
        entry[key] = value
    return changed


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        ("", "images", None, "has no list of 'images', so it is not a file of COCO captions"),
        ("", "annotations", {}, "has no list of 'annotations'"),
        ("images", "id", None, r"images\[1\] has no 'id' that is an integer or text"),
        ("images", "id", [1], r"images\[1\] has no 'id' that is an integer or text"),
        ("images", "id", 1.5, r"images\[1\] has no 'id' that is an integer or text"),
        ("images", "id", True, r"images\[1\] has no 'id' that is an integer or text"),
        ("images", "id", 1, "has two images with the id 1; give each"),
        ("images", "id", "1", "has two images with the id 1; give each"),
        ("images", "file_name", 7, r"images\[1\] has no 'file_name' of type str"),
        ("images", "file_name", "../../etc/passwd", "names '../../etc/passwd', which leads out of the folder"),
        ("images", "file_name", "..", "which leads out of the folder"),
        ("images", "file_name", "", "which leads out of the folder"),
        ("images", "file_name", "a/../../b.jpg", "which leads out of the folder"),
        ("images", "file_name", "/etc/passwd", "which leads out of the folder"),
        ("images", "file_name", "..\\up.jpg", "which leads out of the folder"),
        ("images", "file_name", "C:\\up.jpg", "which leads out of the folder"),
        ("annotations", "image_id", None, r"annotations\[1\] has no 'image_id'"),
        ("annotations", "caption", ["a"], r"annotations\[1\] has no 'caption' of type str"),
    ],
)
def test_a_file_of_another_structure_is_refused_under_either_policy(
    file: Path, where: str, key: str, value: Any, message: str
) -> None:
    content = without(annotations([1, 2, 3], "train2017"), where, key, value)
    with pytest.raises(DataFileError, match=message):
        read(file, content, "skip")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("lines", ["\n", "\r\n"])
def test_annotations_as_editors_save_them(file: Path, encoding: str, lines: str) -> None:
    content = annotations([1, 2], "train2017")
    content["annotations"][0]["caption"] = "Une fille à vélo\r\nprès d'un chien"
    text = json.dumps(content, ensure_ascii=False, indent=1).replace("\n", lines)
    file.write_bytes(text.encode(encoding))
    found = read_captions(file, BadSamples("stop"))
    assert list(found) == [1, 2] and found[1].captions[0] == "Une fille à vélo près d'un chien"


def test_annotations_that_are_not_unicode_say_so(file: Path) -> None:
    file.write_bytes('{"images": [], "annotations": ["vélo"]}'.encode("latin-1"))
    with pytest.raises(DataFileError, match=rf"^{file} is not UTF-8 text \(.*\); save it as UTF-8\.$"):
        read_captions(file, BadSamples("skip"))


def test_ids_may_be_text_and_names_have_folders(file: Path) -> None:
    content: dict[str, Any] = {
        "images": [
            {"id": "img_7", "file_name": "indoor/0001.jpg"},
            {"id": "12", "file_name": "outdoor\\0001.jpg"},
            {"id": 3, "file_name": "./été.jpg"},
            {"id": 4.0, "file_name": "last.jpg"},
        ],
        "annotations": [
            {"image_id": number, "id": i, "caption": f"caption {i}"}
            for i, number in enumerate(["img_7", 12, "3", 4, "img_7"])
        ],
    }
    write_json(file, content)
    found = read_captions(file, BadSamples("stop"))
    assert [(number, image.file_name, image.captions) for number, image in found.items()] == [
        (3, "été.jpg", ["caption 2"]),
        (4, "last.jpg", ["caption 3"]),
        ("12", "outdoor/0001.jpg", ["caption 1"]),
        ("img_7", "indoor/0001.jpg", ["caption 0", "caption 4"]),
    ]


def test_missing_captions_of_tables_are_empty_ones(file: Path) -> None:
    content = annotations([1, 2], "train2017")
    content["annotations"][0]["caption"] = None
    content["annotations"][1]["caption"] = float("nan")
    found, skipped = read(file, content)
    assert found[1] == captions_of(1)[2:] and skipped == {"empty captions": 2}


def test_captions_alone_serve_where_no_files_are_needed(file: Path) -> None:
    content = annotations([2, 1], "train2017")
    del content["images"]
    write_json(file, content)
    found = read_captions(file, BadSamples("stop"), need_files=False)
    assert {number: image.captions for number, image in found.items()} == {1: captions_of(1), 2: captions_of(2)}
    with pytest.raises(DataFileError, match="has no list of 'images'"):
        read_captions(file, BadSamples("stop"))


def test_the_instances_file_is_refused(file: Path) -> None:
    boxes = {"images": [], "annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]}
    with pytest.raises(DataFileError, match=r"annotations\[0\] has no 'caption'"):
        read(file, boxes)
    with pytest.raises(DataFileError, match="has no list of 'images'"):
        read(file, [1, 2])


def test_bad_samples_are_skipped_and_counted_or_stop(file: Path) -> None:
    content = annotations([1, 2, 3], "train2017")
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 2]
    content["annotations"][0]["caption"] = " . "
    content["annotations"][1]["caption"] = ""
    content["annotations"][2]["image_id"] = 99
    found, skipped = read(file, content)
    assert found == {1: captions_of(1)[3:], 3: captions_of(3)}
    assert skipped == {
        "empty captions": 2,
        "captions of images that their file does not list": 1,
        "images without a caption": 1,
    }
    with pytest.raises(DataFileError, match=r"without a word in it: ' \. '; repair the data, or set bad to skip"):
        read(file, content, "stop")
    del content["annotations"][:2]
    with pytest.raises(DataFileError, match="has no image with the id 99; repair"):
        read(file, content, "stop")
    del content["annotations"][0]
    with pytest.raises(DataFileError, match=r"has no caption of 000000000002\.jpg; repair"):
        read(file, content, "stop")


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bad is ignore; it must be skip \(and count\) or stop"):
        BadSamples("ignore")  # type: ignore[arg-type]


def test_karpathys_file(tmp_path: Path) -> None:
    write_karpathy(tmp_path, {3: "val", 1: "train", 14: "restval", 2: "test"})
    found = read_karpathy(tmp_path / "dataset_coco.json", BadSamples("stop"))
    assert list(found) == [1, 2, 3, 14]
    assert {number: image.split for number, image in found.items()} == {1: "train", 2: "test", 3: "val", 14: "restval"}
    assert found[14].folder == "val2014"
    assert found[14].file_name == "COCO_val2014_000000000014.jpg"
    assert found[3].captions == [" ".join(text.split()) for text in captions_of(3)]


def test_karpathys_file_with_an_image_in_two_splits_or_another_split_is_refused(tmp_path: Path) -> None:
    write_karpathy(tmp_path, {1: "train", 2: "test"})
    file = tmp_path / "dataset_coco.json"
    content = json.loads(file.read_text())
    content["images"].append({**content["images"][0], "split": "test"})
    write_json(file, content)
    with pytest.raises(DataFileError, match="has the image 1 twice, perhaps in two splits"):
        read_karpathy(file, BadSamples("skip"))
    write_karpathy(tmp_path, {1: "training"})
    with pytest.raises(DataFileError, match=r"images\[0\] is in the split 'training'"):
        read_karpathy(file, BadSamples("skip"))
