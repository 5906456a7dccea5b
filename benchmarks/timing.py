"""Timing shared by the benchmarks: alternating rounds, and ratios within a round.

On a machine with other load, absolute rates drift from minute to minute. So all variants run in turn, A, B, C, A, B, C,
…, in one process, and the result is the ratio within each round: its median, smallest and largest value.

Rates are per second of CPU time of this process, which other programs hardly affect; a variant with worker processes is
measured by wall time, and so is every comparison with it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time

import torch

from common.errors import UserError


@dataclass(frozen=True)
class Clock:
    """A point in time or a duration: CPU time of this process and wall time, in seconds."""

    cpu: float
    wall: float

    @staticmethod
    def now() -> "Clock":
        return Clock(process_time(), perf_counter())

    def __sub__(self, earlier: "Clock") -> "Clock":
        return Clock(self.cpu - earlier.cpu, self.wall - earlier.wall)


@dataclass(frozen=True)
class Rate:
    """Images, steps or other items per second, by both clocks."""

    cpu: float
    wall: float

    @staticmethod
    def of(count: int, time: Clock) -> "Rate":
        return Rate(count / max(time.cpu, 1e-9), count / max(time.wall, 1e-9))


@dataclass(frozen=True)
class Summary:
    """Median, smallest and largest value over the rounds."""

    median: float
    smallest: float
    largest: float

    @staticmethod
    def of(values: list[float]) -> "Summary":
        return Summary(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:6.2f} ({self.smallest:.2f}-{self.largest:.2f})"


@dataclass(frozen=True)
class Variant:
    """One implementation that is compared.

    Attributes:
        measure: Function that runs it once and returns its rate.
        by_wall: Whether it is measured by wall time, because it starts processes whose CPU time is not counted.
    """

    measure: Callable[[], Rate]
    by_wall: bool = False


class Comparison:
    """Measures the rates of variants over alternating rounds.

    Args:
        variants: Variants by name; each round runs them in this order.
        rounds: Number of rounds, ≥ 1.

    Raises:
        ValueError: If there are no rounds.
    """

    def __init__(self, variants: Mapping[str, Variant], rounds: int) -> None:
        if rounds < 1:
            raise UserError(f"rounds is {rounds}; it must be at least 1.")
        self.variants = dict(variants)
        self.rates: dict[str, list[Rate]] = {name: [] for name in variants}
        for _ in range(rounds):
            for name, variant in variants.items():
                self.rates[name].append(variant.measure())

    def rate(self, name: str) -> float:
        """Returns the median rate of a variant."""
        by_wall = self.variants[name].by_wall
        return median(rate.wall if by_wall else rate.cpu for rate in self.rates[name])

    def ratio(self, name: str, reference: str, by_wall: bool = False) -> Summary:
        """Returns the rate of a variant divided by that of `reference`, within each round."""
        by_wall = by_wall or self.variants[name].by_wall or self.variants[reference].by_wall
        pairs = zip(self.rates[name], self.rates[reference], strict=True)
        return Summary.of([one.wall / other.wall if by_wall else one.cpu / other.cpu for one, other in pairs])


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs torch on one thread, so that CPU time measures speed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
