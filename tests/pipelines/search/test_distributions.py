"""Each distribution against the definition on W&B's page, by scipy's own distribution functions."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipelines.search.distributions import read_distribution

_U = (np.arange(2000) + 0.5) / 2000  # quantiles


def _draw(settings: dict[str, Any]) -> np.ndarray:
    """2,000 values at equal steps of what Optuna samples from."""
    distribution = read_distribution(settings)
    sampled: Any = distribution.optuna
    low, high = sampled.low, sampled.high
    axis = low * (high / low) ** _U if sampled.log else low + (high - low) * _U
    return np.array([distribution.value(float(x)) for x in axis])


_BOUNDS = {"min": 0.5, "max": 3.0}


@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        ({"distribution": "uniform", **_BOUNDS}, stats.uniform(0.5, 2.5)),
        ({"distribution": "log_uniform_values", **_BOUNDS}, stats.loguniform(0.5, 3.0)),
        ({"distribution": "inv_log_uniform_values", **_BOUNDS}, stats.loguniform(0.5, 3.0)),
        ({"distribution": "log_uniform", **_BOUNDS}, stats.loguniform(np.exp(0.5), np.exp(3.0))),
        ({"distribution": "inv_log_uniform", **_BOUNDS}, stats.loguniform(np.exp(-3.0), np.exp(-0.5))),
        ({"distribution": "normal", "mu": 2.0, "sigma": 0.5}, stats.norm(2.0, 0.5)),
        ({"distribution": "log_normal", "mu": 0.3, "sigma": 0.5}, stats.lognorm(0.5, scale=np.exp(0.3))),
        ({"distribution": "beta", "a": 2.0, "b": 5.0}, stats.beta(2.0, 5.0)),
    ],
)
def test_continuous_ones_have_the_stated_distribution_function(settings: dict[str, Any], reference: Any) -> None:
    values = np.sort(_draw(settings))
    assert np.abs(reference.cdf(values) - _U).max() < 1e-6


@pytest.mark.parametrize("name", ["uniform", "log_uniform", "log_uniform_values", "normal", "log_normal", "beta"])
def test_q_rounds_to_multiples(name: str) -> None:
    bounds = _BOUNDS if "uniform" in name else {}
    rounded = _draw({"distribution": f"q_{name}", "q": 0.25, **bounds})
    plain = _draw({"distribution": name, **bounds})
    assert np.abs(np.round(rounded / 0.25) * 0.25 - rounded).max() < 1e-9
    assert np.abs(np.sort(rounded) - np.sort(plain)).max() <= 0.125 + 1e-9


def test_probabilities_are_kept() -> None:
    values = _draw({"values": [1, 2, 3], "probabilities": [0.2, 0.5, 0.3]})
    assert [(values == value).mean() for value in (1, 2, 3)] == pytest.approx([0.2, 0.5, 0.3], abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"value": 1}, "constant"),
        ({"values": [1]}, "categorical"),
        ({"min": 1, "max": 3}, "int_uniform"),
        ({"min": 1.0, "max": 3}, "uniform"),
        ({"mu": 1.0}, "normal"),
    ],
)
def test_the_keys_imply_the_distribution(settings: dict[str, Any], name: str) -> None:
    assert read_distribution(settings).name == name


def test_categories_keep_their_types() -> None:
    distribution = read_distribution({"values": [None, True, 1, 1.5, "a", [64, 32]]})
    sampled: Any = distribution.optuna
    assert [distribution.value(choice) for choice in sampled.choices] == [None, True, 1, 1.5, "a", [64, 32]]


def test_an_unknown_distribution_is_answered_with_all_that_wandb_has() -> None:
    with pytest.raises(ValueError, match="unknown distribution 'zipf'") as error:
        read_distribution({"distribution": "zipf"})
    logs = {f"{prefix}log_uniform{suffix}" for prefix in ("", "q_", "inv_") for suffix in ("", "_values")}
    both = {f"{prefix}{name}" for prefix in ("", "q_") for name in ("uniform", "normal", "log_normal", "beta")}
    others = {"constant", "categorical", "categorical_w_probabilities", "int_uniform"}
    assert set(str(error.value).partition("give one of ")[2].rstrip(".").split(", ")) == logs | both | others


def test_grids_of_ranges() -> None:
    assert read_distribution({"min": 1, "max": 3}).grid() == [1, 2, 3]
    assert read_distribution({"distribution": "q_uniform", "min": 0.1, "max": 0.3, "q": 0.1}).grid() == [0.1, 0.2, 0.3]
