"""Exports reproduce the checkpoint's logits in every format, contain their metadata, and are not written otherwise."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.datasets import load_digits
from torch import Tensor

from datamodules import Digits
from modules import SoftmaxRegression
from pipelines import export
from pipelines.exporting import export_formats
from tests.command_line import run_module, run_pipeline

FIT = [
    "fit", "--config", "softmax", "--data", "Digits", "--data.flip", "false", "--data.batch_size", "32",
    "--optimizer.lr", "0.1", "--trainer.max_epochs", "1", "--trainer.callbacks", "null",
]  # fmt: skip
IMAGES = np.rint(load_digits().images[:, None] * (255 / 16)).astype(np.uint8)  # (1797, 1, 8, 8)


class Branching(SoftmaxRegression):
    """Has control flow that depends on the pixels, which can't be exported as a graph."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        return logits if float(images.sum()) > 0 else -logits


class Mirrored(SoftmaxRegression):
    """Averages over mirrored images at test time."""

    def test_logits(self, images: Tensor) -> Tensor:
        return (self(images) + self(images.flip(3))) / 2


class BatchOfTwo(SoftmaxRegression):
    """Accepts batches of 2 only."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.reshape(2, 64))
        return logits


def train(folder: Path, *settings: str) -> Path:
    finished = run_pipeline("train", [*FIT, *settings], folder)
    assert finished.code == 0, finished.err
    (run,) = (folder / "logs" / "softmax").iterdir()
    return run


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of softmax regression on standardized images."""
    return train(tmp_path_factory.mktemp("linear"))


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a network with batch norm and dropout on principal components."""
    arguments = ["--model", "tests.noisy.NoisyNet", "--data.preprocessing", "pca", "--data.num_components", "20"]
    return train(tmp_path_factory.mktemp("deep"), *arguments)


def training_images() -> np.ndarray:
    """The images that the runs were trained on, in [0, 1]."""
    data = Digits()
    data.setup("fit")
    return data.splits["train"][0].numpy() / 255.0


def linear_logits(run: Path, images: np.ndarray) -> np.ndarray:
    """Softmax regression in float64: (N, 1, 8, 8) to (N, 10)."""
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    weight, bias = (state[f"linear.{name}"].double().numpy() for name in ("weight", "bias"))
    train = training_images()
    return ((images / 255.0 - train.mean()) / train.std()).reshape(len(images), 64) @ weight.T + bias


def deep_logits(run: Path, images: np.ndarray) -> np.ndarray:
    """Principal components, linear, batch norm by running figures, ReLU, linear, in float64."""
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    net = {name: value.double().numpy() for name, value in stored["state_dict"].items()}
    directions = stored["Digits"]["directions"].double().numpy()
    centered = (images / 255.0 - training_images().mean(0)).reshape(len(images), 64)
    hidden = centered @ directions @ net["net.1.weight"].T + net["net.1.bias"]
    normal = (hidden - net["net.2.running_mean"]) / np.sqrt(net["net.2.running_var"] + 1e-5)
    active = np.maximum(normal * net["net.2.weight"] + net["net.2.bias"], 0)
    return active @ net["net.5.weight"].T + net["net.5.bias"]


def read_onnx(file: Path) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, str]]:
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape) == ("images", "tensor(uint8)", ["batch", 1, 8, 8])
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", ["batch", 10])
    metadata = session.get_modelmeta().custom_metadata_map
    return lambda images: session.run(None, {"images": images})[0], metadata


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def read_torchscript(file: Path) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, str]]:
    extra = {"metadata.json": ""}
    module = torch.jit.load(file, _extra_files=extra)
    assert not module.training
    assert "Device" not in str(module.inlined_graph)  # or it would stay on the machine's CPU for ever
    return lambda images: module(torch.from_numpy(images)).detach().numpy(), json.loads(extra["metadata.json"])


@pytest.mark.parametrize(("form", "read"), [("onnx", read_onnx), ("torchscript", read_torchscript)])
@pytest.mark.parametrize(("name", "expected"), [("linear", linear_logits), ("deep", deep_logits)])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_graph_gives_the_run_s_logits(
    form: str, read: Any, name: str, expected: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run = request.getfixturevalue(name)
    out = tmp_path / "new" / "mine.bin"
    finished = run_pipeline("export", [str(run), "--format", form, "--out", str(out)], tmp_path)
    assert finished.code == 0, finished.err
    assert finished.err == ""
    assert "images uint8 (B, 1, 8, 8)" in finished.out and "logits float32 (B, 10)" in finished.out
    assert "check    ok: " in finished.out
    assert [file.name for file in out.parent.iterdir()] == ["mine.bin"]
    predict, metadata = read(out)
    assert json.loads(metadata["class_names"]) == list("0123456789")
    assert json.loads(metadata["config"])["data"]["init_args"]["batch_size"] == 32
    for batch in (IMAGES[:1], IMAGES[:3], IMAGES):
        wanted = expected(run, batch)
        assert np.abs(predict(batch) - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_safetensors_hold_weights_and_preprocessing(deep: Path) -> None:
    finished = run_pipeline("export", [str(deep / "checkpoints" / "last.ckpt"), "--format=safetensors"], deep.parent)
    assert finished.code == 0, finished.err
    stored = torch.load(deep / "checkpoints" / "last.ckpt", weights_only=True)
    with safe_open(deep / "model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    fitted = {f"preprocessing.{name}": stored["Digits"][name] for name in ("mean", "directions")}
    wanted = stored["state_dict"] | fitted
    assert tensors.keys() == wanted.keys()
    assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)
    assert json.loads(metadata["config"])["model"]["class_path"] == "tests.noisy.NoisyNet"
    assert (deep / "model.safetensors").stat().st_mode & 0o077 == (deep / "config.yaml").stat().st_mode & 0o077
    (deep / "model.safetensors").unlink()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("form", ["onnx", "safetensors"])  # torch numbers the TorchScript classes of a process
def test_the_same_checkpoint_gives_the_same_file(deep: Path, form: str, tmp_path: Path) -> None:
    written = []
    for number in range(4):  # safetensors alone would write the 4 entries of the metadata in any of 24 orders
        export.main([str(deep), "--format", form, "--out", str(tmp_path / str(number))])
        written.append((tmp_path / str(number)).read_bytes())
    assert written == written[:1] * 4


def fails(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """Returns stderr of a command line that fails, which is one line."""
    with pytest.raises(SystemExit) as end:
        export.main(list(arguments))
    assert end.value.code == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err.strip()


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_a_graph_that_differs_is_not_kept(
    linear: Path, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = export_formats.as_module

    def wrong(model: Any, data: Any) -> Any:
        module: Any = right(model, data)
        with torch.no_grad():
            module.model.linear.weight[3, 40] += 0.01
        return module

    monkeypatch.setattr(export_formats, "as_module", wrong)
    out = tmp_path / "model"
    out.write_text("the export before")
    said = fails(capsys, str(linear), "--format", form, "--out", str(out), code=1)
    assert said == f"{out} was not written: its logits differ from the checkpoint's."
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    assert out.read_text() == "the export before"


def test_tensors_that_differ_are_not_kept(
    linear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors import torch as safetensors

    right = safetensors.save

    def half(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
        return right({name: value.half().float() for name, value in tensors.items()}, metadata)

    monkeypatch.setattr(safetensors, "save", half)
    fails(capsys, str(linear), "--format", "safetensors", "--out", str(tmp_path / "m"), code=1)
    monkeypatch.setattr(safetensors, "save", lambda tensors, metadata: right(tensors, metadata)[:-5])
    said = fails(capsys, str(linear), "--format", "safetensors", "--out", str(tmp_path / "m"))
    assert said.startswith("error: SoftmaxRegression can't be exported as safetensors (")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("difference", "worst"),
    [
        (torch.zeros(10), 0.0),
        (torch.full((10,), 0.5), 0.5),
        (torch.full((1,), torch.nan), torch.inf),
        (None, torch.inf),
    ],
)
def test_compare(difference: Tensor | None, worst: float) -> None:
    model = SoftmaxRegression((1, 8, 8), 10, weight_scale=10.0).eval()
    data = Digits(preprocessing="scale")
    data.preprocessing.fit(torch.empty(0))

    def predict(images: Tensor) -> Tensor:
        logits = model(images / 127.5 - 1)
        return logits[:, 1:] if difference is None else logits + difference

    error, tolerance = export.compare(predict, model, data)
    assert error == pytest.approx(worst, abs=1e-3)
    assert 1e-4 * 50 < tolerance < 1e-4 * 1000  # logits of 64 pixels of about ±0.6 and weights of about ±10


def with_model(run: Path, model: str, folder: Path) -> Path:
    """Copies a run with another model in its configuration."""
    copied = folder / "logs" / "softmax" / "other"
    shutil.copytree(run, copied)
    text = (copied / "config.yaml").read_text()
    assert "modules.SoftmaxRegression" in text
    (copied / "config.yaml").write_text(text.replace("modules.SoftmaxRegression", f"{__name__}.{model}"))
    return copied


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_graph_includes_test_time_augmentation(linear: Path, tmp_path: Path) -> None:
    run = with_model(linear, "Mirrored", tmp_path)
    export.main([str(run), "--format", "torchscript"])
    predict, _ = read_torchscript(run / "model.pt")
    wanted = (linear_logits(linear, IMAGES) + linear_logits(linear, IMAGES[..., ::-1])) / 2
    assert np.abs(predict(IMAGES) - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(("form", "model"), [("onnx", "Branching"), ("torchscript", "BatchOfTwo")])
def test_models_that_cant_be_exported(
    form: str, model: str, tmp_path: Path, linear: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = with_model(linear, model, tmp_path)
    before = sorted(run.rglob("*"))
    said = fails(capsys, str(run), "--format", form)
    assert said.startswith(f"error: {model} can't be exported as {form} (")
    assert said.endswith("); try another format.")
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("nothing.ckpt --format onnx", "There is no checkpoint at nothing.ckpt;"),
        ("{run} --format tflite", "There is no format 'tflite'; it must be one of onnx, torchscript, safetensors."),
        ("{run}", "--format is missing; see python -m pipelines.export --help."),
        ("--format onnx", "checkpoint is missing;"),
        ("{run} --format onnx --quick", "There is no option --quick; use one of --format, --out."),
        ("{run} --format onnx --out {run}", "{run} is a folder; set --out to the name of a file."),
        ("{run} --format onnx --out {run}/config.yaml/m.onnx", "{run}/config.yaml: "),
        ("copy.ckpt --format torchscript", "copy.ckpt is not in the folder of its run,"),
        ("empty --format torchscript", "empty has no checkpoints/best.ckpt;"),
    ],
)
def test_mistakes(
    arguments: str,
    sentence: str,
    linear: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(linear / "checkpoints" / "best.ckpt", "copy.ckpt")
    Path("empty").mkdir()
    said = fails(capsys, *arguments.format(run=linear).split())
    assert said.startswith(f"error: {sentence.format(run=linear)}")
    assert not list(linear.rglob("*.tmp"))


def test_onnx_is_optional(linear: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None if name != "onnx" else object())
    said = fails(capsys, str(linear), "--format", "onnx")
    assert said == (
        "error: ONNX needs onnxscript and onnxruntime; install with pip install -r requirements-export.txt."
    )


def test_a_damaged_checkpoint(linear: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "logs" / "softmax" / "damaged"
    shutil.copytree(linear, run)
    best = run / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:-1000])
    assert "can't be read as a checkpoint" in fails(capsys, str(run), "--format", "torchscript")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    export.main(["--help"])
    said = capsys.readouterr().out
    assert said.startswith("usage: python -m pipelines.export RUN|CHECKPOINT --format FORMAT [--out FILE]")
    assert all(name in said for name in export.FORMATS)


@pytest.mark.parametrize("format", ["torchscript", "safetensors"])
def test_a_full_disk_names_the_file_and_leaves_nothing(linear: Path, tmp_path: Path, format: str) -> None:
    arguments = ["export", "1000", str(linear), "--format", format, "--out", "model"]
    done = run_module("tests.full_disk", arguments, tmp_path)
    assert done.code == 2, done.err
    assert done.err.endswith("error: model: file too large; free some space or choose another path.\n")
    assert list(tmp_path.iterdir()) == []
