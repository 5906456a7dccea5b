"""The mixture of Gaussians: its moments, density and splits, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from datamodules import GaussianMixture

SETTINGS: dict[str, Any] = {"means": [-0.5, 0.3], "stds": [0.1, 0.15], "weights": [0.25, 0.75]}


def test_samples_have_the_density_that_is_stated() -> None:
    data = GaussianMixture(**SETTINGS, num_train=20_000)
    data.setup("fit")
    samples, labels = data.splits["train"]
    assert samples.shape == (20_000, 1, 1, 1) and samples.dtype == torch.float32 and data.input_shape == (1, 1, 1)
    assert float((labels == 1).float().mean()) == pytest.approx(0.75, abs=0.01)

    def distribution(x: Any) -> Any:
        return 0.25 * norm.cdf(x, -0.5, 0.1) + 0.75 * norm.cdf(x, 0.3, 0.15)

    assert kstest(samples.flatten().numpy(), distribution).pvalue > 0.01
    x = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    slopes = np.gradient(distribution(x.numpy()), x.numpy())
    np.testing.assert_allclose(data.density(x)[1:-1], slopes[1:-1], atol=1e-3)
    assert float(torch.trapezoid(data.density(x), x)) == pytest.approx(1, abs=1e-4)


def test_splits_differ_and_depend_on_the_draw_seed_alone() -> None:
    drawn: list[list[float]] = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(drawn))
        data = GaussianMixture(num_train=500, num_val=300, draw_seed=seed)
        for stage in ("fit", "test"):
            data.setup(stage)
        drawn += [data.splits[name][0].flatten().tolist() for name in ("train", "val", "test")]
    assert drawn[:3] == drawn[3:6]
    assert [len(part) for part in drawn[:3]] == [500, 300, 300]
    different = [set(part) for part in (*drawn[:3], *drawn[6:])]
    assert len(set.union(*different)) >= sum(map(len, different)) - 2


def test_batches_are_shuffled_in_training_and_in_order_in_validation() -> None:
    data = GaussianMixture(num_train=100, num_val=50, batch_size=20)
    training = torch.cat([batch[0] for batch in data.train_dataloader()]).flatten()
    ordered = data.splits["train"][0].flatten()
    assert not torch.equal(training, ordered) and torch.equal(training.sort().values, ordered.sort().values)
    validation = torch.cat([batch[0] for batch in data.val_dataloader()])
    assert torch.equal(validation, data.splits["val"][0])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"means": [0.0], "stds": [0.1, 0.1]}, "means, stds and weights have 1, 2 and 1 values; give one of each"),
        ({"means": [], "stds": []}, "have 0, 0 and 0 values"),
        ({"means": [0.0], "stds": [0.0]}, r"stds is \[0.0\]; it must be > 0"),
        ({"means": [0.7], "stds": [0.1]}, r"mean 0.7 and standard deviation 0.1, but its mean ± 4 .* must lie in"),
        ({"weights": [0.5, 0.6]}, r"weights is \[0.5, 0.6\]; it must be > 0, with sum 1"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"draw_seed": -1}, "draw_seed is -1; it must be at least 0"),
    ],
)
def test_refusals(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        GaussianMixture(**settings)
