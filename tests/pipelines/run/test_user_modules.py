"""The user's model and data: modules beside the configuration file, found again from the run's folder."""

from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from tests.command_line import Finished, run_pipeline
from tests.helpers import only_run

MODULE = """
import lightning as L
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

class Net(L.LightningModule):
    def __init__(self, num_classes: int = 3):
        super().__init__()
        self.linear = torch.nn.Linear(4, num_classes)

    def training_step(self, batch, index):
        return cross_entropy(self.linear(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val/accuracy", (self.linear(batch[0]).argmax(1) == batch[1]).float().mean())

    test_step = validation_step

class Data(L.LightningDataModule):
    def train_dataloader(self):
        images = torch.linspace(-1, 1, 128).view(32, 4)
        return DataLoader(TensorDataset(images, (images[:, 0] > 0).long()), 16)

    val_dataloader = test_dataloader = train_dataloader
"""
CONFIG = """
model: mine.Net
data: mine.Data
optimizer:
  class_path: SGD
  init_args: {lr: 0.1}
trainer:
  max_epochs: 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a module and a configuration in a folder of their own."""
    own = tmp_path / "my own"
    own.mkdir()
    (own / "mine.py").write_text(MODULE)
    (own / "my.yaml").write_text(CONFIG)
    (own / "broken.py").write_text("import a_package_that_is_not_there\n")
    (own / "wrong.py").write_text("class Net(:\n")
    return tmp_path


def fit(folder: Path, *arguments: str) -> Finished:
    return run_pipeline("train", ["fit", "--config", "my own/my.yaml", *arguments], folder)


def test_a_module_beside_the_file_is_found_by_fit_and_by_what_follows(folder: Path) -> None:
    finished = fit(folder)
    assert finished.code == 0, finished.err
    run = only_run(folder, "my")
    finished = run_pipeline("train", ["test", "--ckpt_path", str(run)], folder)
    assert finished.code == 0, finished.err
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    finished = run_pipeline("train", ["predict", "--ckpt_path", str(run), "--images", "a.png"], folder)
    assert finished.code == 2 and finished.err.startswith("error: mine.Data has no setting 'images', so predict can't")
    assert finished.err.count("\n") == 1


@pytest.mark.parametrize(("arguments", "classes"), [([], 3), (["--model.num_classes", "2"], 2)])
def test_the_number_of_classes_is_the_default_or_the_one_given(
    folder: Path, arguments: list[str], classes: int
) -> None:
    finished = fit(folder, *arguments)
    assert finished.code == 0, finished.err
    run = only_run(folder, "my")
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert stored["linear.weight"].shape == (classes, 4)
    recorded = yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]
    assert recorded.get("num_classes", 3) == classes
    finished = run_pipeline("train", ["test", "--ckpt_path", str(run)], folder)
    assert finished.code == 0, finished.err


def test_a_number_of_classes_that_the_data_contradicts_is_refused(tmp_path: Path) -> None:
    arguments = ["fit", "--config", "softmax", "--data", "Digits", "--model.num_classes", "2"]
    finished = run_pipeline("train", arguments, tmp_path)
    assert finished.err == "error: --model.num_classes is 2, but that of Digits is 10; leave it out.\n"


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            "broken",
            "broken can't be imported (there is no module 'a_package_that_is_not_there'); install it or",
        ),
        ("wrong", "wrong can't be imported (SyntaxError in line 1: invalid syntax"),
        (
            "nowhere",
            "There is no module 'nowhere' for model nowhere.Net (my own/my.yaml, line 2); it must be",
        ),
    ],
)
def test_a_module_that_can_not_be_imported_is_named(folder: Path, module: str, said: str) -> None:
    file = folder / "my own" / "my.yaml"
    file.write_text(CONFIG.replace("mine.Net", f"{module}.Net"))
    finished = fit(folder)
    assert finished.code == 2
    assert finished.err.startswith(f"error: {said}") and finished.err.count("\n") == 1
