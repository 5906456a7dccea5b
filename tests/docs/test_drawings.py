"""What the scripts in docs/draw compute for the pictures of the pages, against closed forms, and their animations."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from docs.draw.gradient_descent import regression_paths
from docs.draw.kernel_sizes import measure
from docs.draw.normalization_inside import inside
from docs.draw.update_rules import SURFACES, paths
from docs.draw.vanishing_gradients import lstm_norms, rnn_norms

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"


def test_paths_of_update_rules_follow_the_closed_forms() -> None:
    valley, saddle = SURFACES
    for surface, curvature in ((valley, torch.tensor([1.0, 25.0])), (saddle, torch.tensor([1.0, -1.0]))):
        found = paths(surface, 20)
        start, steps = torch.tensor(surface.start, dtype=torch.float64), torch.arange(21)[:, None]
        torch.testing.assert_close(found["SGD"], start * (1 - surface.rates["SGD"] * curvature.double()) ** steps)
        assert all(path.shape == (21, 2) and torch.equal(path[0], start) for path in found.values())
        first = found["Adam"][1] - start  # Adam's first step has the learning rate's size in each coordinate
        torch.testing.assert_close(first.abs(), torch.full_like(first, surface.rates["Adam"]), rtol=1e-5, atol=0)
        torch.testing.assert_close(found["momentum"][1], start - surface.rates["momentum"] * surface.gradient(start))


@pytest.mark.parametrize("name", ["update_rules.gif", "gan_density.gif"])
def test_animations_are_small_and_move(name: str) -> None:
    file = PICTURES / name
    assert file.stat().st_size < 500_000
    with Image.open(file) as image:
        frames = getattr(image, "n_frames", 1)
        assert frames > 10
        first = image.convert("RGB").tobytes()
        image.seek(frames - 1)
        assert image.convert("RGB").tobytes() != first


def test_gradients_over_time_shrink_by_the_factor_of_a_step() -> None:
    torch.manual_seed(0)
    inputs = 1e-4 * torch.randn(20, 4, 128, dtype=torch.float64)  # states stay near 0, where tanh has slope 1
    assert rnn_norms(0.5, inputs)[-1] == pytest.approx(0.5**20, rel=1e-3)
    forget = float(torch.tensor(1.0, dtype=torch.float64).sigmoid())
    assert forget**20 < lstm_norms(1.0, inputs)[-1] < 1.5 * forget**20  # the path through h adds a little


def test_normalized_activations_have_unit_variance_at_any_scale_of_the_weights() -> None:
    images, labels = torch.randn(64, 3, 32, 32), torch.arange(64) % 10
    for scale in (0.01, 0.5):
        activations, gradients = inside("batch", scale, images, labels)
        assert [float(part.std()) for part in activations] == pytest.approx([1] * 4, abs=0.02)
        assert len(gradients) == 4 and all(part.shape == (64, 100) for part in gradients)
    plain = [float(part.std()) for part in inside("none", 0.01, images, labels)[0]]
    assert plain[3] < 0.01 * plain[0]


def test_full_batch_descent_always_goes_down_and_single_examples_do_not() -> None:
    inputs, targets, found = regression_paths()
    losses = {name: ((path @ inputs.T - targets) ** 2).mean(1) for name, path in found.items()}
    assert (losses["full batch"].diff() <= 1e-6).all()
    assert (losses["stochastic"].diff() > 0).any() and losses["stochastic"][-1] < 0.3 * losses["stochastic"][0]


@pytest.mark.slow
def test_larger_kernels_cost_parameters_and_padding_costs_memory() -> None:
    small, large, unpadded = measure(1, True), measure(5, True), measure(5, False)
    assert large.parameters == unpadded.parameters == 25 * (3 * 16 + 16 * 32) + 2 * (16 + 32) + 330
    assert small.megabytes == pytest.approx(large.megabytes, rel=0.01) and unpadded.megabytes < 0.8 * large.megabytes
