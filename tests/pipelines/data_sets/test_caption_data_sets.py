"""Caption data sets on the command line: counts, decoding, and reports of unusable captions and images."""

from pathlib import Path

import pytest

from datamodules.captions import coco_download
from pipelines.data import main
from pipelines.data_sets.image_data_sets import state
from tests.datamodules.captions.coco_dataset import annotations, write_coco, write_json


def test_verify_counts_images_and_captions_and_what_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_coco(tmp_path)
    main(["verify", "coco", "--root", str(tmp_path)])
    assert capsys.readouterr().out.splitlines() == [
        "coco",
        "  train  12 images with 60 captions: not the official count of 118,287",
        "  test   5 images with 25 captions: not the official count of 5,000",
    ]
    (folder / "train2017" / "000000000001.jpg").write_bytes(b"")
    (folder / "val2017" / "000000000014.jpg").unlink()
    content = annotations(list(range(1, 13)), "train2017")
    content["annotations"][7]["caption"] = ""
    write_json(folder / "annotations" / "captions_train2017.json", content)
    with pytest.raises(SystemExit, match="1"):
        main(["verify", "COCOCaptions", "--root", str(tmp_path)])
    printed = capsys.readouterr()
    unreadable = folder / "train2017" / "000000000001.jpg"
    assert (
        printed.err == f"error: coco: 1 image can't be read, {unreadable}; repair or delete them, or get them again.\n"
    )
    assert printed.out.splitlines()[1:] == [
        "  train  12 images with 59 captions: not the official count of 118,287",
        "  test   4 images with 20 captions: not the official count of 5,000",
        "  left out  empty captions: 1",
        "  left out  images that can't be read: 1",
        "  left out  images whose file is missing: 1",
    ]


def test_verify_of_a_truncated_file_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_coco(tmp_path) / "annotations" / "captions_val2017.json"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(SystemExit, match="1"):
        main(["verify", "coco", "--root", str(tmp_path)])
    assert capsys.readouterr().err.startswith(f"error: {file} is not JSON, or is truncated")


def test_verify_of_drawn_captions(capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", "shape_captions"])
    assert capsys.readouterr().out.splitlines() == [
        "shape_captions",
        "  train  20,000 images with 40,000 captions: the official count",
        "  test   2,000 images with 4,000 captions: the official count",
    ]


def test_download_skips_complete_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coco(tmp_path)
    monkeypatch.setattr(coco_download, "fetch", None)  # would be called, and fail
    assert state("coco", tmp_path) == "complete"
    main(["download", "coco", "shape_captions", "--root", str(tmp_path)])
    said = capsys.readouterr().out
    assert said == f"coco: complete, in {tmp_path / 'coco'}.\nshape_captions: built in, nothing to download.\n"


def test_preview_refuses_data_sets_without_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["preview", "coco", "--root", str(tmp_path), "--out", str(tmp_path / "x.png")])
    assert "coco has captions; use one of cifar10, mnist" in capsys.readouterr().err
