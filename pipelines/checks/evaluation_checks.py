"""Sanity check of a classifier's evaluation mode, in which dropout and batch statistics of training must be off.

    running averages   a training step updates those of every batch normalization that is trained
    logits             are the same in two passes, and those of an image do not depend on the images beside it
    metrics            `val/accuracy` and `val/loss` of a validation are those counted from the logits

For the metrics, four of five labels are the model's own predictions, so that the accuracy is 80 %.

Source: https://cs231n.github.io/neural-networks-2/ for dropout and batch normalization in training and evaluation.

Shapes: B images in a batch, K classes.
"""

import warnings
from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pipelines.checks.sanity_checkable import Result, SanityCheckable, training_loss

_TOLERANCE = 1e-3  # relative to the largest logit, and of the loss
_BATCH = 20  # images of a validation batch; the last one is smaller


def check_evaluation(model: SanityCheckable, images: Tensor, labels: Tensor) -> Result:
    """Checks a model in evaluation mode on a few images (B, ...) with labels (B,)."""
    copy: Any = deepcopy(model)
    if not any(parameter.requires_grad for parameter in copy.parameters()):
        return Result("evaluation", None, "the model has no parameters to train")
    if fault := _running_averages(copy, images, labels) or _logits(copy, images):
        return Result("evaluation", False, fault)
    metrics = _validate(copy, images)
    if isinstance(metrics, str):
        return Result("evaluation", False, metrics)
    return Result("evaluation", True, ", ".join(["logits do not depend on the batch", *metrics]))


def _running_averages(model: Any, images: Tensor, labels: Tensor) -> str | None:
    """Trains for a step and returns which batch normalization has not noticed it."""
    averages = {
        name: layer.running_mean.clone()
        for name, layer in model.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        and layer.running_mean is not None
        and any(parameter.requires_grad for parameter in layer.parameters())
    }
    with torch.no_grad():
        training_loss(model.train(), (images, labels))
    still = [name for name, before in averages.items() if torch.equal(model.get_submodule(name).running_mean, before)]
    return f"a training step does not update the running averages of {', '.join(still)}" if still else None


@torch.no_grad()
def _logits(model: Any, images: Tensor) -> str | None:
    """Returns how the logits differ between two passes, or between a batch and its first images alone."""
    model.eval()
    logits, again, alone = model(images), model(images), model(images[:2])
    limit = _TOLERANCE * float(logits.abs().max())
    if (off := float((logits - again).abs().max())) > limit:
        return f"two passes of the same images differ by up to {off:.1e}: dropout in evaluation mode?"
    if (off := float((logits[:2] - alone).abs().max())) > limit:
        return f"logits change by up to {off:.1e} with the other images of the batch: batch statistics in evaluation?"
    return None


def _validate(model: Any, images: Tensor) -> list[str] | str:
    """Returns the metrics of a validation as text, in a list if they are those counted from the logits."""
    if not isinstance(model, LightningModule):
        return []
    with torch.no_grad():
        logits = model.eval()(images)
        labels = logits.argmax(1)  # (B,)
        labels[::5] = (labels[::5] + 1) % logits.shape[1]
        expected = {
            "val/accuracy": float((logits.argmax(1) == labels).float().mean()),
            "val/loss": float(model.loss(logits, labels)),  # type: ignore[operator]
        }
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        plugins=[LightningEnvironment()],  # one process, also within a SLURM job
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning recommends workers
        (found,) = trainer.validate(model, DataLoader(TensorDataset(images, labels), _BATCH), verbose=False)
    texts = []
    for name, value in expected.items():
        if name in found:
            texts.append(f"{name} {found[name]:.4f}, counted {value:.4f}")
            if not abs(found[name] - value) <= _TOLERANCE * max(1.0, abs(value)):
                return texts[-1]
    return texts
