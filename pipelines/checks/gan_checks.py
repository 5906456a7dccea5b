"""Sanity checks of a GAN before training: initial losses, gradients of both networks, parameters, overfitting.

    initial loss   both losses are those of an independent formula, and the scores are near 0: with `bce`, the losses
                   are then about 2 ln 2 for D and ln 2 for G
    gradients      D's loss for D's parameters and G's loss for G's, against central differences (`gradient_checks.py`)
    parameters     every parameter of both receives a finite, nonzero gradient
    overfitting    D separates 50 training images from fakes of 50 fixed latents; G moves them to the real side
    splits         validation and test images are not in the training split

Source: I. Goodfellow et al., arXiv 1406.2661: at the equilibrium D is ½ everywhere, and the loss of D is 2 ln 2.

Shapes: B images in a batch.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from modules.gan.gan import GAN
from pipelines.checks.classifier_checks import check_splits
from pipelines.checks.gradient_checks import check_gradients, check_parameters
from pipelines.checks.sanity_checkable import Report, Result, Split
from pipelines.console.formatting import count


def _softplus(scores: Tensor) -> Tensor:
    """Returns the mean of −log σ(−s) = log(1 + exp s)."""
    return (1 + scores.exp()).log().mean()


# Losses of D and G by scores r of real and f of generated images, written down independently of `gan_losses.py`.
_FORMULAS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "bce": (lambda r, f: _softplus(-r) + _softplus(f), lambda f: _softplus(-f)),
    "saturating bce": (lambda r, f: _softplus(-r) + _softplus(f), lambda f: -_softplus(f)),
    "least_squares": (lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2, lambda f: ((f - 1) ** 2).mean() / 2),
    "hinge": (lambda r, f: (1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean(), lambda f: -f.mean()),
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda f: -f.mean()),
}
_LOSS_TOLERANCE = 0.01  # relative, or absolute for losses below 1
_SCORE_LIMIT = 0.5  # of the mean scores; those of a new convolutional discriminator are up to 0.25 from 0
_ACCURACY = 0.98
_ACCURACY_OF_CRITIC = 0.8  # a critic moves the means of its scores apart, not each score to its side
_STEPS = 300
_RATE = 1e-3


class GANNetwork(nn.Module):
    """One network of a GAN as a model with a training loss of its own; the other network is fixed.

    Args:
        gan: The GAN; it is copied.
        name: Which network is trained.
    """

    def __init__(self, gan: GAN, name: Literal["discriminator", "generator"]) -> None:
        super().__init__()
        self.gan, self.name = deepcopy(gan), name
        self.gan.requires_grad_(False)
        self.network: nn.Module = getattr(self.gan, name)
        self.network.requires_grad_(True)
        if name == "discriminator" and gan.hparams["loss"] in ("hinge", "wasserstein"):
            # A constant added to all scores cancels in r − f, so the bias of the last layer has no gradient at first.
            [parameter for key, parameter in self.network.named_parameters() if key.endswith("bias")][
                -1
            ].requires_grad_(False)

    def training_step(self, batch: Split, batch_idx: int) -> Tensor:
        """Returns the network's loss on a batch of images (B, C, H, W)."""
        with torch.enable_grad():  # the gradient penalty needs gradients even where a loss alone is wanted
            if self.name == "discriminator":
                return self.gan.discriminator_loss(batch[0])[0]
            return self.gan.generator_loss(len(batch[0]))


def check_initial_losses(gan: GAN, images: Tensor) -> Result:
    """Compares both losses of an untrained GAN with the formulas, and its mean scores with 0: images (B, C, H, W)."""
    plain = deepcopy(gan).train()
    plain.gradient_penalty = 0.0
    of_d, of_g = _FORMULAS["saturating bce" if gan.hparams["saturating"] else gan.hparams["loss"]]
    latents = torch.randn(len(images), gan.latent_size)
    plain.draw = lambda *_: latents  # type: ignore[method-assign]
    with torch.no_grad():
        real, fake = plain.discriminator(images).double(), plain.discriminator(plain.generator(latents)).double()
        found = [float(plain.discriminator_loss(images)[0]), float(plain.generator_loss(len(images)))]
    expected = [float(of_d(real, fake)), float(of_g(fake))]
    off = [abs(a - b) / max(1.0, abs(b)) for a, b in zip(found, expected, strict=True)]
    scores = max(abs(float(real.mean())), abs(float(fake.mean())))
    passed = all(value <= _LOSS_TOLERANCE for value in off) and scores <= _SCORE_LIMIT  # NaN is not
    figures = ", ".join(
        f"{name} {a:.4f}, by the formula {b:.4f}" for name, a, b in zip(("D", "G"), found, expected, strict=True)
    )
    return Result("initial loss", passed, f"{figures}; mean scores up to {scores:.2g} from 0 (limit {_SCORE_LIMIT})")


def check_gan_gradients(
    gan: GAN, check: Callable[[Any, Tensor, Tensor], Result], images: Tensor, labels: Tensor
) -> Result:
    """Runs a check of gradients on both networks and joins the results."""
    results = [check(GANNetwork(gan, name), images, labels) for name in ("discriminator", "generator")]
    passed = all(result.passed for result in results)
    figures = "; ".join(f"{letter} {result.figures}" for letter, result in zip("DG", results, strict=True))
    return Result(results[0].name, passed, figures)


def check_gan_overfitting(gan: GAN, images: Tensor, report: Report = lambda _: None) -> Result:
    """Trains D alone, then G alone against that D, each for a few hundred steps of Adam, by the GAN's own losses.

    The latents are the same in all steps.

    Args:
        gan: Untrained GAN; it is not changed.
        images: Training images (B, C, H, W) in [−1, 1].
        report: Called with the accuracy after each step.
    """
    learner = deepcopy(gan).train()
    learner.gradient_penalty = 0.0
    latents = torch.randn(len(images), gan.latent_size)
    learner.draw = lambda *_: latents  # type: ignore[method-assign]
    boundary = gan.losses.boundary
    accuracy = _ACCURACY if boundary is not None else _ACCURACY_OF_CRITIC
    with torch.no_grad():
        fakes = learner.generator(latents)
    optimizer = torch.optim.Adam(learner.discriminator.parameters(), lr=_RATE)
    for step in range(1, _STEPS + 1):
        with torch.no_grad():
            real, fake = learner.discriminator(images), learner.discriminator(fakes)
        limit = boundary if boundary is not None else float(real.mean() + fake.mean()) / 2
        correct = int((real > limit).sum() + (fake <= limit).sum())
        report(f"D tells {correct} of {2 * len(images)} images after {count(step - 1, 'step')}")
        if correct >= accuracy * 2 * len(images):
            break
        optimizer.zero_grad()
        learner.discriminator_loss(images)[0].backward()
        optimizer.step()
    figures = f"D tells {correct} of {2 * len(images)} images after {count(step - 1, 'step')}"
    if correct < accuracy * 2 * len(images):
        return Result("overfitting", False, f"{figures} (limit {accuracy:.0%})")
    learner.discriminator.requires_grad_(False)
    optimizer = torch.optim.Adam(learner.generator.parameters(), lr=_RATE)
    for step in range(1, _STEPS + 1):
        with torch.no_grad():
            scores = learner.discriminator(learner.generator(latents))
        fooled = int((scores > limit).sum())
        report(f"G fools D with {fooled} of {len(images)} fakes after {count(step - 1, 'step')}")
        if fooled >= accuracy * len(images):
            break
        loss = learner.generator_loss(len(images))
        if not loss.requires_grad:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    figures += f"; G fools it with {fooled} of {len(images)} fakes after {count(step - 1, 'step')}"
    return Result("overfitting", fooled >= accuracy * len(images), f"{figures} (limit {accuracy:.0%})")


def run_gan_checks(
    gan: GAN, splits: Mapping[str, Split], preprocess: Callable[[Split], Split], report: Report = lambda _: None
) -> Iterable[Result]:
    """Runs all checks and yields each result as soon as it is available.

    Args:
        gan: Untrained GAN; it is not changed.
        splits: `train`, and `val` and `test` if they exist: images (N, C, H, W), labels (N,).
        preprocess: Function from a batch of a split to the model's input.
        report: Called with the current check and its progress.
    """
    images, labels = splits["train"]
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(torch.initial_seed()))
    several, few, tiny = (preprocess((images[drawn[:n]], labels[drawn[:n]])) for n in (500, 50, 10))
    report("initial loss")
    yield check_initial_losses(gan, several[0])
    yield check_gan_gradients(gan, partial(check_gradients, report=lambda text: report(f"gradients: {text}")), *tiny)
    report("parameters")
    yield check_gan_gradients(gan, partial(check_parameters, may_freeze=True), *few)
    yield check_gan_overfitting(gan, few[0], lambda text: report(f"overfitting: {text}"))
    report("splits")
    yield check_splits(splits)
