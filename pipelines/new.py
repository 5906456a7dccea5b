"""Writes a small topic of your own to start from: module, configuration, sweep and test.

python -m pipelines.new topic tiny_net          # tiny_net/tiny_net.py, tiny_net.yaml, tiny_net_sweep.yaml, test_…

The four files work as they are: check, fit, sweep and compare run on the configuration, and pytest on the test. Nothing
existing is overwritten. docs/own_topics.md says what a module must offer for which command.
"""

import keyword
import os
import re
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

from common.commands import command
from common.errors import UserError
from pipelines.console.run_command import run_command
from pipelines.run.topics import topics

_MODULE = '''"""CLASS: a network with one hidden layer; change its layers and its loss to make it your own.

python -m pipelines.train fit --config NAME/NAME.yaml

Shapes: B images, K classes.
"""

from math import log, prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules import Classifier


class CLASS(Classifier):
    """A network with one hidden layer.

    Args:
        input_shape: Shape of an image, from the data.
        num_classes: Number of classes K, from the data.
        width: Units of the hidden layer.
    """

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, width: int = 100) -> None:
        super().__init__(num_classes)
        self.save_hyperparameters(logger=False)
        self.hidden = nn.Linear(prod(input_shape), width)
        self.output = nn.Linear(width, num_classes)
        nn.init.normal_(self.output.weight, std=0.01)  # logits begin near 0
        self.example_input_array = torch.zeros(2, *input_shape)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (B, K) of images (B, ...)."""
        return self.output(self.hidden(images.flatten(1)).relu())

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the cross-entropy of logits (B, K) and labels (B,), or of target probabilities (B, K)."""
        return F.cross_entropy(logits, labels)

    def expected_initial_loss(self) -> float:
        """Returns ln K: before training all classes are equally likely."""
        return log(self.num_classes)
'''

_CONFIG = """# CLASS on handwritten digits.
model:
  class_path: NAME.CLASS  # the class in NAME.py beside this file
  init_args:
    width: 100
data:
  class_path: datamodules.Digits  # CIFAR10, or ImageFolder with your own images
  init_args:
    batch_size: 32
optimizer:
  class_path: torch.optim.Adam
  init_args:
    lr: 1.0e-3
trainer:
  max_epochs: 10
  callbacks:
    - class_path: callbacks.ConfusionMatrix
checkpoint:
  monitor: val/accuracy
  mode: max
"""

_SWEEP = """# CLASS: learning rate and width.
name: NAME
method: grid
metric:
  name: val/accuracy
  goal: maximize
command: ["${env}", python, -m, pipelines.train, fit, --config, NAME/NAME.yaml, --config, "${args_json_file}"]
parameters:
  optimizer.lr:
    values: [0.001, 0.01]
  model.width:
    values: [50, 100]
"""

_TEST = '''"""CLASS: the shape of its logits, its first loss, and that it can learn."""

from math import log

import torch
from NAME import CLASS


def test_logits_and_first_loss() -> None:
    model = CLASS((1, 8, 8), num_classes=10)
    images, labels = torch.randn(20, 1, 8, 8), torch.arange(20) % 10
    assert model(images).shape == (20, 10)
    assert abs(float(model.loss(model(images), labels).detach()) - log(10)) < 0.2


def test_it_learns_twenty_images_by_heart() -> None:
    torch.manual_seed(0)
    model = CLASS((1, 8, 8), num_classes=10)
    images, labels = torch.randn(20, 1, 8, 8), torch.arange(20) % 10
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        model.loss(model(images), labels).backward()
        optimizer.step()
    assert (model(images).argmax(1) == labels).all()
'''


def usage() -> str:
    """Returns the help text."""
    lines = ["usage: python -m pipelines.new topic NAME", ""]
    lines += ["Writes a small module, configuration, sweep and test into the new folder NAME, to start from."]
    lines += ["NAME is in lower case, with digits and underscores, such as tiny_net."]
    return "\n".join(lines)


def new_topic(name: str) -> Path:
    """Writes the files of a topic into a new folder of that name, and returns the folder.

    Raises:
        ValueError: If the name is not one of a Python module, or is taken by a module, a topic or a file.
        OSError: If the folder can't be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(
            f"{name!r} can't be the name of a topic; give lower-case letters, digits and underscores, such as tiny_net."
        )
    if name in topics():
        raise UserError(f"{name} is a topic of this project; give another name.")
    folder = Path(name)
    if os.path.lexists(folder):
        raise UserError(f"{folder} exists; give another name, or remove it. Nothing was written.")
    if find_spec(name) is not None:
        raise UserError(f"{name} is the name of an installed Python module, which would hide yours; give another one.")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    files = {f"{name}.py": _MODULE, f"{name}.yaml": _CONFIG, f"{name}_sweep.yaml": _SWEEP, f"test_{name}.py": _TEST}
    temporary = Path(mkdtemp(prefix=f".{name}-", dir=Path.cwd()))
    try:
        temporary.chmod(0o777 & ~_umask())
        for file, text in files.items():
            (temporary / file).write_text(text.replace("CLASS", class_name).replace("NAME", name), encoding="utf-8")
        temporary.rename(folder)  # all files or none
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def _umask() -> int:
    """The process's mask of permissions, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _work(arguments: list[str]) -> None:
    if arguments[0] != "topic" or len(arguments) != 2:
        raise UserError(f"{' '.join(arguments)!r} is not a request for a topic; use {command('new', 'topic', 'NAME')}.")
    folder = new_topic(arguments[1])
    config = folder / f"{folder}.yaml"
    print("written  " + ", ".join(sorted(str(file) for file in folder.iterdir())))
    print(f"check it  {command('check', '--config', config)}")
    print(f"train it  {command('train', 'fit', '--config', config)}")
    print(f"sweep it  {command('sweep', 'run', folder / f'{folder}_sweep.yaml')}")
    print(f"test it   python -m pytest {folder}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; exit status 2 after a user's mistake."""
    run_command(usage, _work, arguments)


if __name__ == "__main__":
    main()
