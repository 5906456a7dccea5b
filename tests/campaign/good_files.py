"""The good files that cases damage, each made once, by the commands that users type: data sets, runs, a sweep."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.search.search import Search
from pipelines.search.sweep_file import read_sweep
from tests.campaign.case import Command
from tests.command_line import PROJECT, run_pipeline
from tests.datamodules.captions.coco_dataset import write_coco
from tests.datamodules.files.official_files import write_cifar10, write_mnist

RUN_ID = "run"  # of every run in good files, so that command lines can name its folder

# 96 training images in batches of 16: 6 steps an epoch.
DIGITS = ("--data=Digits", "--data.subset=96", "--data.batch_size=16", "--data.flip=false")
QUIET = ("--trainer.callbacks=null", "--trainer.log_every_n_steps=2", "--trainer.precision=32-true")
CLASSIFIER = (
    "fit", "--config=fc_net", *DIGITS, *QUIET, "--model.hidden_sizes=[16]", "--model.dropout=0.3", "--data.rotation=10",
    "--optimizer.lr=0.01",
)  # fmt: skip
GAN = (
    "fit", "--config=gan", *DIGITS, *QUIET, "--data.preprocessing=scale", "--model.latent_size=4",
    "--model.generator_width=8", "--model.discriminator_width=8", "--checkpoint.monitor=null",
)  # fmt: skip
CAPTIONER = (
    "fit", "--config=caption_lstm", *QUIET, "--data.num_train=40", "--data.num_test=10", "--data.batch_size=12",
    "--model.width=8", "--model.channels=[4,4,8]",
)  # fmt: skip
HOG = ("fit", "--config=features", *DIGITS, *QUIET, "--data.features=[hog]", "--model.hidden_size=8")
COCO = (
    "fit", "--config=caption_lstm", "--data=COCOCaptions", "--data.backbone=test_resnet.r160_in1k",
    "--data.features=pooled", "--data.min_count=1", "--data.batch_size=4", "--data.val_fraction=0.25",
    "--data.image_size=32", "--data.num_workers=0", "--model.width=8", "--model.attention=false", *QUIET,
)  # fmt: skip


def fit(arguments: tuple[str, ...], epochs: int = 2) -> Command:
    """The training of a run of so many epochs."""
    return Command("train", (*arguments, f"--trainer.max_epochs={epochs}"))


def classifier(folder: Path) -> None:
    """A finished run of a fully connected network with dropout on digits, and six digits as image files."""
    _run(fit(CLASSIFIER), folder)
    photos(folder, gray=True)


def gan(folder: Path) -> None:
    """A finished run of a GAN on digits."""
    _run(fit(GAN), folder)


def captioner(folder: Path) -> None:
    """A finished run of an LSTM captioner on drawn scenes, and image files."""
    _run(fit(CAPTIONER), folder)
    photos(folder, gray=False)


def two_runs(folder: Path) -> None:
    """Two finished runs of the same topic."""
    _run(fit(CLASSIFIER), folder)
    _run(fit((*CLASSIFIER, "--optimizer.lr=0.02")), folder, run_id="other")


def hog_cache(folder: Path) -> None:
    """The cached features of digits, without the run that made them."""
    _run(fit(HOG, 1), folder, keep=("data",))


def coco(folder: Path) -> None:
    """COCO with 12 training and 5 test images, and its cached features."""
    write_coco(folder / "data")
    _run(fit(COCO, 1), folder, keep=("data",))


def mnist(folder: Path) -> None:
    """MNIST with 100 random training images, packed."""
    write_mnist(folder / "data")


def mnist_unpacked(folder: Path) -> None:
    """The same, unpacked."""
    write_mnist(folder / "data", packed=False)


def cifar10(folder: Path) -> None:
    """CIFAR-10 with 100 random training images."""
    write_cifar10(folder / "data")


def sweep(folder: Path) -> None:
    """A grid of six trials that need no torch, of which four have finished."""
    write_sweep(folder)
    search = Search.create(read_sweep(folder / "grid.yaml"), folder / "logs")
    search.join()
    for _ in range(4):
        trial = search.next_trial()
        assert trial is not None
        search.report(trial.number, [trial.values["x"] / 100])
        search.finish(trial.number, "finished", None, 1.0)
    search.leave()
    search.folder.rename(search.folder.with_name("grid"))  # so that command lines can name it


def sweep_file(folder: Path) -> None:
    """The file of that sweep alone."""
    write_sweep(folder)


def write_sweep(folder: Path, **content: object) -> None:
    """Writes grid.yaml: the trial with x = 3 has the metric 0.03, and so on."""
    metric = {"name": "val/accuracy", "goal": "maximize"}
    command = ["python", str(PROJECT / "tests" / "fake_trial.py"), "${args_json_file}"]
    parameters = {"x": {"values": [3, 9, 5, 7, 1, 2]}, "pause": {"value": 0.05}}
    sweep = {"method": "grid", "metric": metric, "command": command, "parameters": parameters, **content}
    (folder / "grid.yaml").write_text(json.dumps(sweep, indent=1))


def photos(folder: Path, gray: bool) -> None:
    """Six image files in `photos`."""
    (folder / "photos").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(0, 256, (8, 8) if gray else (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")


def _run(command: Command, folder: Path, run_id: str = RUN_ID, keep: tuple[str, ...] = ()) -> None:
    before = {path.name for path in folder.iterdir()}
    finished = run_pipeline(command.pipeline, list(command.arguments), folder, WANDB_RUN_ID=run_id)
    if finished.code:
        raise RuntimeError(f"{command} on good files: exit status {finished.code}\n{finished.err}")
    if keep:
        for path in [path for path in folder.iterdir() if path.name not in before | set(keep)]:
            shutil.rmtree(path)


GOOD_FILES: dict[str, Callable[[Path], None]] = {
    "nothing": lambda folder: None,
    "classifier": classifier,
    "gan": gan,
    "captioner": captioner,
    "two runs": two_runs,
    "HOG cache": hog_cache,
    "COCO": coco,
    "MNIST": mnist,
    "MNIST unpacked": mnist_unpacked,
    "CIFAR-10": cifar10,
    "sweep": sweep,
    "sweep file": sweep_file,
}
