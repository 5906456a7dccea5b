"""The distributions of W&B sweep files, translated to those that Optuna samples from.

Optuna has uniform, log-uniform and integer ranges and categories. Every other distribution is searched by its quantile
u, uniform on [0, 1], and the value is F⁻¹(u), the inverse of the cumulative distribution function. So samples have
exactly that distribution, and a sampler that learns (TPE, Gaussian process) works on an axis with a flat prior.

Names, keys and defaults: https://docs.wandb.ai/models/sweeps/sweep-config-keys.
"""

import json
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from common.errors import UserError

_RANGE = ("min", "max")
_KEYS: dict[str, tuple[str, ...]] = {  # required by each distribution
    "constant": ("value",),
    "categorical": ("values",),
    "categorical_w_probabilities": ("values", "probabilities"),
    "int_uniform": _RANGE,
    "uniform": _RANGE,
    "q_uniform": _RANGE,
    "log_uniform": _RANGE,
    "log_uniform_values": _RANGE,
    "q_log_uniform": _RANGE,
    "q_log_uniform_values": _RANGE,
    "inv_log_uniform": _RANGE,
    "inv_log_uniform_values": _RANGE,
    "normal": (),
    "q_normal": (),
    "log_normal": (),
    "q_log_normal": (),
    "beta": (),
    "q_beta": (),
}
_DEFAULTS: dict[str, float] = {"mu": 0.0, "sigma": 1.0, "a": 1.0, "b": 1.0, "q": 1}  # an integer q gives integers
_LARGEST_EXPONENT = 700.0  # e^709 is the largest number that a float holds
_LARGEST = 1e100  # so that ranges, and numbers of multiples in them, are floats
_LARGEST_INTEGER = 2**63 - 1  # of a range that Optuna samples from
_PLAUSIBLE_EXPONENT = 20.0  # e^20 is half a billion; a larger exponent is a value by mistake
_TAIL = 1e-12  # quantiles closer to 0 or 1 are those at this distance: a normal distribution has no ends
_MAX_GRID = 10_000  # values of one parameter, each of which is in the record of each trial


@dataclass(frozen=True)
class Distribution:
    """Distribution of one parameter.

    Attributes:
        name: W&B's name, such as "log_uniform_values".
        settings: Its keys: `value`, `values` with `probabilities`, `min` and `max`, `mu` and `sigma`, `a` and `b`, `q`.
    """

    name: str
    settings: dict[str, Any]

    @property
    def optuna(self) -> BaseDistribution:
        """The distribution that Optuna samples from: of the values where it has one, else of the quantile in [0, 1]."""
        low: Any = self.settings.get("min")
        high: Any = self.settings.get("max")
        match self.name:
            case "categorical":
                return CategoricalDistribution([json.dumps(value) for value in self.settings["values"]])
            case "int_uniform":
                return IntDistribution(low, high)
            case "uniform":
                return FloatDistribution(low, high)
            case "log_uniform_values" | "inv_log_uniform_values":
                return FloatDistribution(low, high, log=True)
            case "log_uniform":
                return FloatDistribution(math.exp(low), math.exp(high), log=True)
            case _:
                return FloatDistribution(0.0, 1.0)

    def value(self, sampled: Any) -> Any:
        """Returns the parameter's value for a sample from `optuna`."""
        match self.name:
            case "categorical":
                return json.loads(sampled)
            case "int_uniform" | "uniform" | "log_uniform_values" | "inv_log_uniform_values" | "log_uniform":
                return sampled
            case "categorical_w_probabilities":
                cumulative = 0.0
                for value, probability in zip(self.settings["values"], self.settings["probabilities"], strict=True):
                    cumulative += probability
                    if sampled < cumulative:
                        return value
                return self.settings["values"][-1]
        x = self._from_quantile(min(max(sampled, _TAIL), 1 - _TAIL))
        if not self.name.startswith("q_"):
            return x
        q = self.settings.get("q", _DEFAULTS["q"])
        rounded = round(x / q) * q
        return rounded if isinstance(q, int) else round(rounded, 12)  # 0.3, not 0.30000000000000004

    def _from_quantile(self, u: float) -> float:
        """Inverse of the cumulative distribution function, before rounding to multiples of q."""
        setting = {**_DEFAULTS, **self.settings}
        match self.name.removeprefix("q_"):
            case "uniform":
                return setting["min"] + u * (setting["max"] - setting["min"])
            case "log_uniform":
                return math.exp(setting["min"] + u * (setting["max"] - setting["min"]))
            case "inv_log_uniform":  # log(1/x) is uniform
                return math.exp(-(setting["min"] + u * (setting["max"] - setting["min"])))
            case "log_uniform_values":
                return setting["min"] * (setting["max"] / setting["min"]) ** u
            case "normal":
                return NormalDist(setting["mu"], setting["sigma"]).inv_cdf(u)
            case "log_normal":
                exponent = NormalDist(setting["mu"], setting["sigma"]).inv_cdf(u)
                return math.exp(min(exponent, _LARGEST_EXPONENT))
            case "beta":
                from scipy.special import betaincinv

                return float(betaincinv(setting["a"], setting["b"], u))
        raise AssertionError(self.name)

    @property
    def size(self) -> float:
        """Number of distinct values, without listing them; infinite for a continuous distribution."""
        match self.name:
            case "constant":
                return 1
            case "categorical" | "categorical_w_probabilities":
                return len(self.settings["values"])
            case "int_uniform":
                return int(self.settings["max"] - self.settings["min"] + 1)
        if not self.name.startswith("q_"):
            return math.inf
        q = self.settings.get("q", _DEFAULTS["q"])
        return 1 + abs(round(self._from_quantile(1 - _TAIL) / q) - round(self._from_quantile(_TAIL) / q))

    def representatives(self) -> list[Any]:
        """Returns a sample as from `optuna` for each value; values of a probability below 1e-4 may be missing."""
        match self.optuna:
            case CategoricalDistribution() as categorical:
                return list(categorical.choices)
            case IntDistribution() as integers:
                return list(range(integers.low, integers.high + 1))
        quantiles = [(k + 0.5) / 10_000 for k in range(10_000)]
        return list({json.dumps(self.value(u)): u for u in quantiles}.values())

    def grid(self) -> list[Any]:
        """Returns all values in order, for a grid search.

        Raises:
            ValueError: If the distribution is continuous, or has too many values.
        """
        if math.isfinite(self.size) and self.size > _MAX_GRID:
            raise UserError(
                f"has {self.size:,} values, more than the {_MAX_GRID:,} that a grid covers; give fewer, or use the "
                "method random."
            )
        low: Any = self.settings.get("min")
        high: Any = self.settings.get("max")
        match self.name:
            case "constant":
                return [self.settings["value"]]
            case "categorical" | "categorical_w_probabilities":
                return list(self.settings["values"])
            case "int_uniform":
                return list(range(low, high + 1))
            case "q_uniform":
                q = self.settings.get("q", 1)
                first, last = round(low / q), round(high / q)
                return [k * q if isinstance(q, int) else round(k * q, 12) for k in range(first, last + 1)]
        raise UserError(
            f"has the continuous distribution {self.name}, which a grid can't cover; give values, int_uniform or "
            "q_uniform, or use another method."
        )

    @property
    def as_categorical(self) -> "Distribution":
        """The categorical distribution of the same values, for a grid search.

        Raises:
            ValueError: If the distribution is continuous.
        """
        return self if self.name == "constant" else Distribution("categorical", {"values": self.grid()})

    @property
    def examples(self) -> list[Any]:
        """Every category, or both ends of the range."""
        if "values" in self.settings:
            return list(self.settings["values"])
        if self.name == "constant":
            return [self.settings["value"]]
        sampled = self.optuna
        assert isinstance(sampled, FloatDistribution | IntDistribution)
        return [self.value(sampled.low), self.value(sampled.high)]


def read_distribution(settings: dict[str, Any]) -> Distribution:
    """Reads a parameter's entry in a sweep file; without `distribution` the keys imply it, as in W&B.

    Raises:
        ValueError: If the distribution is unknown, or keys are missing, unknown or out of range. The message continues
            a sentence that begins with the parameter's name.
    """
    name = settings.get("distribution") or _implied_name(settings)
    if not isinstance(name, str) or name not in _KEYS:
        raise UserError(f"has the unknown distribution {name!r}; give one of {', '.join(_KEYS)}.")
    rest = {key: value for key, value in settings.items() if key != "distribution"}
    missing = [key for key in _KEYS[name] if key not in rest]
    if missing:
        raise UserError(f"has the distribution {name} but no {' and no '.join(missing)}; add it.")
    optional = {"normal": ("mu", "sigma"), "beta": ("a", "b")}.get(name.split("_")[-1], ())
    known = (*_KEYS[name], *optional, *(("q",) if name.startswith("q_") else ()))
    unknown = [key for key in rest if key not in known]
    if unknown:
        accepted = ", ".join(known)
        quantized = f"q_{name.removeprefix('int_')}" if unknown[0] == "q" else ""
        hint = f", or the distribution {quantized}" if quantized in _KEYS else ""
        raise UserError(f"has the key {unknown[0]!r}, unknown for the distribution {name}; give only {accepted}{hint}.")
    _check_settings(name, rest)
    distribution = Distribution(name, rest)
    if name.startswith("q_") and distribution.size < 2:
        value = distribution.value(0.5)
        raise UserError(f"has q {rest.get('q', 1)}, by which every value is rounded to {value}; give a smaller q.")
    return distribution


def _implied_name(settings: dict[str, Any]) -> str:
    if "value" in settings:
        return "constant"
    if "values" in settings:
        return "categorical_w_probabilities" if "probabilities" in settings else "categorical"
    if "min" in settings and "max" in settings:
        whole = all(isinstance(settings[key], int) and not isinstance(settings[key], bool) for key in _RANGE)
        return "int_uniform" if whole else "uniform"
    if "mu" in settings or "sigma" in settings:
        return "normal"
    raise UserError("has none of value, values, min and max, and distribution; give one of them.")


def _check_settings(name: str, settings: dict[str, Any]) -> None:
    for key in ("min", "max", "mu", "sigma", "a", "b", "q"):
        if key in settings and (isinstance(settings[key], bool) or not isinstance(settings[key], int | float)):
            raise UserError(f"has {key} {settings[key]!r}, which is not a number{_yaml_hint(settings[key])}.")
        if key in settings and not math.isfinite(settings[key]):
            raise UserError(f"has {key} {settings[key]}; it must be finite.")
        if key in settings and (abs(settings[key]) > _LARGEST or (key == "q" and 0 < settings[key] < 1 / _LARGEST)):
            raise UserError(f"has {key} {settings[key]:.4g}; it must be between 1e-100 and 1e100 in size.")
    if "values" in settings:
        values = settings["values"]
        if not isinstance(values, list) or not values:
            raise UserError(f"has values {values!r}; it must be a list with at least one value.")
        for value in values:
            _check_value(value)
            if isinstance(value, str) and _yaml_hint(value):
                raise UserError(f"has the value {value!r}, which is text{_yaml_hint(value)}.")
        if len({_identity(value) for value in values}) < len(values):
            raise UserError(f"has values {values}, with duplicates; give each value once.")
    if "value" in settings:
        _check_value(settings["value"])
    if "probabilities" in settings:
        probabilities = settings["probabilities"]
        valid = isinstance(probabilities, list) and all(isinstance(p, int | float) and p >= 0 for p in probabilities)
        if not valid or len(probabilities) != len(settings["values"]) or not abs(sum(probabilities) - 1) <= 1e-6:
            raise UserError(f"has probabilities {probabilities}; give one for each value, and let them sum to 1.")
        if 0 in probabilities:
            never = settings["values"][probabilities.index(0)]
            raise UserError(f"has the value {never!r} with probability 0; remove both.")
    low, high = settings.get("min"), settings.get("max")
    if low is not None and high is not None:
        _check_bounds(name, low, high)
    for key in ("sigma", "a", "b", "q"):
        if key in settings and settings[key] <= 0:
            raise UserError(f"has {key} {settings[key]}; it must be greater than 0.")
    mu = settings.get("mu", 0.0)
    if name.endswith("log_normal") and (abs(mu) > _PLAUSIBLE_EXPONENT or 0 < mu < 0.1):  # rates and widths as values
        raise UserError(
            f"has mu {settings['mu']}, the mean of the value's natural logarithm; give the logarithm of the value "
            "that you mean."
        )


def _check_value(value: Any) -> None:
    """Refuses what YAML reads as a date or another type that a command line can't carry."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        raise UserError(
            f"has the value {value}, which YAML reads as a {type(value).__name__}; write it in quotes, or as a "
            "number, text or list."
        ) from None


def _identity(value: Any) -> str:
    """Returns a text that is equal for equal values: 1 and 1.0 are, 1 and true are not."""
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value, sort_keys=True)


def _check_bounds(name: str, low: float, high: float) -> None:
    if low >= high:
        raise UserError(f"has min {low} and max {high}; min must be smaller than max.")
    if name == "int_uniform":
        if not (isinstance(low, int) and isinstance(high, int)):
            raise UserError(f"has min {low} and max {high}; both must be whole numbers for int_uniform.")
        if max(abs(low), abs(high)) > _LARGEST_INTEGER:
            raise UserError(f"has min {low} and max {high}; they must be within ±(2^63 − 1).")
    if name.endswith("_values"):
        if low <= 0:
            exponents = f" ({name.removesuffix('_values')} takes exponents of e)" if low < 0 else ""
            raise UserError(f"has min {low}; it must be greater than 0 for {name}{exponents}.")
        return
    if "log_uniform" not in name:
        return
    first, last = (-high, -low) if name.startswith("inv_") else (low, high)  # exponents of the values
    if (low >= 0 and high <= 1) or last > _PLAUSIBLE_EXPONENT or abs(first) > _LARGEST_EXPONENT:
        ends = " to ".join(f"{math.exp(min(x, _LARGEST_EXPONENT)):.4g}" for x in (first, last))
        raise UserError(
            f"has min {low} and max {high}, which are exponents of e: {name} draws values from {ends}; use "
            f"{name}_values, whose min and max are the values."
        )


def _yaml_hint(text: Any) -> str:
    """How to write a number that YAML reads as text, such as 1e-4; empty for any other value."""
    try:
        number = float(text) if isinstance(text, str) else math.nan
    except ValueError:
        return ""
    if not math.isfinite(number):
        return ""
    mantissa, _, exponent = f"{number:g}".partition("e")
    if exponent:
        exponent, mantissa = f"e{exponent}", mantissa if "." in mantissa else f"{mantissa}.0"
    return f" to YAML: write {mantissa}{exponent}"
