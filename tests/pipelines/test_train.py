"""`python -m pipelines.train`: short names, fast help, one sentence for every mistake, atomic files."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pipelines.train import main, resolve
from tests.command_line import PROJECT, run_module, run_pipeline
from tests.datamodules.files.official_files import write_cifar10

DIGITS = [
    "fit", "--config", "softmax", "--data", "Digits", "--data.flip", "false", "--trainer.max_epochs", "2",
    "--optimizer.lr", "0.1",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("trained")
    finished = run_pipeline("train", [*DIGITS, "--data.batch_size", "32"], folder)
    assert finished.code == 0, finished.err
    (run,) = (folder / "logs" / "softmax").iterdir()
    (folder / "summary.txt").write_text(finished.out)
    return run


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Returns the one-line error message of a command line."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").strip()


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.delenv("LIGHTNING_231N_RUN_ID", raising=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("fti", "There is no command 'fti'; did you mean fit?"),
        ("go", "There is no command 'go'; use one of fit, validate, test, predict."),
        ("fit", "There is nothing to run; set --config to a topic"),
        ("fit --config sofmax", "There is no topic or file 'sofmax'; did you mean softmax?"),
        ("test --config softmax", "test needs a trained model; set --ckpt_path"),
        ("test --ckpt_path nothing.ckpt", "There is no checkpoint at nothing.ckpt;"),
        ("fit --config softmax --model.regg 1", "SoftmaxRegression has no setting 'regg'; did you mean reg?"),
        ("fit --config softmax --model.reg abc", "--model.reg is 'abc'; it must be a number."),
        ("fit --config softmax --model.reg=-1", "reg is -1.0; it must be ≥ 0."),
        ("fit --config svm --model.margin 0", "margin is 0.0; it must be > 0"),
        ("fit --config softmax --model LinearSVN", "There is no class 'LinearSVN' for model; did you mean LinearSVM?"),
        ("fit --config softmax --data Digitz", "There is no class 'Digitz' for data; did you mean Digits?"),
        ("fit --config softmax --data Digits --data.batch_size 0", "batch_size is 0; it must be at least 1."),
        ("fit --config softmax --data.fold 5 --data.num_folds 5", "fold is 5; it must be"),
        (
            "fit --config softmax --data Digits --data.subset 5000",
            "subset is 5000, but there are 1293 training images",
        ),
        ("fit --config softmax --data.preprocessing zca", "--data.preprocessing is 'zca'; it must be one of 'scale'"),
        ("fit --config softmax --optimizer Adamm", "There is no class 'Adamm' for optimizer; did you mean Adam?"),
        ("fit --config softmax --optimizer.lrr 1", "SGD has no setting 'lrr'; did you mean lr?"),
        (
            "fit --config softmax --trainer.max_epoch 3",
            "There is no option --trainer.max_epoch; did you mean --trainer.max_",
        ),
        ("fit --config softmax --trainer.max_epochs 1.5", "--trainer.max_epochs is '1.5'; it must be an integer."),
        ("fit --config softmax --checkpoint.mode best", "`mode` can be min, max but got best"),
        ("fit --config softmax --data Digits --optimizer.lr=-1", "Invalid learning rate: -1.0; change --optimizer.lr,"),
        ("fit --config softmax --data Digits --trainer.accelerator abacus", "You selected an invalid accelerator name"),
        ("fit --config softmax stray", "'stray' belongs to no option;"),
    ],
)
def test_mistakes_on_the_command_line(arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(arguments.split(), capsys).startswith(sentence)
    assert not Path("logs").exists() or not any(Path("logs").rglob("*.*"))  # no half-made run is left behind


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model:\n  reg: [1\n", "mine.yaml is not valid YAML (line 2, 'reg: [1': "),
        (
            "modle:\n  class_path: modules.LinearSVM\n",
            "The configuration has an unknown key 'modle.class_path' (mine.yaml, line 2); did you",
        ),
        ("data: Digits\n", "The configuration has no 'model'"),
        ("[1, 2]", "mine.yaml is a list; it must have settings by name"),
        (
            "trainer:\n  max_epoch: 1\n",
            "The configuration has an unknown key 'trainer.max_epoch' (mine.yaml, line 2); did you mean",
        ),
        (
            "model: LinearSVM\ndata: Digits\ntrainer:\n  callbacks:\n  - class_path: callbacks.Templtes\n",
            "There is no class 'callbacks.Templtes' for trainer.callbacks (mine.yaml, line 5); did you mean Templates?",
        ),
    ],
)
def test_mistakes_in_a_file(text: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(text)
    assert fails(["fit", "--config", "mine.yaml"], capsys).startswith(sentence)


def test_a_file_that_is_not_text(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_bytes(b"\xa6\xff\x00")
    assert fails(["fit", "--config", "mine.yaml"], capsys).startswith("mine.yaml is not UTF-8 text (line 1)")


def test_missing_data_without_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The address can't be reached, as on a machine without a network."""
    finished = run_pipeline(
        "train",
        ["fit", "--config", "softmax"],
        tmp_path,
        https_proxy="http://127.0.0.1:9",
        HTTPS_PROXY="http://127.0.0.1:9",
    )
    assert finished.code == 2
    assert finished.err.count("\n") == 1
    assert finished.err.startswith("error: cifar-10-python.tar.gz could not be downloaded from https://")
    assert not any((tmp_path / "logs").rglob("*.*"))


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.999])
def test_damaged_data_files(tmp_path: Path, keep: float, capsys: pytest.CaptureFixture[str]) -> None:
    write_cifar10(tmp_path / "data")
    batch = tmp_path / "data" / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[: int(keep * batch.stat().st_size)])
    said = fails(["fit", "--config", "softmax"], capsys)
    assert "data_batch_3" in said
    assert "python -m pipelines.data download" in said
    assert not any((tmp_path / "logs").rglob("*.*"))


def test_help_needs_no_torch(tmp_path: Path) -> None:
    """Help without a topic and a misspelled name import nothing slow."""
    code = (
        "import sys; from pipelines.train import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end: print(end.code)\n"
        "print([name for name in ('torch', 'lightning', 'numpy', 'wandb') if name in sys.modules])"
    )
    for arguments in (["--help"], [], ["fit", "--config", "sofmax"]):
        command = [sys.executable, "-c", code, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.endswith("[]\n")
    usage = subprocess.run(
        [sys.executable, "-m", "pipelines.train"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"^  svm +Multiclass linear SVM", usage, re.M)


@pytest.mark.parametrize(
    ("option", "name", "said"), [("model", "LinearSVM", "Strength λ of the L2"), ("data", "CIFAR10", "held out")]
)
def test_help_of_one_class(option: str, name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fit", f"--{option}.help", name])
    assert end.value.code == 0
    assert said in " ".join(capsys.readouterr().out.split())


def test_short_names_are_resolved(trained: Path) -> None:
    arguments, topic = resolve(["fit", "--config=svm", "--model.reg", "1"])
    assert arguments == ["fit", "--config", str(PROJECT / "pipelines" / "configs" / "svm.yaml"), "--model.reg", "1"]
    assert topic == "svm"
    arguments, topic = resolve(["fit", "--ckpt_path", str(trained), "--trainer.max_epochs", "9"])
    last = str(trained / "checkpoints" / "last.ckpt")
    config = str(trained.resolve() / "config.yaml")
    assert arguments == ["fit", "--config", config, "--ckpt_path", last, "--trainer.max_epochs", "9"]
    assert topic == "softmax"
    arguments, _ = resolve(["test", "--ckpt_path", str(trained)])
    assert arguments[-1] == str(trained / "checkpoints" / "best.ckpt")


def test_fit_writes_a_complete_run_and_prints_a_summary(trained: Path) -> None:
    files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    assert {"config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= files
    pictures = {file.split("/")[1] for file in files if file.startswith("pictures/")}
    assert pictures == {"templates", "confusion", "curves", "mistakes"}
    assert not [file for file in files if ".tmp" in file]
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["data"]["class_path"].endswith("Digits")
    assert config["data"]["init_args"]["batch_size"] == 32
    assert config["optimizer"]["init_args"]["lr"] == 0.1
    with (trained / "metrics.csv").open(newline="") as file:
        best = max(float(row["val/accuracy"]) for row in csv.DictReader(file) if row["val/accuracy"])
    summary = (trained.parent.parent.parent / "summary.txt").read_text()
    assert f"best val/accuracy  {best:.4f}" in summary
    assert f"python -m pipelines.train test --ckpt_path {trained.relative_to(trained.parent.parent.parent)}" in summary


def test_test_counts_every_image_and_writes_to_the_folder_of_the_run(trained: Path) -> None:
    finished = run_pipeline("train", ["test", "--ckpt_path", str(trained)], trained.parent.parent.parent)
    assert finished.code == 0, finished.err
    assert finished.err == ""
    figures = dict(line.split() for line in finished.out.splitlines() if line.startswith("test/"))
    assert figures["test/images"] == "360"
    assert float(figures["test/accuracy"]) > 0.8
    with (trained / "metrics.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row.get("test/accuracy")]
    assert float(row["test/accuracy"]) == pytest.approx(float(figures["test/accuracy"]), abs=5e-5)
    assert int(row["step"]) > 0  # at the checkpoint's step, not at the start of the run


def test_predict_agrees_with_the_model(trained: Path, tmp_path: Path) -> None:
    from datamodules import Digits
    from modules import SoftmaxRegression

    data = Digits()
    images, labels = data.read(train=False)
    (tmp_path / "pictures").mkdir()
    for i in range(12):
        Image.fromarray(images[i, 0]).save(tmp_path / "pictures" / f"{i:02d}.png")
    arguments = ["predict", "--ckpt_path", str(trained), "--images", "pictures", "--out", "out/said.csv"]
    finished = run_pipeline("train", [*arguments, "--data.batch_size", "5"], tmp_path)
    assert finished.code == 0, finished.err
    with (tmp_path / "out" / "said.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    model = (
        SoftmaxRegression.load_from_checkpoint(trained / "checkpoints" / "best.ckpt", weights_only=True).cpu().eval()
    )
    data.load_state_dict(torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)["Digits"])
    probabilities = model(data.preprocessing(torch.from_numpy(images[:12]))).softmax(1).detach()
    assert [Path(row["image"]).name for row in rows] == [f"{i:02d}.png" for i in range(12)]
    assert [row["class"] for row in rows] == [str(int(i)) for i in probabilities.argmax(1)]
    got = np.array([[float(row[name]) for name in data.class_names] for row in rows])
    np.testing.assert_allclose(got, probabilities.numpy(), atol=1e-5)
    assert (probabilities.argmax(1).numpy() == labels[:12]).mean() > 0.7


@pytest.mark.parametrize("images", [[], ["missing.png"], ["broken.png"], ["empty"]])
def test_predict_refuses_files_that_are_not_images(trained: Path, tmp_path: Path, images: list[str]) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    (tmp_path / "empty").mkdir()
    arguments = ["predict", "--ckpt_path", str(trained), *(["--images", *images] if images else [])]
    finished = run_pipeline("train", arguments, tmp_path)
    assert finished.code == 2, finished.err
    assert finished.err.startswith("error: ")
    assert finished.err.count("\n") == 1
    assert (images or ["--images"])[0] in finished.err
    assert not (tmp_path / "predictions.csv").exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_checkpoint(
    trained: Path, tmp_path: Path, share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (trained / "checkpoints" / "last.ckpt").read_bytes()
    Path("cut.ckpt").write_bytes(content[: int(share * len(content))])
    for command in ("fit", "test"):
        said = fails([command, *DIGITS[1:], "--ckpt_path", "cut.ckpt"], capsys)
        assert said.startswith("cut.ckpt can't be read as a checkpoint: it is truncated, damaged")
    assert not Path("logs").exists() or not any(Path("logs").rglob("*.*"))


def test_a_checkpoint_that_would_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("touch ran",)

    torch.save({"state_dict": {}, "evil": Evil()}, "evil.ckpt")
    fails(["test", *DIGITS[1:], "--ckpt_path", "evil.ckpt"], capsys)
    assert not Path("ran").exists()


def test_a_checkpoint_of_another_topic_or_other_shapes(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(tmp_path / "copy.ckpt")
    shutil.copy(trained / "checkpoints" / "last.ckpt", checkpoint)
    said = fails(["test", *DIGITS[1:], "--model", "tests.noisy.NoisyNet", "--ckpt_path", checkpoint], capsys)
    assert "is a checkpoint of SoftmaxRegression and does not fit NoisyNet" in said
    said = fails(["test", "--config", "softmax", "--data", "Shapes", "--ckpt_path", checkpoint], capsys)
    assert "linear.weight has shape (10, 64) in it and (10, 3072) in this SoftmaxRegression" in said
    said = fails(["fit", *DIGITS[1:], "--data.preprocessing", "scale", "--ckpt_path", checkpoint], capsys)
    assert "data.preprocessing is scale, but the run was trained with standardize" in said


def test_a_folder_that_is_not_writable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("logs").write_text("a file where the folder should be")
    assert "logs" in fails(DIGITS, capsys)
    assert Path("logs").read_text() == "a file where the folder should be"


def test_a_full_disk_keeps_the_last_good_checkpoint(trained: Path, tmp_path: Path) -> None:
    """With a limit on the size of files, as with a full disk, the next checkpoint can't be written."""
    folder = tmp_path / "logs" / "softmax" / trained.name
    shutil.copytree(trained, folder)
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()
    arguments = [
        "fit",
        "--ckpt_path",
        str(folder),
        "--trainer.max_epochs",
        "4",
        "--trainer.callbacks",
        "[TrainingHealth]",
    ]
    done = run_module("tests.full_disk", ["train", "8192", *arguments], tmp_path, WANDB_MODE="disabled")
    assert done.code == 2, done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not list(folder.rglob("*.tmp"))


def test_print_config_shows_every_setting(tmp_path: Path) -> None:
    finished = run_pipeline("train", ["fit", "--config", "svm", "--model.reg", "0.5", "--print_config"], tmp_path)
    assert finished.code == 0, finished.err
    config = yaml.safe_load(finished.out)
    assert config["model"]["init_args"]["reg"] == 0.5
    assert config["data"]["init_args"]["val_fraction"] == 0.1
    assert not (tmp_path / "logs").exists()


def test_a_disk_that_is_full_from_the_start_names_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    Path("logs").mkdir()
    arguments = ["train", "1000", *DIGITS, "--trainer.callbacks", "null"]
    done = run_module("tests.full_disk", arguments, tmp_path, WANDB_MODE="disabled")
    assert done.code == 2, done.err
    assert re.fullmatch(
        r"error: logs/softmax/[^/]+/config\.yaml: file too large; free some space or choose another path\.\n", done.err
    )
    assert not [path for path in Path("logs").rglob("*") if path.is_file()]


def test_the_word_none_of_a_sweep_s_macro_is_null() -> None:
    arguments, _ = resolve(
        ["fit", "--config", "svm", "--data.subset=None", "--data.fold", "None", "--wandb.name=None of"]
    )
    assert arguments[3:] == ["--data.subset=null", "--data.fold", "null", "--wandb.name=None of"]
