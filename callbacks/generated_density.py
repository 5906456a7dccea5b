"""Draws a GAN in one dimension after each epoch: both densities, the discriminator, and the map from z to x.

    p(x)   density of the data                                             black, dotted
    q(x)   density of the generated samples                                green
    D(x)   σ of the discriminator's score                                  blue, dashed
    D*(x)  p(x) / (p(x) + q(x)), the best discriminator of this generator  gray

    val/wasserstein   ∫ |F_q(x) − F_p(x)| dx: the mean distance between generated and real samples in order of size

Below, lines lead from evenly likely latents z to x = G(z): where they crowd, q is high. In the end q = p, and D is ½
everywhere. Source: I. Goodfellow et al., arXiv 1406.2661, figure 1 and proposition 1.

Shapes: N samples, M points.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.pictures import figure_to_array, show
from callbacks.samples import ImageGenerator, animate, check_generates
from common.errors import UserError
from common.ranges import check_range
from modules.interpretation.feature_extraction import evaluating

_LINES = 33  # latents shown
_BANDWIDTH = 0.02  # standard deviation of the Gaussians of which q is the mean


@runtime_checkable
class HasDensity(Protocol):
    """A data module of samples in one dimension with a known density."""

    splits: dict[str, tuple[Tensor, Tensor]]  # of each split samples (N, 1, 1, 1) in [−1, 1] and labels (N,)

    def density(self, x: Tensor) -> Tensor:
        """Returns the density at x (M,)."""


class Densities(NamedTuple):
    """What is drawn, on a grid x of M points in [−1, 1].

    Attributes:
        x: Points (M,).
        real: Density of the data p (M,).
        generated: Density of the generated samples q (M,).
        discriminator: Probability D that a sample at x is real (M,); None if the loss has no such probability.
        latents: Evenly likely latents, ascending.
        samples: Their samples G(z).
    """

    x: Tensor
    real: Tensor
    generated: Tensor
    discriminator: Tensor | None
    latents: Tensor
    samples: Tensor


class GeneratedDensity(Callback):
    """Draws densities, discriminator and generator after epochs, an animation after `fit`, and logs `wasserstein`.

    The animation is `<run folder>/pictures/density.gif`.

    Args:
        every_n_epochs: Number of epochs between two pictures, ≥ 1.
        num_samples: Number of generated samples, ≥ 100.

    Raises:
        ValueError: If a value is out of its range, or model or data are not in one dimension.
    """

    def __init__(self, every_n_epochs: int = 1, num_samples: int = 10_000) -> None:
        check_range("every_n_epochs", every_n_epochs, every_n_epochs >= 1, "at least 1")
        check_range("num_samples", num_samples, num_samples >= 100, "at least 100")
        self.every_n_epochs = every_n_epochs
        self.num_samples = num_samples

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        check_generates(pl_module, self)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, HasDensity) or int(getattr(pl_module, "latent_size", 1)) != 1:
            raise UserError(
                f"GeneratedDensity draws data and latents in one dimension, but the data is {type(data).__name__} and "
                f"latent_size {getattr(pl_module, 'latent_size', 1)}; use GaussianMixture and latent_size 1, or remove "
                "callbacks.GeneratedDensity from trainer.callbacks."
            )

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics that validation logs."""
        return ("val/wasserstein",)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module, "test")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs == 0 or trainer.should_stop or epoch == trainer.max_epochs:
            drawn = densities(pl_module, trainer.datamodule.density, self.num_samples)  # type: ignore[attr-defined]
            title = f"after {trainer.global_step:,} iterations"
            show(trainer, "density", density_picture(drawn, title), caption=title)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "pictures"
        if trainer.is_global_zero:
            animate(sorted((folder / "density").glob("*.png")), folder / "density.gif")

    def _log(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, ImageGenerator)
        generated = _samples(pl_module, pl_module.latents(self.num_samples, torch.Generator().manual_seed(0)))
        distance = wasserstein(data.splits[split][0].flatten(), generated)
        pl_module.log_dict({f"{split}/wasserstein": distance}, prog_bar=split == "val")


def wasserstein(first: Tensor, second: Tensor) -> float:
    """Returns the Wasserstein-1 distance of samples (N,) and (M,): the area between their distribution functions."""
    first, second = first.double().cpu().sort().values, second.double().cpu().sort().values
    both = torch.cat([first, second]).sort().values
    shares = [torch.searchsorted(part, both[:-1], right=True) / len(part) for part in (first, second)]
    return float(((shares[0] - shares[1]).abs() * both.diff()).sum())


@torch.no_grad()
def densities(model: Any, density: Callable[[Tensor], Tensor], num_samples: int, points: int = 400) -> Densities:
    """Computes what is drawn of a GAN with one latent value and images of one pixel.

    Args:
        model: GAN with `latents`, `generate`, `discriminator` and `losses`.
        density: Density of the data.
        num_samples: Number of generated samples.
        points: Number M of points.
    """
    x = torch.linspace(-1, 1, points, dtype=torch.float64)
    generated = _samples(model, model.latents(num_samples, torch.Generator().manual_seed(0)))
    chances = torch.linspace(0, 1, _LINES + 2, dtype=torch.float64)[1:-1]
    latents = torch.special.ndtri(chances)
    images = x.view(-1, 1, 1, 1).to(next(model.discriminator.parameters()))
    with evaluating(model.discriminator):
        scores = model.discriminator(images).double().cpu()
    probability = scores.sigmoid() if model.hparams["loss"] == "bce" else None
    like = next(model.generator.parameters())
    return Densities(
        x,
        density(x),
        kernel_density(generated, x),
        probability,
        latents,
        _samples(model, latents[:, None].to(like)),
    )


def kernel_density(samples: Tensor, x: Tensor) -> Tensor:
    """Returns the density at x (M,) of samples (N,): the mean of a narrow Gaussian around each."""
    z = (x[:, None] - samples) / _BANDWIDTH
    return (-(z**2) / 2).exp().mean(1) / (_BANDWIDTH * (2 * torch.pi) ** 0.5)


def density_picture(drawn: Densities, title: str = "") -> np.ndarray:
    """Draws the densities and the map from z to x; returns the picture, (height, width, 3) uint8."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.2), dpi=100, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    x = drawn.x.numpy()
    upper.plot(x, drawn.real.numpy(), ":", color="black", label="data, p(x)")
    upper.plot(x, drawn.generated.numpy(), color="tab:green", label="generated, q(x)")
    upper.set_ylim(0, 2.1 * float(drawn.real.max()))
    upper.set_ylabel("density")
    right = upper.twinx()
    if drawn.discriminator is not None:
        right.plot(x, drawn.discriminator.numpy(), "--", color="tab:blue", label="D(x)")
        best = drawn.real / (drawn.real + drawn.generated).clamp(min=1e-12)
        known = (drawn.real + drawn.generated) > 0.01
        right.plot(x, best.where(known, torch.nan).numpy(), color="0.7", linewidth=1, label="best D for this q")
    right.axhline(0.5, color="0.85", linewidth=0.8)
    right.set_ylim(0, 1.25)  # the legend is above 1
    right.set_yticks([0, 0.25, 0.5, 0.75, 1])
    right.set_ylabel("probability of real data")
    lines = [*upper.get_lines(), *right.get_lines()]
    lines = [line for line in lines if not str(line.get_label()).startswith("_")]
    upper.legend(lines, [str(line.get_label()) for line in lines], fontsize=8, loc="upper center", ncols=2)
    upper.set_title(title, fontsize=10)
    positions = drawn.latents.numpy() / 2.5  # from −2 … 2 to the width of the plot
    for position, sample in zip(positions, drawn.samples.numpy(), strict=True):
        lower.plot([position, sample], [0, 1], color="tab:green", linewidth=0.8)
    lower.set_yticks([0, 1], ["z", "x = G(z)"])
    lower.set_ylim(0, 1)
    lower.set_xlim(-1, 1)
    lower.set_xlabel("x")
    return figure_to_array(figure)


def _samples(model: Any, latents: Tensor) -> Tensor:
    """Samples in [−1, 1], (N,) in float64 on the CPU, of latents (N, 1)."""
    assert isinstance(model, ImageGenerator)
    return 2 * model.generate(latents).double().cpu().flatten() - 1
