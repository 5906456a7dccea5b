"""Reference classifier for generated images, trained on the same training images as the generator.

It is a small `modules.ConvNet`, whose features before the last layer and class probabilities are used. A checkpoint of
`python -m pipelines.train fit --config mnist_convnet` can be given; otherwise one is trained on first use, the same for
every run, and kept beside the data under a name derived from the training images, or in the user's cache folder if the
data may only be read. One that is damaged is trained again.

Shapes: N images, C channels, H×W pixels, D features, K classes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.atomic_files import atomic_write
from common.cache_folders import cache_folders, writable_folder
from common.checked_tensors import load_checked
from common.errors import UserError
from common.machine.dtype_support import has_bfloat16
from modules import ConvNet, WarmupCosine

_EPOCHS, _LEAST_STEPS = 8, 1500  # small data sets take more epochs
_CHANNELS = (16, 32, 64)
_BATCH_SIZE = 128
_SHIFT = 2  # largest random shift of training images, in pixels
_CHUNK = 1000


class ReferenceClassifier:
    """A trained classifier together with its preprocessing of pixels.

    Args:
        model: Trained network.
        scale: Factor (C, 1, 1) of pixels in [0, 255].
        shift: Offset (C, 1, 1) added to the scaled pixels.
    """

    def __init__(self, model: ConvNet, scale: Tensor, shift: Tensor) -> None:
        self.model, self.scale, self.shift = model.eval().requires_grad_(False), scale, shift
        self._features: list[Tensor] = []
        model.output.register_forward_pre_hook(lambda layer, inputs: self._features.append(inputs[0]))

    def to(self, device: torch.device) -> "ReferenceClassifier":
        """Moves model and preprocessing to a device."""
        self.model.to(device)
        self.scale, self.shift = self.scale.to(device), self.shift.to(device)
        return self

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features (N, D) and logits (N, K) of images (N, C, H, W), pixels in [0, 1], on any device."""
        features, logits = [], []
        for chunk in pixels.split(_CHUNK):
            logits.append(self.model(chunk.to(self.scale.device) * 255 * self.scale + self.shift))
            features.append(self._features.pop())
        return torch.cat(features), torch.cat(logits)


def read_reference_classifier(path: Path) -> ReferenceClassifier:
    """Reads the reference classifier from a checkpoint of a `ConvNet`, without running code.

    Raises:
        ValueError: If there is no file, or it is damaged or not of a ConvNet on whole images.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint at {path}; use a ConvNet's, or leave classifier out to train one.")
    try:
        return _classifier_of(load_checked(path))
    except Exception as error:  # torch.load raises many kinds of errors
        raise UserError(
            f"{path} is damaged or not a checkpoint of a ConvNet on scaled or standardized images; use another "
            "classifier, or leave it out to train one."
        ) from error


def _classifier_of(stored: Mapping[str, Any]) -> ReferenceClassifier:
    """Creates the classifier from a checkpoint; raises errors of many types if it is of another model."""
    preprocessing: Mapping[str, Any] = next(
        value for value in stored.values() if isinstance(value, dict) and "preprocessing" in value
    )
    settings = {name: value for name, value in stored["hyper_parameters"].items() if not name.startswith("_")}
    with _isolated_training():
        model = ConvNet(**settings)
    model.load_state_dict(stored["state_dict"])
    return ReferenceClassifier(model, preprocessing["scale"], preprocessing["shift"])


def find_or_train_reference_classifier(
    folder: Path, images: Tensor, labels: Tensor, report: Callable[[str], None]
) -> ReferenceClassifier:
    """Returns the reference classifier of these training images; trains it if there is none yet.

    Args:
        folder: Folder of its checkpoint, beside the data.
        images: Training images (N, C, H, W) uint8.
        labels: Classes (N,) int64.
        report: Function that prints the progress of training.
    """
    name = blake2b(images.numpy().tobytes() + labels.numpy().tobytes(), digest_size=6).hexdigest()
    file = f"judge-{name}.ckpt"  # the name under which version 0.1 stored it
    folders = cache_folders(folder)
    for path in (place / file for place in folders):
        if path.is_file():
            try:
                return read_reference_classifier(path)
            except UserError:
                report(f"{path} is damaged, so the reference classifier is trained again.")
    target = writable_folder(folders)
    if target is None:
        report(f"Neither {folders[0]} nor {folders[1]} can be written, so each run trains its reference classifier.")
    with _isolated_training():
        torch.manual_seed(0)
        stored = _train(images, labels, report)
    if target is not None:
        try:
            _write(target / file, stored)
        except OSError as error:  # a full disk
            report(f"The reference classifier can't be written to {target} ({error.strerror}), so each run trains it.")
    return _classifier_of(stored)


def _train(images: Tensor, labels: Tensor, report: Callable[[str], None]) -> dict[str, Any]:
    """Trains a classifier and returns its checkpoint in Lightning's format."""
    pixels = images.double().div_(255)
    mean, std = pixels.mean((0, 2, 3), keepdim=True)[0], pixels.std((0, 2, 3), keepdim=True)[0].clamp(min=1e-3)
    scale, shift = (1 / (255 * std)).float(), (-mean / std).float()  # (C, 1, 1)
    smallest = min(images.shape[2:])
    channels = [width for stage, width in enumerate(_CHANNELS, start=1) if 2**stage <= smallest // 2]
    settings: dict[str, Any] = {
        "input_shape": tuple(images.shape[1:]),
        "num_classes": int(labels.max()) + 1,
        "channels": channels,
    }
    device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    model = ConvNet(**settings).to(device)
    steps = max(1, len(labels) // _BATCH_SIZE)
    epochs = max(_EPOCHS, -(-_LEAST_STEPS // steps))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = WarmupCosine(optimizer)
    schedule.begin(epochs * steps)
    start = perf_counter()
    for epoch in range(1, epochs + 1):
        total = torch.zeros((), device=device)
        for chosen in torch.randperm(len(labels)).tensor_split(steps):
            batch = _shifted(images[chosen].to(device) * scale.to(device) + shift.to(device))
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
                logits = model(batch)
            loss = F.cross_entropy(logits.float(), labels[chosen].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        if epoch % (epochs // _EPOCHS) == 0:
            left = (perf_counter() - start) / epoch * (epochs - epoch)
            report(f"reference classifier for samples, trained once for this data: epoch {epoch} of {epochs}, loss "
                   f"{float(total) / steps:.4f}, {left:.0f} s left")  # fmt: skip
    state = {name: value.cpu() for name, value in model.state_dict().items()}
    preprocessing = {"preprocessing": "standardize", "scale": scale, "shift": shift}
    return {"state_dict": state, "hyper_parameters": settings, "data": preprocessing}


@contextmanager
def _isolated_training() -> Iterator[None]:
    """Restores the random number generators afterwards, and allows training within an evaluation."""
    gpus = range(torch.cuda.device_count())
    with torch.random.fork_rng(gpus), torch.inference_mode(False), torch.enable_grad():
        yield


def _shifted(images: Tensor) -> Tensor:
    """Shifts a batch (N, C, H, W) by a few random pixels, the same for all images, repeating the edge."""
    down, right = torch.randint(2 * _SHIFT + 1, (2,)).tolist()
    padded: Tensor = nn.functional.pad(images, [_SHIFT] * 4, mode="replicate")
    return padded[:, :, down : down + images.shape[2], right : right + images.shape[3]]


def _write(path: Path, checkpoint: dict[str, Any]) -> None:
    """Writes atomically: a killed run leaves no partial file, and two runs may write at once."""
    with atomic_write(path) as temporary:
        torch.save(checkpoint, temporary)
