"""`data verify`, `data preview` and `fit` for a folder or CSV file of the user's own images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.data import main
from tests.command_line import run_pipeline
from tests.drawn_photos import draw_photos


def failing(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    """Returns stderr of a command line that ends with this status, without a traceback."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_verify_counts_images_by_class_and_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_photos(tmp_path / "train", 5, ["cat", "dog"])
    draw_photos(tmp_path / "test", 2, ["cat", "dog"])
    (tmp_path / "train" / "cat" / "list.txt").touch()
    main(["verify", str(tmp_path)])
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path),
        "  train  9 images",
        "  val    1 image",
        "  test   4 images",
        "  class cat  4 train, 1 val, 2 test",
        "  class dog  5 train, 0 val, 2 test",
        "  left out  .txt: 1",
        "  files  all can be read",
    ]


def test_verify_names_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_photos(tmp_path, 5, ["cat", "dog"])
    (tmp_path / "dog" / "0002.jpg").write_bytes(b"no image")
    error = failing(capsys, 1, "verify", str(tmp_path))
    assert error == f"error: 1 image can't be read, {tmp_path}/dog/0002.jpg; repair or delete them.\n"


def test_preview_draws_a_folder_and_a_csv_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_photos(tmp_path, 12, ["cat", "dog"])
    rows = [f"{name}/{i:04}.jpg,{name}" for name in ("cat", "dog") for i in (0, 1, 2, 4, 5)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    main(["preview", str(tmp_path), "--n", "10", "--size", "48", "--flip", "--out", str(tmp_path / "a.png")])
    capsys.readouterr()
    main(["preview", str(tmp_path / "labels.csv"), "--out", str(tmp_path / "b.png")])
    assert capsys.readouterr().out == f"{tmp_path}/labels.csv: 9 images in {tmp_path}/b.png\n"  # all but the test image
    before_and_after, only_before = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    assert before_and_after.std() > 10 and only_before.std() > 10
    assert before_and_after.shape[0] > 1.5 * only_before.shape[0]


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_photos(tmp_path / "photos", 2, ["cat"])
    assert "has one class, cat" in failing(capsys, 1, "verify", str(tmp_path / "photos"))
    assert "or a folder or CSV file of your own images" in failing(capsys, 2, "verify", str(tmp_path / "nowhere"))
    assert "nothing to download" in failing(capsys, 2, "download", str(tmp_path / "photos"))
    assert "--size is for your own images" in failing(capsys, 2, "preview", "shapes", "--size", "8")


def test_fit_says_what_it_trains_on_and_refuses_what_it_cannot(tmp_path: Path) -> None:
    draw_photos(tmp_path / "photos", 12, ["cat", "dog"])
    fit = ["fit", "--config", "softmax", "--data", "ImageFolder", "--data.size", "16", "--trainer.max_epochs", "1"]
    done = run_pipeline("train", [*fit, "--data.folder", "photos"], tmp_path)
    assert done.code == 0, done.err
    assert "images: 20 train, 2 val, 2 test, in photos\n" in done.out
    assert "2 classes: cat 10, dog 10 training images\n" in done.out
    refused = run_pipeline("train", [*fit, "--data.folder", "photos/cat"], tmp_path)
    assert refused.code == 2
    assert refused.err.startswith("error: photos/cat holds 12 images and no folders; put the images of each class in")
    assert refused.err.count("\n") == 1
