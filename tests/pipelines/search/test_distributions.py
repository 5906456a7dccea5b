"""Each distribution against the definition on W&B's page, by scipy's own distribution functions."""

import datetime
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from scipy import stats

from common.errors import UserError
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


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"value": [1, 2]}, 1),
        ({"values": [1, "a", True, None]}, 4),
        ({"min": 0, "max": 2**32 - 1}, 2**32),
        ({"min": -3, "max": 3}, 7),
        ({"min": 0.0, "max": 1.0}, math.inf),
        ({"distribution": "q_uniform", "min": 0.1, "max": 0.3, "q": 0.1}, 3),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 100, "q": 10}, 11),  # 0 to 100
        ({"distribution": "q_normal", "sigma": 0.1}, 3),  # -1, 0 and 1, seven standard deviations out
    ],
)
def test_the_number_of_values_is_known_without_listing_them(settings: dict[str, Any], size: float) -> None:
    distribution = read_distribution(settings)
    tracemalloc.start()
    assert distribution.size == size
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_each_value_has_a_sample_that_gives_it() -> None:
    for settings, values in (
        ({"min": 3, "max": 5}, [3, 4, 5]),
        ({"values": ["a", None]}, ["a", None]),
        ({"values": ["a", "b", "c"], "probabilities": [0.001, 0.9, 0.099]}, ["a", "b", "c"]),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 30, "q": 10}, [0, 10, 20, 30]),
    ):
        distribution = read_distribution(settings)
        assert [distribution.value(sample) for sample in distribution.representatives()] == values


def _refused(settings: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        read_distribution(settings)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "low", "high", "ends"),
    [
        ("log_uniform", 1e-4, 1e-1, "1 to 1.105"),
        ("log_uniform", 0, 1, "1 to 2.718"),
        ("log_uniform", 32, 512, "7.896e+13 to 2.284e+222"),
        ("q_log_uniform", 1e-3, 1.0, "1.001 to 2.718"),
        ("inv_log_uniform", 1e-4, 1e-1, "0.9048 to 0.9999"),
    ],
)
def test_values_where_exponents_belong_are_doubted(name: str, low: float, high: float, ends: str) -> None:
    sentence = _refused({"distribution": name, "min": low, "max": high})
    assert f"exponents of e: {name} draws values from {ends}; use {name}_values" in sentence


@pytest.mark.parametrize(("low", "high"), [(-9.21, -2.3), (-10, 0), (0, 3), (-1, 1), (0.5, 3.0)])
def test_exponents_are_not_doubted(low: float, high: float) -> None:
    assert read_distribution({"distribution": "log_uniform", "min": low, "max": high}).examples == pytest.approx(
        [math.exp(low), math.exp(high)]
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"values": [1, 2.0, 2]}, "with duplicates"),
        ({"values": [datetime.date(2026, 1, 1)]}, "2026-01-01, which YAML reads as a date"),
        ({"value": datetime.datetime(2026, 1, 1)}, "which YAML reads as a datetime"),
        ({"value": {1, 2}}, "which YAML reads as a set"),
        ({"values": [1, 2], "probabilities": [1, 0]}, "has the value 2 with probability 0"),
        ({"values": [1, 2], "probabilities": [math.nan, 1.0]}, "sum to 1"),
        ({"min": 1, "max": 256, "q": 32}, "give only min, max, or the distribution q_uniform"),
        ({"distribution": "log_uniform_values", "min": -10, "max": -1}, "(log_uniform takes exponents of e)"),
        ({"distribution": "q_log_uniform_values", "min": 1e-4, "max": 0.1}, "every value is rounded to 0; give a sm"),
        ({"distribution": "q_log_normal", "mu": 0.001}, "mean of the value's natural logarithm"),
        ({"distribution": "log_normal", "mu": 128}, "mean of the value's natural logarithm"),
        ({"min": 0, "max": 2**64}, "within ±(2^63 − 1)"),
        ({"min": None, "max": 1}, "has min None, which is not a number"),
        ({"distribution": ["uniform"], "min": 0, "max": 1}, "unknown distribution ['uniform']"),
        ({"min": -1e308, "max": 1e308}, "has min -1e+308; it must be between 1e-100 and 1e100 in size"),
        ({"distribution": "q_uniform", "min": 0, "max": 1.0, "q": 1e-300}, "has q 1e-300; it must be between"),
        ({"min": "inf", "max": 1}, "has min 'inf', which is not a number."),
    ],
)
def test_what_can_t_be_meant_is_said(settings: dict[str, Any], message: str) -> None:
    if settings.get("min") is None and "min" in settings:
        settings = {**settings, "distribution": "uniform"}
    assert message in _refused(settings)


def test_1_and_true_are_two_values() -> None:
    assert read_distribution({"values": [1, True, 0, False, None, "null"]}).size == 6


def test_a_grid_does_not_list_billions() -> None:
    with pytest.raises(ValueError, match="has 4,294,967,296 values, more than the 10,000 that a grid covers"):
        _ = read_distribution({"min": 0, "max": 2**32 - 1}).as_categorical


def test_multiples_of_an_integer_are_integers() -> None:
    for settings, kind in (({}, int), ({"q": 4}, int), ({"q": 4.0}, float)):
        values = _draw({"distribution": "q_uniform", "min": 1, "max": 100, **settings}).tolist()
        assert {type(value) for value in values} == {kind}
