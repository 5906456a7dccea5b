"""Every command of docs/own_images.md, as a reader would run them, on a small folder of drawn photos."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from modules import TimmClassifier
from tests.command_line import PROJECT, Finished, start_pipeline
from tests.drawn_photos import CLASSES, draw_photos

PAGE = (PROJECT / "docs" / "own_images.md").read_text(encoding="utf-8")
SMALLER = {
    "tf_efficientnet_lite0": "test_resnet",
    "pretrained: hub": "pretrained: weights.pth",
    "size: 128": "size: 32",
    "crop_padding: 8": "crop_padding: 2",
    "max_epochs: 3": "max_epochs: 1",
}
SHORTER = {
    "fit --config convnet": ["--trainer.max_epochs", "1", "--data.size", "32"],
    "fit --config simclr": ["--trainer.max_epochs", "1", "--data.batch_size", "16"],
}


def commands() -> list[str]:
    """The commands in the page's code blocks, in order."""
    blocks = re.findall(r"^```(?:yaml)?\n(.*?)^```$", PAGE, re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.startswith("python -m pipelines.")]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, new photos, a file of pretrained weights, and the page's configuration made small."""
    folder = tmp_path_factory.mktemp("desk")
    draw_photos(folder / "photos", 20)
    new = draw_photos(folder / "drawn", 1, seed=1)
    (folder / "new_photos").mkdir()
    for kind in CLASSES:
        (new / kind / "0000.jpg").rename(folder / "new_photos" / f"{kind}.jpg")
    pretrained = TimmClassifier((3, 32, 32), 1000, "test_resnet", small_stem=False)
    torch.save(pretrained.network.state_dict(), folder / "weights.pth")
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
    for found, replaced in SMALLER.items():
        assert found in text
        text = text.replace(found, replaced)
    (folder / "photos.yaml").write_text(text, encoding="utf-8")
    return folder


def run(command: str, desk: Path) -> Finished:
    _, _, module, *words = shlex.split(command, comments=True)
    runs = sorted((desk / "logs" / "photos").glob("2*"))
    words = [word.replace("logs/photos/RUN", str(runs[0].relative_to(desk))) if runs else word for word in words]
    words = ["2" if before == "--folds" else word for before, word in zip(["", *words], words, strict=False)]
    added = next((more for begin, more in SHORTER.items() if " ".join(words).startswith(begin)), [])
    return start_pipeline(module.removeprefix("pipelines."), words + added, desk).finish(600)


@pytest.mark.slow
def test_the_page_from_a_folder_to_an_exported_file(desk: Path) -> None:
    listed = commands()
    names = [command.split()[2].removeprefix("pipelines.") for command in listed]
    assert names == [
        *("data", "data", "train", "check", "train", "train", "train", "interpret", "export", "crossval", "train"),
    ]
    for command in listed:
        if command.startswith("python -m pipelines.train predict"):
            (desk / "photos").rename(desk / "elsewhere")  # the trained network needs none of the photos
        if command.startswith("python -m pipelines.crossval"):
            (desk / "elsewhere").rename(desk / "photos")
        finished = run(command, desk)
        # a check may fail on so few images of a network with few weights; it must run to its end
        assert finished.code in ((0, 1) if "pipelines.check" in command else (0,)), (command, finished.err)
    trained = sorted((desk / "logs" / "photos").iterdir())[0]
    assert {path.name for path in (trained / "pictures").iterdir()} == {
        *("confusion", "mistakes", "mistakes_by_class", "saliency"),
    }
    with (desk / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).stem for row in rows] == sorted(CLASSES)
    assert all(row["class"] in CLASSES for row in rows)
    assert len(list((desk / "maps").glob("*.png"))) >= len(rows)
    check_exported(trained / "model.onnx", rows, desk)


def check_exported(file: Path, rows: list[dict[str, str]], desk: Path) -> None:
    """The graph gives the probabilities of `predict` for photos that Pillow crops and resizes."""
    import onnxruntime  # type: ignore[import-untyped, unused-ignore]  # optional

    session = onnxruntime.InferenceSession(str(file))
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
    assert names == list(CLASSES)
    for row in rows:
        image = Image.open(desk / row["image"]).convert("RGB")
        side = min(image.size)
        left, top = ((length - side) / 2 for length in image.size)
        small = image.resize((32, 32), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        (logits,) = session.run(None, {"images": np.asarray(small).transpose(2, 0, 1)[None]})
        probabilities = torch.tensor(logits).softmax(1)[0]
        assert float(row["probability"]) == pytest.approx(float(probabilities.max()), abs=1e-3)
        assert row["class"] == names[int(probabilities.argmax())]
