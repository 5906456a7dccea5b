"""`python -m pipelines.interpret`: its pictures and figures, and its error messages."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from lightning.pytorch.demos.boring_classes import BoringModel
from PIL import Image
from safetensors.torch import save_file

from datamodules import Digits
from datamodules.images.shape_drawing import draw_shapes
from modules.interpretation.feature_extraction import captured_outputs
from modules.interpretation.saliency import integrated_gradients, saliency
from pipelines import interpret
from pipelines.interpretation.class_names import find_class
from pipelines.interpretation.inspected_model import inspect_run, inspect_timm
from tests.command_line import run_pipeline

NETWORK = "mobilenetv3_small_050"


class NoClassifier(BoringModel):
    """Classifies nothing."""

    def __init__(self, input_shape: Any = None, num_classes: Any = None) -> None:
        super().__init__()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convnet on handwritten digits."""
    return train(tmp_path_factory.mktemp("run"), "convnet", "--model.channels", "[8,16]", "--data.crop_padding", "0")


def train(folder: Path, topic: str, *settings: str) -> Path:
    arguments = ["fit", "--config", topic, "--data", "Digits", "--data.flip", "false", "--data.batch_size", "64"]
    finished = run_pipeline(
        "train",
        [
            *arguments,
            "--trainer.max_epochs",
            "2",
            "--trainer.precision",
            "32",
            "--trainer.callbacks",
            "null",
            *settings,
        ],
        folder,
    )
    assert finished.code == 0, finished.err
    (path,) = (folder / "logs" / topic).iterdir()
    return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six test digits as PNG files, with the labels in their names."""
    folder = tmp_path_factory.mktemp("digits")
    data = Digits()
    data.setup("test")
    images, labels = data.splits["test"]
    for i in range(6):
        Image.fromarray(images[i, 0].numpy()).save(folder / f"{i}_{int(labels[i])}.png")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with random weights of a small ImageNet network."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "network.safetensors"
    save_file(timm.create_model(NETWORK).state_dict(), file)
    return file


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("photo") / "shape.jpg"
    Image.fromarray(draw_shapes(1, seed=0, size=96).images[0].transpose(1, 2, 0)).resize((300, 256)).save(file)
    return file


def table(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream))


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        interpret.main(list(arguments))
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert captured.err.count("\n") == 1, captured.err
    return captured.err.strip()


def test_saliency_of_a_run(run: Path, digits: Path, tmp_path: Path) -> None:
    finished = run_pipeline(
        "interpret", ["saliency", "--ckpt", str(run), "--images", str(digits), "--out", "o"], tmp_path
    )
    assert finished.code == 0 and finished.err == "", finished.err
    assert finished.out.startswith("network  ConvNet on Digits, 10 classes\n")
    rows = table(tmp_path / "o" / "figures.csv")
    names = sorted(file.stem for file in digits.iterdir())
    assert [Path(row["image"]).stem for row in rows] == names
    assert sorted(file.name for file in (tmp_path / "o").iterdir()) == sorted(
        [*(f"{n}.png" for n in names), "figures.csv"]
    )
    assert all(row["class"] == row["predicted"] and float(row["probability"]) > 0.1 for row in rows)
    correct = sum(row["predicted"] == Path(row["image"]).stem[-1] for row in rows)
    assert correct >= 4  # with the fitted preprocessing


def test_the_input_is_pixels(run: Path, digits: Path) -> None:
    """Scores and gradients equal those of the run's own preprocessing and the chain rule, without the hook."""
    from pipelines.run.load_model import restore, untrained
    from pipelines.run.run_folder import find_run

    inspected = inspect_run(str(run))
    model, data = untrained(find_run(str(run))[0])
    restore(model, data, find_run(str(run))[1])
    files = sorted(digits.iterdir())
    pixels = inspected.read(files)
    assert torch.equal((pixels * 255).round()[0, 0], torch.from_numpy(np.asarray(Image.open(files[0]))).float())
    inputs, labels = data.preprocessing((255 * pixels).round().to(torch.uint8)), torch.arange(6)
    torch.testing.assert_close(inspected.model(pixels), model(inputs), rtol=1e-4, atol=1e-5)
    expected = 255 * float(data.preprocessing.fitted["scale"]) * saliency(model, inputs, labels)
    torch.testing.assert_close(saliency(inspected.model, pixels, labels), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["smoothgrad", "integrated", "grad_cam"])
def test_other_methods(
    run: Path, digits: Path, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    interpret.main(
        f"saliency --ckpt {run} --images {digits} --method {method} --class 7 --steps 100 --out {tmp_path}".split()
    )
    rows = table(tmp_path / "figures.csv")
    assert len(rows) == 6 and all(row["class"] == "7" and row["method"] == method for row in rows)
    said = capsys.readouterr().out
    assert ("layer    stages.1\n" in said) == (method == "grad_cam")
    if method == "integrated":
        inspected = inspect_run(str(run))
        pixels, labels = inspected.read(sorted(digits.iterdir())), torch.full((6,), 7)
        with torch.no_grad():
            scores = (inspected.model(pixels) - inspected.model(torch.zeros_like(pixels)))[:, 7].tolist()
        sums = integrated_gradients(inspected.model, pixels, labels, 0.0, 100).sum((1, 2, 3)).tolist()
        assert [float(row["score_difference"]) for row in rows] == pytest.approx(scores, rel=1e-3, abs=1e-4)
        assert [float(row["attributions"]) for row in rows] == pytest.approx(sums, rel=1e-3, abs=1e-4)
        incomplete = sum(abs(a - b) > 0.01 * abs(b) for a, b in zip(sums, scores, strict=True))
        assert said.count(": they differ by more than 1%, increase --steps") == incomplete


def test_fooling_writes_files_that_fool(
    run: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspected = inspect_run(str(run))
    files = sorted(digits.iterdir())
    with torch.no_grad():
        predicted = inspected.model(inspected.read(files)).argmax(1).tolist()
    interpret.main(f"fooling --ckpt {run} --images {digits} --class 3 --step 0.01 --steps 500 --out {tmp_path}".split())
    said = capsys.readouterr().out
    assert said.count("is already classified as 3: not changed") == predicted.count(3)
    rows = {Path(row["image"]).stem: row for row in table(tmp_path / "figures.csv")}
    assert len(rows) == 6 - predicted.count(3)
    for file in files:
        if file.stem not in rows:
            continue
        row = rows[file.stem]
        fooled = tmp_path / f"{file.stem}_fooled.png"
        assert row["fooled"] == "True" and int(row["steps"]) >= 1
        assert int(inspected.model(inspected.read([fooled])).argmax()) == 3
        change = inspected.read([fooled]) - inspected.read([file])
        assert float(row["l2"]) == pytest.approx(float(change.norm()), rel=1e-4)
        assert float(row["l_infinity"]) == pytest.approx(float(change.abs().max()), rel=1e-4)
        assert f"L∞ {float(row['l_infinity']):.4f}" in said


def test_images_that_do_not_fool_are_reported_with_the_probabilities_reached(
    run: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"fooling --ckpt {run} --images {digits} --class 3 --bound 0.004 --steps 2 --out {tmp_path}"
    with pytest.raises(SystemExit) as ended:
        interpret.main(command.split())
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "→ not fooled within 2 steps: " in said and "L∞ 0.0039 (1 of 255)" in said
    assert any(row["fooled"] == "False" for row in table(tmp_path / "figures.csv"))


def test_class_visualization_of_all_classes_and_its_animation(run: Path, tmp_path: Path) -> None:
    interpret.main(f"class_visualization --ckpt {run} --steps 40 --blur_every 5 --animation --out {tmp_path}".split())
    rows = table(tmp_path / "figures.csv")
    assert [row["class"] for row in rows] == list("0123456789")
    inspected = inspect_run(str(run))
    shown = inspected.model(inspected.read([tmp_path / f"class_{i}.png" for i in range(10)])).diag()
    gray = inspected.model(torch.full((10, 1, 8, 8), 0.5)).diag()
    scores = torch.tensor([float(row["score"]) for row in rows])
    torch.testing.assert_close(shown.detach(), scores, rtol=0.02, atol=0.05)  # rounded to 256 levels
    assert (scores > gray + 0.2).all()
    with Image.open(tmp_path / "classes.gif") as animation:
        assert getattr(animation, "n_frames", 1) == 40 and animation.size == (40, 16)
    with Image.open(tmp_path / "class_4.png") as image:
        assert image.size == (8, 8)


def test_features(run: Path, digits: Path, tmp_path: Path) -> None:
    interpret.main(
        f"features --ckpt {run} --images {digits} --layer stages.0 stages.1 --channel 2 5 --patches 3 "
        f"--out {tmp_path}".split()
    )
    rows = table(tmp_path / "patches.csv")
    assert len(rows) == 2 * 2 * 3
    inspected = inspect_run(str(run))
    with captured_outputs([inspected.model.get_submodule("stages.1")]) as outputs, torch.no_grad():
        inspected.model(inspected.read(sorted(digits.iterdir())))
    (maps,) = outputs
    assert maps is not None
    first = [row for row in rows if row["layer"] == "stages.1" and row["channel"] == "5"]
    values = [float(row["activation"]) for row in first]
    assert values == pytest.approx(maps[:, 5].amax((1, 2)).topk(3).values.tolist(), rel=1e-4)
    assert len({row["image"] for row in first}) == 3
    assert all(0 <= int(row["x0"]) < int(row["x1"]) <= 8 for row in rows)
    assert {file.name for file in tmp_path.glob("patches_*")} == {"patches_stages.0.png", "patches_stages.1.png"}


def test_a_network_of_timm(weights: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = f"--timm {NETWORK} --weights {weights} --images {photo} --out {tmp_path}"
    interpret.main(f"saliency {common} --class goldfish".split())
    assert table(tmp_path / "figures.csv")[0]["class"] == "goldfish, Carassius auratus"
    with Image.open(tmp_path / "shape.png") as picture:
        assert picture.width > 3 * 224
    capsys.readouterr()
    assert "has no layer 'blocks.99'; did you mean blocks." in fails(
        capsys, *f"features {common} --layer blocks.99".split()
    )


def test_images_are_read_by_the_transform_of_timm(weights: Path, photo: Path) -> None:
    inspected = inspect_timm(NETWORK, weights)
    model: Any = timm.create_model(NETWORK, checkpoint_path=str(weights)).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    with torch.no_grad():
        expected = model(transform(Image.open(photo).convert("RGB"))[None])
        torch.testing.assert_close(inspected.model(inspected.read([photo])), expected, rtol=1e-4, atol=1e-4)
    assert inspected.class_names[285] == "Egyptian cat"


def test_classes_by_name_and_index() -> None:
    names = ("tench, Tinca tinca", "crane", "Egyptian cat", "crane", "5")
    assert [find_class(typed, names) for typed in ("TENCH", "tinca tinca", "egyptian cat", "3", "5")] == [0, 0, 2, 3, 4]
    with pytest.raises(ValueError, match="2 classes are called 'crane'; use one of the indices 1, 3"):
        find_class("crane", names)
    with pytest.raises(ValueError, match=r"no class 'cat' among 5 \(indices 0 to 4\); did you mean Egyptian cat\?"):
        find_class("cat", names)
    with pytest.raises(ValueError, match=r"no class '7' among 5 \(indices 0 to 4\); some classes are tench"):
        find_class("7", names)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("saliency {run} --images {text} --out o", "{text} can't be read as an image ("),
        ("saliency {run} --images nowhere.png --out o", "nowhere.png does not exist; give image files"),
        ("fooling {run} {digits} --class eleven --out o", "There is no class 'eleven' among 10"),
        ("fooling {run} {digits} --out o", "--class is missing; see python -m pipelines.interpret fooling --help."),
        (
            "saliency {run} {digits} --method grad_cam --layer stages.5 --out o",
            "ConvNet has no layer 'stages.5'; did you mean stages.",
        ),
        (
            "features {run} {digits} --layer stages.0 --channel 8 --out o",
            "Layer stages.0 has no channel 8; use one from 0 to 7.",
        ),
        ("saliency --ckpt nowhere.ckpt {digits} --out o", "There is no checkpoint at nowhere.ckpt;"),
        (
            "saliency {digits} --out o",
            "There must be one network; set either --ckpt to a run's folder or checkpoint, or --timm",
        ),
        ("saliency {run} --timm resnet18 {digits} --out o", "There must be one network; set either --ckpt"),
        ("saliency {run} --weights w {digits} --out o", "--weights is only for --timm;"),
        ("saliency --timm resnet1 --weights {text} {digits} --out o", "timm has no model 'resnet1'; did you mean"),
        ("saliency --timm resnet18 --weights w {digits} --out o", "There is no file of weights at w;"),
        (
            "saliency --timm resnet18 --weights {text} {digits} --out o",
            "The weights '{text}' can't be used for resnet18: ",
        ),
        ("class_visualization {run} --steps 0 --out o", "steps is 0; it must be at least 1"),
        ("saliency {run} {digits} --out {text}", "{text}: file exists; make it usable"),
        (
            "saliency {run} {digits} --method guess --out o",
            "--method is 'guess'; it must be one of gradient, smoothgrad, integrated, grad_cam.",
        ),
        ("dream {run} --out o", "There is no command 'dream'; it must be one of saliency,"),
    ],
)
def test_mistakes(
    arguments: str,
    sentence: str,
    run: Path,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "text.png"
    text.write_text("no image")
    said = fails(capsys, *arguments.format(run=f"--ckpt {run}", digits=f"--images {digits}", text=text).split())
    assert said.startswith(f"error: {sentence.format(text=text)}")


def test_all_images_already_classified_as_the_target(
    run: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspected = inspect_run(str(run))
    file = sorted(digits.iterdir())[0]
    label = int(inspected.model(inspected.read([file])).argmax())
    said = fails(capsys, *f"fooling --ckpt {run} --images {file} --class {label} --out {tmp_path}".split())
    assert said == f"error: All images are already classified as {label}; use another class or other images."


def test_models_that_are_not_differentiable_classifiers(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "knn").mkdir()
    (tmp_path / "features").mkdir()
    neighbors = train(tmp_path / "knn", "knn", "--model.k_max", "5", "--model.report_k", "null")
    said = fails(capsys, *f"saliency --ckpt {neighbors} --images {digits} --out {tmp_path}/o".split())
    assert "is of KNearestNeighbors, which compares pixels as integers and has no gradient" in said
    features = train(tmp_path / "features", "features", "--data.features", "[hog]", "--data.root", str(tmp_path))
    said = fails(capsys, *f"saliency --ckpt {features} --images {digits} --out {tmp_path}/o".split())
    assert "classifies features (hog), which have no gradient with respect to the pixels; use a run whose" in said
    other = tmp_path / "other"
    shutil.copytree(neighbors, other)
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["model"] = {"class_path": f"{__name__}.NoClassifier"}
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    said = fails(capsys, *f"saliency --ckpt {other} --images {digits} --out {tmp_path}/o".split())
    assert "which is not an image classifier; use a run of one." in said


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    interpret.main([])
    said = capsys.readouterr().out
    assert said.startswith("usage: python -m pipelines.interpret COMMAND")
    assert all(command in said for command in ("saliency", "fooling", "class_visualization", "features"))
