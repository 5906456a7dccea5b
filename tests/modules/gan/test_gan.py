"""Adversarial training against a bare loop with the same random numbers, and what counts as a step of it."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor, nn
from torch.optim import Optimizer

from datamodules import Digits
from modules import GAN

TINY: dict[str, Any] = {
    "input_shape": (1, 8, 8), "generator": "fully_connected", "discriminator": "fully_connected", "latent_size": 4,
    "generator_width": 8, "discriminator_width": 8, "generator_norm": "none", "ema_decay": 0.9,
}  # fmt: skip
CONVOLUTIONAL: dict[str, Any] = {**TINY, "generator": "convolutional", "discriminator": "convolutional"}


class Steps(Logger):
    """Stores the metrics of each logged step."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    name = version = "steps"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))


def train(model: GAN, steps: int, folder: Path, **settings: Any) -> L.Trainer:
    """Trains on real digits in batches of 24."""
    torch.manual_seed(3)
    double = next(model.parameters()).dtype == torch.float64
    settings = {
        "logger": False,
        "precision": "64-true" if double else "32-true",
        "enable_checkpointing": False,
        "limit_val_batches": 0,
        **settings,
    }
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", devices=1, default_root_dir=folder, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, **settings,
    )  # fmt: skip
    trainer.fit(model, data())
    return trainer


def data() -> Digits:
    return Digits(batch_size=24, preprocessing="scale")


def new(**settings: Any) -> GAN:
    """Returns a GAN in float64: in float32, Adam would magnify the rounding errors of gradients that should be 0."""
    torch.manual_seed(1)
    return GAN(**{**TINY, **settings}).double()


def bare_loop(model: GAN, steps: int, p: int, q: int, saturating: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Algorithm 1 with Adam: separate passes over real images and fakes, binary cross-entropies."""
    generator, discriminator = model.generator, model.discriminator
    optimizers = [torch.optim.Adam(n.parameters(), 2e-4, (0.5, 0.999)) for n in (generator, discriminator)]
    source = data()
    source.setup("fit")
    batches, losses = iter(source.train_dataloader()), []
    torch.manual_seed(2)  # 3 ^ 1
    for _ in range(steps):
        images = (next(batches)[0].float() * torch.tensor(2 / 255) - 1).double()
        total_d = total_g = torch.zeros(())
        for turn in range(p):
            real = images[turn::p]
            fake = generator(torch.randn(len(real), 4, dtype=torch.float64)).detach()
            r, f = discriminator(real), discriminator(fake)
            loss = F.binary_cross_entropy_with_logits(r, torch.ones_like(r))
            loss = loss + F.binary_cross_entropy_with_logits(f, torch.zeros_like(f))
            optimizers[1].zero_grad()
            loss.backward()
            optimizers[1].step()
            total_d = total_d + loss.detach() / p
        for _ in range(q):
            f = discriminator(generator(torch.randn(len(images) // p, 4, dtype=torch.float64)))
            loss = F.binary_cross_entropy_with_logits(f, torch.ones_like(f))
            if saturating:
                loss = -F.binary_cross_entropy_with_logits(f, torch.zeros_like(f))
            optimizers[0].zero_grad()
            loss.backward()
            optimizers[0].step()
            total_g = total_g + loss.detach() / q
        losses.append((total_d, total_g))
    return losses


@pytest.mark.parametrize(
    ("p", "q", "saturating"), [(1, 1, False), (3, 1, False), (1, 2, False), (2, 3, False), (1, 2, True)]
)
def test_an_iteration_is_one_step_and_the_same_as_in_a_bare_loop(
    p: int, q: int, saturating: bool, tmp_path: Path
) -> None:
    model = new(discriminator_steps=p, generator_steps=q, saturating=saturating)
    reference, logger = new(), Steps()
    checkpoint = ModelCheckpoint(tmp_path, every_n_train_steps=4, save_top_k=-1, filename="{step}")
    settings = {"logger": logger, "enable_checkpointing": True, "callbacks": [checkpoint], "log_every_n_steps": 3}
    trainer = train(model, 8, tmp_path, **settings)
    losses = bare_loop(reference, 8, p, q, saturating)

    for (name, got), expected in zip(
        model.generator.state_dict().items(), reference.generator.parameters(), strict=True
    ):
        torch.testing.assert_close(got, expected.data, rtol=1e-9, atol=1e-9, msg=name)
    for got, expected in zip(model.discriminator.parameters(), reference.discriminator.parameters(), strict=True):
        torch.testing.assert_close(got.data, expected.data, rtol=1e-9, atol=1e-9)
    assert trainer.global_step == 8
    assert [
        optimizer.state[optimizer.param_groups[0]["params"][0]]["step"].item() for optimizer in trainer.optimizers
    ] == [8 * q, 8 * p]
    assert [step for step, _ in logger.rows] == [2, 5]  # Lightning counts from 0: after 3 and after 6 iterations
    for row, mean in zip(logger.rows, ([0, 1, 2], [3, 4, 5]), strict=True):
        for network, name in enumerate(("train/loss_d", "train/loss_g")):
            expected_loss = sum(losses[i][network].item() for i in mean) / 3
            assert row[1][name] == pytest.approx(expected_loss, rel=1e-5)
    assert sorted(file.name for file in tmp_path.glob("*.ckpt")) == ["step=4.ckpt", "step=8.ckpt"]
    assert torch.load(tmp_path / "step=8.ckpt", weights_only=True)["global_step"] == 8


def test_batch_norm_in_the_discriminator_never_sees_real_images_and_fakes_together(tmp_path: Path) -> None:
    settings = {"discriminator_norm": "batch", "generator_norm": "batch"}
    model, reference = new(**settings), new(**settings)
    train(model, 5, tmp_path)
    bare_loop(reference, 5, 1, 1)
    networks = ((model.generator, reference.generator), (model.discriminator, reference.discriminator))
    pairs = [pair for one, other in networks for pair in zip(one.parameters(), other.parameters(), strict=True)]
    for got, expected in pairs:
        torch.testing.assert_close(got.data, expected.data, rtol=1e-7, atol=1e-8)
    assert any(isinstance(layer, nn.BatchNorm1d) for layer in model.discriminator.modules())


def test_accuracies_are_fractions_of_the_images(tmp_path: Path) -> None:
    logger = Steps()
    model = new(discriminator_lr=1e-30, generator_lr=1e-30)  # stays as it is
    train(model, 2, tmp_path, logger=logger, log_every_n_steps=2)
    source = data()
    source.setup("fit")
    batches = iter(source.train_dataloader())
    torch.manual_seed(2)
    real, fake = [], []
    with torch.no_grad():
        for _ in range(2):
            real.append(model.discriminator(next(batches)[0].double() / 127.5 - 1) > 0)
            fake.append(model.discriminator(model.generator(torch.randn(24, 4, dtype=torch.float64))) <= 0)
            torch.randn(24, 4, dtype=torch.float64)  # the generator's step
    ((_, row),) = logger.rows
    assert row["train/accuracy_real"] == pytest.approx(torch.cat(real).float().mean().item())
    assert row["train/accuracy_fake"] == pytest.approx(torch.cat(fake).float().mean().item())


def test_the_penalty_is_added_lambda_times(tmp_path: Path) -> None:
    """With critic weights near 0 all gradients are near 0, so the penalty is λ and the rest of the loss near 0."""
    logger = Steps()
    model = new(loss="wasserstein", gradient_penalty=7.0)
    for parameter in model.discriminator.parameters():
        nn.init.normal_(parameter, std=1e-4)
    train(model, 1, tmp_path, logger=logger, log_every_n_steps=1)
    assert logger.rows[0][1]["train/loss_d"] == pytest.approx(7, abs=1e-3)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("loss", ["bce", "least_squares", "hinge", "wasserstein"])
def test_every_loss_trains_in_half_precision_to_finite_weights_of_full_precision(loss: str, tmp_path: Path) -> None:
    settings = {"gradient_penalty": 10.0} if loss == "wasserstein" else {}
    model = GAN(**{**CONVOLUTIONAL, "generator_norm": "batch", "loss": loss, **settings})
    before = [parameter.detach().clone() for parameter in model.parameters()]
    train(model, 3, tmp_path, precision="bf16-mixed")
    for parameter in model.parameters():
        assert parameter.dtype == torch.float32 and parameter.isfinite().all()
    assert sum(not torch.equal(old, now) for old, now in zip(before, model.parameters(), strict=True)) > len(before) / 2


class GradientNorms(GAN):
    """Stores the gradient norm of each optimizer step."""

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        gradients = [p.grad for p in optimizer.param_groups[0]["params"]]
        self.norms = [*getattr(self, "norms", []), torch.nn.utils.get_total_norm(gradients).item()]


def test_clipping_bounds_each_network_s_gradient_in_every_step(tmp_path: Path) -> None:
    norms = {}
    for clip in (None, 1e-4):
        torch.manual_seed(1)
        model = GradientNorms(**TINY, clip_norm=clip, discriminator_steps=2, generator_steps=2)
        train(model, 2, tmp_path)
        norms[clip] = model.norms
        assert len(model.norms) == 8
    assert min(norms[None]) > 1.2e-4
    assert norms[1e-4] == pytest.approx([1e-4] * 8, rel=0.02)  # torch adds 1e-6 to the norm that it divides by


def test_samples_are_pixels_drawn_by_the_average_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    model = GAN(**{**CONVOLUTIONAL, "generator_norm": "batch"})
    train(model, 5, tmp_path)
    assert model.average is not None
    images = model.sample(7, torch.Generator().manual_seed(0))
    assert images.shape == (7, 1, 8, 8) and images.min() >= 0 and images.max() <= 1
    assert torch.equal(images, model.sample(7, torch.Generator().manual_seed(0)))
    assert not torch.equal(images, model.sample(7, torch.Generator().manual_seed(1)))
    latents = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    model.average.eval()
    torch.testing.assert_close(images, model.average(latents) / 2 + 0.5)
    model.train()
    figures = [buffer.clone() for buffer in model.buffers()]
    model.sample(7)
    assert all(torch.equal(old, now) for old, now in zip(figures, model.buffers(), strict=True)) and model.training
    plain = new(ema_decay=0.0).eval().float()
    torch.testing.assert_close(plain.generate(latents), plain.generator(latents) / 2 + 0.5)
    assert plain.average is None and not any("average" in name for name in plain.state_dict())


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_loss_that_is_not_finite_stops_and_names_the_step_and_the_loss(network: str, tmp_path: Path) -> None:
    class Broken(GAN):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if self.global_step == 5:  # the sixth iteration begins
                next(getattr(self, network).parameters()).data.fill_(torch.nan)

    torch.manual_seed(1)
    model = Broken(**TINY)
    checkpoint = ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1, filename="{step}")
    # The discriminator's step comes first and uses fakes too.
    with pytest.raises(
        ValueError, match="diverged: at step 6 the discriminator's loss is nan; it was stopped, and the last"
    ):
        train(model, 20, tmp_path, enable_checkpointing=True, callbacks=[checkpoint], log_every_n_steps=10)
    files = sorted(file.name for file in tmp_path.glob("*.ckpt"))
    assert files == ["step=2.ckpt", "step=4.ckpt"]
    for file in files:
        state = torch.load(tmp_path / file, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in state.values())


def test_weights_that_are_not_finite_are_not_saved_even_if_no_loss_has_shown_it(tmp_path: Path) -> None:
    class Broken(GAN):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_end(outputs, batch, batch_idx)
            if self.global_step == 4:
                self.discriminator.layers[1].weight.data[0, 0] = torch.inf  # type: ignore[union-attr, index]

    torch.manual_seed(1)
    trainer = train(Broken(**TINY), 4, tmp_path)
    with pytest.raises(ValueError, match="diverged: after step 4 weights of the discriminator are not finite"):
        trainer.save_checkpoint(tmp_path / "never.ckpt")
    assert not (tmp_path / "never.ckpt").exists()


def test_without_logging_a_divergence_still_stops(tmp_path: Path) -> None:
    model = new()
    nn.init.constant_(next(model.generator.parameters()), torch.nan)
    with pytest.raises(ValueError, match="at step 1 the discriminator's loss is nan"):
        train(model, 200, tmp_path, log_every_n_steps=0)
    assert model.trainer.global_step == 50


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"discriminator_steps": 0}, "discriminator_steps is 0; it must be at least 1"),
        ({"generator_steps": 0}, "generator_steps is 0; it must be at least 1"),
        ({"latent_size": 0}, "latent_size is 0; it must be at least 1"),
        ({"generator_width": 0}, "generator_width is 0; it must be at least 1"),
        ({"discriminator_width": -1}, "discriminator_width is -1; it must be at least 1"),
        ({"ema_decay": -0.1}, r"ema_decay is -0.1; it must be in \[0, 1\)"),
        ({"ema_decay": 1.0}, r"ema_decay is 1.0; it must be in \[0, 1\)"),
        ({"beta1": 1.0}, r"beta1 is 1.0; it must be in \[0, 1\)"),
        ({"generator_lr": 0.0}, "generator_lr is 0.0; it must be > 0"),
        ({"discriminator_lr": float("nan")}, "discriminator_lr is nan; it must be > 0"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0; it must be > 0"),
        ({"gradient_penalty": -1.0}, "gradient_penalty is -1.0; it must be ≥ 0"),
        ({"loss": "wasserstein"}, "wasserstein, which needs a gradient penalty; set gradient_penalty"),
        ({"gradient_penalty": 1.0, "discriminator_norm": "batch"}, "set discriminator_norm to layer or none"),
        ({"loss": "js"}, "loss is 'js'; it must be one of bce"),
        ({"loss": "least_squares", "saturating": True}, "the loss least_squares has no saturating form; set loss to"),
        (
            {"input_shape": (64,)},
            r"generates images \(C, H, W\), but the data has shape \(64,\); use preprocessing scale",
        ),
        ({"input_shape": (1, 10, 8), "generator": "convolutional"}, "the data has 10×8 pixels"),
    ],
)
def test_refusals(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        GAN(**{**TINY, **settings})


def test_a_batch_too_small_for_its_steps_and_images_that_are_not_scaled_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match="A batch of 24 images is too small for 13 discriminator steps; use a batch_size of at least 26",
    ):
        train(new(discriminator_steps=13), 1, tmp_path)
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_steps=1, logger=False, enable_checkpointing=False, default_root_dir=tmp_path
    )
    with pytest.raises(ValueError, match=r"but preprocessing is mean_image; set it to scale"):
        trainer.fit(new(), Digits(preprocessing="mean_image"))
