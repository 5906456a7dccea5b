"""Logs the quality of generated images: Fréchet distance, class histogram and confidence of a reference classifier.

    val/fid         Fréchet distance between N samples and the validation images
    val/kl          KL of the samples' class histogram from the validation images'
    val/confidence  mean over the samples of the classifier's largest probability
    test/…          the same with the test images, after `test`

`modules/gan/sample_metrics.py` has the formulas, `reference_classifier.py` the classifier. "FID" is here computed from
the features of that classifier: compare it only between models on the same data with the same classifier, never with
values from Inception's features. A finite N biases the distance upwards, by about the same amount for all models, so
state N with it.

The samples come from fixed latents: the same ones in each validation, and others in the test.

Shapes: N samples, M real images, C channels, H×W pixels, D features, K classes, Z latent values.
"""

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.reference_classifier import (
    ReferenceClassifier,
    find_or_train_reference_classifier,
    read_reference_classifier,
)
from common.checkpoint_paths import checkpoint_of
from common.errors import UserError
from common.ranges import check_range
from common.user_paths import user_path
from modules.gan.sample_metrics import frechet_distance, histogram_kl, mean_confidence

_SEEDS = {"val": 0, "test": 1}


@runtime_checkable
class ImageSampler(Protocol):
    """A model that generates images."""

    def sample(self, number: int, generator: torch.Generator | None = None) -> Tensor:
        """Returns new images (N, C, H, W) with pixels in [0, 1]."""


@runtime_checkable
class LabeledImages(Protocol):
    """A data module that holds its images in memory."""

    root: Path
    splits: dict[str, tuple[Tensor, Tensor]]  # of each split images (M, C, H, W) uint8 and labels (M,) int64

    def setup(self, stage: str) -> None:
        """Reads the splits of a stage, unless they are read."""


class SampleQuality(Callback):
    """Logs `fid`, `kl` and `confidence` of samples after every validation and test; rank 0 evaluates all samples.

    Args:
        num_samples: Number of samples N in validation, ≥ 100.
        num_test_samples: Number of samples N in the test, ≥ 100.
        classifier: Run folder or checkpoint of modules.ConvNet trained on the same data, such as that of the topic
            mnist_convnet; None trains one on first use and keeps it beside the data.

    Raises:
        ValueError: If there are too few samples, the model generates no images, or the checkpoint is not a ConvNet's.
    """

    def __init__(self, num_samples: int = 5000, num_test_samples: int = 10_000, classifier: str | None = None) -> None:
        check_range("num_samples", num_samples, num_samples >= 100, "at least 100")
        check_range("num_test_samples", num_test_samples, num_test_samples >= 100, "at least 100")
        self.numbers = {"val": num_samples, "test": num_test_samples}
        self.classifier = classifier
        self._reference_classifier: ReferenceClassifier | None = None
        self._real: dict[str, Tensor] = {}  # of each split the features (M, D)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(pl_module, ImageSampler):
            raise UserError(
                f"{type(pl_module).__name__} generates no images to evaluate; remove callbacks.SampleQuality from "
                "trainer.callbacks."
            )
        if not isinstance(trainer.datamodule, LabeledImages):  # type: ignore[attr-defined]
            raise UserError(
                "SampleQuality compares with the images of a data module that holds them in memory, such as MNIST; "
                "use one, or remove callbacks.SampleQuality from trainer.callbacks."
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.classifier is not None:  # one that is missing must not end a long run
            self._prepare(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._prepare(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._prepare(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module, "test")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics that validation logs."""
        return ("val/fid", "val/kl", "val/confidence")

    def _prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the classifier, or trains it when the first samples are evaluated."""
        if self._reference_classifier is None and trainer.is_global_zero:
            data: LabeledImages = trainer.datamodule  # type: ignore[attr-defined]
            if self.classifier is not None:
                self._reference_classifier = read_reference_classifier(checkpoint_of(user_path(self.classifier)))
            else:
                data.setup("fit")
                folder = Path(data.root) / type(data).__name__
                self._reference_classifier = find_or_train_reference_classifier(
                    folder, *data.splits["train"], lambda text: print(text, flush=True)
                )
            self._reference_classifier.to(pl_module.device)
        trainer.strategy.barrier("reference_classifier")

    def _log(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        metrics = self._metrics(trainer, pl_module, split) if trainer.is_global_zero else {}
        # All ranks need them: each decides by itself whether this is the best checkpoint.
        metrics = trainer.strategy.broadcast(metrics)
        pl_module.log_dict(metrics, prog_bar=split == "val")

    @torch.no_grad()
    def _metrics(self, trainer: Trainer, pl_module: LightningModule, split: str) -> dict[str, float]:
        assert isinstance(pl_module, ImageSampler) and self._reference_classifier is not None
        data: LabeledImages = trainer.datamodule  # type: ignore[attr-defined]
        images, labels = data.splits[split]
        if split not in self._real:
            self._real[split] = self._reference_classifier(images.float() / 255)[0]
        generator = torch.Generator().manual_seed(_SEEDS[split])  # leaves the random numbers of training unchanged
        samples = pl_module.sample(self.numbers[split], generator)
        samples = samples.mul(255).round().div(255)  # real images have 8 bits
        features, logits = self._reference_classifier(samples)
        kl = histogram_kl(logits.argmax(1).cpu(), labels.cpu(), logits.shape[1])
        return {
            f"{split}/fid": frechet_distance(features, self._real[split]),
            f"{split}/kl": kl,
            f"{split}/confidence": mean_confidence(logits),
        }
