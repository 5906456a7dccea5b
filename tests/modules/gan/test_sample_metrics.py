"""Metrics of sample quality against scipy's matrix square root, closed forms and hand computation."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from modules.gan.sample_metrics import frechet_distance, histogram_kl, mean_confidence


def by_scipy(first: np.ndarray, second: np.ndarray) -> float:
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    difference = first.mean(0) - second.mean(0)
    return float(difference @ difference + np.trace(a) + np.trace(b) - 2 * np.trace(sqrtm(a @ b)).real)


@pytest.mark.parametrize("sizes", [(300, 200, 12), (50, 400, 30), (2000, 2000, 64)])
def test_frechet_distance_equals_the_definition(sizes: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(sum(sizes))
    n, m, d = sizes
    first = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)
    second = rng.normal(size=(m, d)) @ rng.normal(size=(d, d))
    got = frechet_distance(torch.from_numpy(first), torch.from_numpy(second))
    assert got == pytest.approx(by_scipy(first, second), rel=1e-8)
    assert got == pytest.approx(frechet_distance(torch.from_numpy(second), torch.from_numpy(first)), rel=1e-8)


def test_frechet_distance_of_independent_features_is_that_of_their_means_and_deviations() -> None:
    """Σ (μ₁ − μ₂)² + (σ₁ − σ₂)², exactly, for features that are made to be uncorrelated in the sample."""
    n, d = 400, 10
    basis = np.linalg.qr(np.column_stack([np.ones(n), np.random.default_rng(0).normal(size=(n, 2 * d))]))[0][:, 1:]
    one, two = basis[:, :d] * np.sqrt(n - 1), basis[:, d:] * np.sqrt(n - 1)  # means 0, covariances the identity
    s1, s2, m1, m2 = (np.random.default_rng(k).uniform(0.1, 3, d) for k in range(4))
    got = frechet_distance(torch.from_numpy(one * s1 + m1), torch.from_numpy(two * s2 + m2))
    assert got == pytest.approx(((m1 - m2) ** 2 + (s1 - s2) ** 2).sum(), rel=1e-10)


def test_frechet_distance_of_the_same_images_is_0_even_where_features_never_vary() -> None:
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(100, 8)))
    features[:, 3] = 0
    features[:, 5] = features[:, 4]
    assert frechet_distance(features, features.flip(0)) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(features.float(), features.float() + 2) == pytest.approx(8 * 4, rel=1e-5)
    assert frechet_distance(features[:, :1], 3 * features[:, :1]) == pytest.approx(
        4 * float(features[:, 0].var() + features[:, 0].mean() ** 2)
    )


def test_frechet_distance_refuses_too_few_images_and_values_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="at least 2 images on each side, not 1 and 5"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3))
    with pytest.raises(ValueError, match="contain NaN or inf"):
        frechet_distance(torch.full((3, 3), torch.nan), torch.zeros(5, 3))


def test_histogram_kl() -> None:
    generated, real = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 2, 0, 1, 1, 2])  # ¾ ¼ 0 and ¼ ½ ¼
    expected = 0.75 * np.log(3) + 0.25 * np.log(0.5)
    assert histogram_kl(generated, real, 3) == pytest.approx(expected, abs=1e-12)
    assert histogram_kl(real, real.flip(0), 4) == 0  # a class that neither has counts nothing
    assert histogram_kl(torch.tensor([3]), real, 4) == float("inf")


def test_mean_confidence() -> None:
    logits = torch.tensor([[0.0, 0.0], [np.log(3), 0.0]], dtype=torch.float64)
    assert mean_confidence(logits) == pytest.approx((0.5 + 0.75) / 2)
