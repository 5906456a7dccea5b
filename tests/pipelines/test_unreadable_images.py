"""Unreadable files, results that would replace what is read, and odd names, in every command that takes images."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from datamodules import Digits
from pipelines import caption, export, interpret
from tests.command_line import PROJECT, Finished, run_pipeline
from tests.helpers import only_run
from tests.pipelines.test_caption import FIT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs, a classifier of digits and a captioner, and of photos, of which two can't be read."""
    folder = tmp_path_factory.mktemp("commands")
    fit = ["fit", "--config", "convnet", "--data", "Digits", "--data.flip", "false", "--data.crop_padding", "0"]
    small = ["--model.channels", "[4,4]", "--trainer.max_epochs", "1", "--trainer.callbacks", "null"]
    for arguments in ([*fit, *small, "--trainer.precision", "32"], FIT):
        finished = run_pipeline("train", arguments, folder)
        assert finished.code == 0, finished.err
    images, _ = Digits().read(train=False)
    (folder / "photos").mkdir()
    for i in range(6):
        Image.fromarray(images[i, 0]).resize((16, 16)).save(folder / "photos" / f"{i}.png")
    shutil.copy(folder / "photos" / "0.png", folder / "photos" / os.fsdecode(b"caf\xe9.png"))
    shutil.copy(folder / "photos" / "0.png", folder / "photos" / "=1+1.png")
    (folder / "photos" / "3.png").write_bytes(b"")
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (folder / "photos" / "IMG_1.HEIC").touch()
    (folder / "photos" / "._0.png").write_bytes(b"\0\5\x16\7")
    return folder


def names_of_all(finished: Finished) -> None:
    """Checks what standard error says of the files that were left out, and the exit status."""
    assert finished.code == 1, finished.err
    lines = finished.err.splitlines()
    assert lines[0] == (
        "left out of the folders: 1 .heic, 1 hidden file; HEIC is read after pip install pillow-heif, or convert it "
        "to JPEG"
    )
    assert lines[1] == "2 of 9 images can't be read and were left out:"
    assert lines[2].startswith("  photos/3.png can't be read as an image (it is empty)")
    assert lines[3].startswith("  photos/broken.jpg can't be read as an image (")
    assert len(lines) == 4


NAMES = ["0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "=1+1.png", "broken.jpg", "caf\udce9.png"]


@pytest.mark.parametrize("topic", ["convnet", "caption_lstm"])
def test_two_processes_write_one_file_with_all_images(folder: Path, topic: str) -> None:
    arguments = ["predict", "--ckpt_path", str(only_run(folder, topic)), "--images", "photos", "--data.batch_size", "2"]
    names_of_all(run_pipeline("train", [*arguments, "--out", f"{topic}-one.csv"], folder))
    devices = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, "-m", "pipelines.train", *arguments, "--out", f"{topic}-two.csv", *devices]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}  # Lightning starts rank 1 from it
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert "7 images predicted: " in done.stdout, done.stderr
    names_of_all(Finished(done.returncode, done.stdout, done.stderr))
    one, two = (
        [line.split(b",")[:2] for line in (folder / f"{topic}-{processes}.csv").read_bytes().splitlines()]
        for processes in ("one", "two")
    )
    assert one == two
    assert not list(folder.glob("*.rank1.csv"))


@pytest.mark.parametrize("topic", ["convnet", "caption_lstm"])
def test_predict_has_a_row_for_each_image(folder: Path, topic: str) -> None:
    run = only_run(folder, topic)
    arguments = ["predict", "--ckpt_path", str(run), "--images", "photos", "--out", f"{topic}.csv"]
    finished = run_pipeline("train", [*arguments, "--data.batch_size", "2"], folder)
    names_of_all(finished)
    assert "7 images predicted: " in finished.out
    with (folder / f"{topic}.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.reader(file))
    assert [Path(row[0]).name for row in rows[1:]] == NAMES
    assert all(len(row) == len(rows[0]) for row in rows)
    empty = [Path(row[0]).name for row in rows[1:] if not any(row[1:])]
    assert empty == ["3.png", "broken.jpg"]
    assert rows[1][1:] == rows[9][1:]  # café.png is a copy of 0.png


@pytest.mark.parametrize(
    ("topic", "predicted"),
    [("convnet", r"photos/1\.png  \d, probability [01]\.\d{4}"), ("caption_lstm", r"photos/1\.png  [a-z ]*")],
)
def test_what_a_single_image_shows_is_printed(folder: Path, topic: str, predicted: str) -> None:
    arguments = ["predict", "--ckpt_path", str(only_run(folder, topic)), "--images", "photos/1.png", "--out", "1.csv"]
    lines = run_pipeline("train", arguments, folder).out.splitlines()
    assert re.fullmatch(predicted, lines[-2]) and lines[-1] == "1 image predicted: 1.csv", lines


def test_a_name_that_a_spreadsheet_would_evaluate(folder: Path) -> None:
    (folder / "=1+1.png").write_bytes((folder / "photos" / "0.png").read_bytes())
    arguments = ["predict", "--ckpt_path", str(only_run(folder, "convnet")), "--images", "=1+1.png", "--out", "f.csv"]
    assert run_pipeline("train", arguments, folder).code == 0
    assert (folder / "f.csv").read_text().splitlines()[1].startswith("./=1+1.png,")


def test_dark_ink_on_light_paper_is_noticed_and_can_be_inverted(folder: Path) -> None:
    """Of digits drawn light on dark, the negatives."""
    (folder / "ink").mkdir()
    for i in range(3):
        with Image.open(folder / "photos" / f"{i}.png") as image:
            ImageOps.invert(image).save(folder / "ink" / f"{i}.png")
    run = str(only_run(folder, "convnet"))
    rows = {}
    for name, options in {"as they are": ["ink"], "inverted": ["ink", "--invert"], "negatives": ["light"]}.items():
        if name == "negatives":
            (folder / "light").mkdir()
            for i in range(3):
                shutil.copy(folder / "photos" / f"{i}.png", folder / "light")
        finished = run_pipeline("train", ["predict", "--ckpt_path", run, "--images", *options], folder)
        assert finished.code == 0, finished.err
        noticed = "the images are light (mean 0." in finished.err and "--invert inverts the images" in finished.err
        assert noticed == (name == "as they are")
        rows[name] = [row[1:] for row in csv.reader((folder / "predictions.csv").open())]
    assert rows["inverted"] == rows["negatives"] != rows["as they are"]
    for options, noticed in (["ink"], True), (["ink", "--invert"], False):
        explained = run_pipeline("interpret", ["saliency", "--ckpt", run, "--images", *options, "--out", "o"], folder)
        assert explained.code == 0 and ("the images are light" in explained.err) == noticed
    captioner = str(only_run(folder, "caption_lstm"))
    refused = run_pipeline("train", ["predict", "--ckpt_path", captioner, "--images", "ink", "--invert"], folder)
    assert refused.code == 2 and refused.err.startswith("error: --invert is for classifiers; ShapeCaptions does not")


def test_caption_captions_the_others(folder: Path) -> None:
    arguments = [str(only_run(folder, "caption_lstm")), "photos", "--out", "c.json", "--show", "shown"]
    finished = run_pipeline("caption", arguments, folder)
    names_of_all(finished)
    assert "7 pictures in shown\n7 captions in c.json\n" in finished.out
    rows = json.loads((folder / "c.json").read_text(encoding="utf-8"))
    assert [row["file_name"] for row in rows] == [name for name in NAMES if name not in ("3.png", "broken.jpg")]
    assert [row["image_id"] for row in rows] == [0, 1, 2, 4, 5, 6, 8]  # indices among all files given
    assert len(list((folder / "shown").iterdir())) == 7
    consensus = run_pipeline("caption", [*arguments[:2], "--consensus", "2"], folder)
    names_of_all(consensus)
    assert consensus.out.count("photos/") == 7


@pytest.mark.parametrize("command", [["saliency"], ["fooling", "--class", "3", "--steps", "3"], ["features"]])
def test_interpret_explains_the_others(folder: Path, command: list[str]) -> None:
    arguments = [*command, "--ckpt", str(only_run(folder, "convnet")), "--images", "photos", "--out", command[0]]
    finished = run_pipeline("interpret", arguments, folder)
    names_of_all(finished)
    table = folder / command[0] / ("patches.csv" if command == ["features"] else "figures.csv")
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        shown = {Path(row["image"]).name for row in csv.DictReader(file)}
    assert shown <= set(NAMES) - {"3.png", "broken.jpg"} and "caf\udce9.png" in shown | {"caf\udce9.png"}
    if command == ["saliency"]:
        assert len(shown) == 7 and len(list((folder / "saliency").glob("*.png"))) == 7


def test_nothing_replaces_what_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    classifier, captioner = (str(only_run(folder, topic)) for topic in ("convnet", "caption_lstm"))
    (folder / "linked").symlink_to("photos")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    for main, arguments, says in [
        (caption.main, [captioner, "photos", "--out", "photos/1.png"], "photos/1.png is one of the files to read"),
        (caption.main, [captioner, "photos", "--out", f"{captioner}/config.yaml"], "config.yaml is one of the files"),
        (caption.main, [captioner, "photos", "--show", "linked"], "which results could overwrite; set --show to anot"),
        *(
            (interpret.main, [*command, "--ckpt", classifier, "--images", "photos", "--out", out], f"{out} holds ")
            for command in (["saliency"], ["fooling", "--class", "3"], ["features"])
            for out in ("photos", "linked")
        ),
        (
            export.main,
            [classifier, "--format", "safetensors", "--out", f"{classifier}/checkpoints/last.ckpt"],
            "last.ckpt is one of the files to read",
        ),
    ]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.startswith("error: ") and says in said and said.count("\n") == 1, said
    for out, says in [("linked/1.png", "linked/1.png is one of the files to read"), ("photos", "photos is a folder;")]:
        predict = ["predict", "--ckpt_path", classifier, "--images", "photos", "--out", out]
        finished = run_pipeline("train", predict, folder)
        assert finished.code == 2 and finished.err.startswith(f"error: {says}") and finished.err.count("\n") == 1
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    (folder / "linked").unlink()


def test_images_of_which_none_can_be_read_give_no_results(folder: Path) -> None:
    bad = ["photos/3.png", "photos/broken.jpg"]
    classifier, captioner = str(only_run(folder, "convnet")), str(only_run(folder, "caption_lstm"))
    for pipeline, arguments, out in [
        ("train", ["predict", "--ckpt_path", classifier, "--images", *bad, "--out", "none.csv"], "none.csv"),
        ("caption", [captioner, *bad, "--out", "none.json"], "none.json"),
        ("interpret", ["saliency", "--ckpt", classifier, "--images", *bad, "--out", "none"], "none/figures.csv"),
    ]:
        finished = run_pipeline(pipeline, arguments, folder)
        assert finished.code == 2, finished.err
        assert finished.err.startswith("error: None of the 2 images can be read: photos/3.png can't be read as an im")
        assert not (folder / out).exists()
