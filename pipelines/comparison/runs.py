"""One run read from its folder, however it ended: what is missing or damaged is said in words, never raised."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import yaml

from pipelines.run_folder import RunFolder
from pipelines.settings import flat_settings
from pipelines.status import State, Status, read_status

Goal = Literal["maximize", "minimize"]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where PyYAML was built with it
_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")  # 1e-3, which YAML 1.1 takes for a word
_FILES = ("config.yaml", "metrics.csv", "status.json")


class Point(NamedTuple):
    """One logged value: at which step and in which epoch (None where the row has none)."""

    step: int
    epoch: float | None
    value: float


@dataclass(frozen=True)
class Curve:
    """One metric over a run, by step.

    Attributes:
        points: every logged value, nan and inf included.
    """

    points: tuple[Point, ...]

    @property
    def last(self) -> Point:
        return self.points[-1]

    def best(self, goal: Goal) -> Point | None:
        """The first of the best values; None if not one is finite."""
        sign = 1 if goal == "maximize" else -1
        finite = [point for point in self.points if math.isfinite(point.value)]
        return max(finite, key=lambda point: (sign * point.value, -point.step)) if finite else None

    def thinned(self, most: int) -> list[Point]:
        """At most `most` (≥ 4) of the points: first, last, and the extremes of equal stretches between."""
        if len(self.points) <= most:
            return list(self.points)
        first, *middle, last = self.points
        stretches = (most - 2) // 2
        kept = [first]
        rest = iter(middle)
        for i in range(stretches):
            size = (i + 1) * len(middle) // stretches - i * len(middle) // stretches
            stretch = list(islice(rest, size))
            by_value = [point for point in stretch if math.isfinite(point.value)] or stretch
            low, high = (choose(by_value, key=lambda point: point.value) for choose in (min, max))
            kept += sorted({low, high}, key=lambda point: point.step)
        return [*kept, last]


@dataclass(frozen=True)
class Run:
    """What a run's folder holds.

    Attributes:
        folder: `<logs>/<topic>/<run id>`.
        status: how it ended.
        settings: flat, spelt as on the command line.
        curves: by metric, in the order of metrics.csv.
        pictures: the newest of each series, by name such as "confusion/val".
        written: when metrics.csv was last written; None without one.
        problems: what is missing or damaged, in words.
    """

    folder: Path
    status: Status = field(default_factory=Status)
    settings: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)
    written: datetime | None = None
    problems: tuple[str, ...] = ()

    @property
    def run_id(self) -> str:
        return RunFolder(self.folder).run_id

    @property
    def topic(self) -> str:
        return RunFolder(self.folder).topic

    @property
    def monitor(self) -> tuple[str, Goal] | None:
        """The headline metric of its own configuration."""
        name = self.settings.get("checkpoint.monitor")
        if not isinstance(name, str):
            return None
        return name, "minimize" if self.settings.get("checkpoint.mode") == "min" else "maximize"

    @property
    def seconds(self) -> float | None:
        """How long it took; until now if it runs, until its last figure if it was killed."""
        started, ended = _time(self.status.started), _time(self.status.ended)
        if self.status.state == "running":
            ended = datetime.now(UTC)
        ended = ended or self.written
        return max(0.0, (ended - started).total_seconds()) if started and ended else None

    @property
    def remark(self) -> str:
        """Why it failed or stopped, and what is wrong with its files; empty for most runs."""
        reason = [self.status.reason.rstrip(": ")] if self.status.reason else []  # an error may come without words
        return "; ".join([*reason, *self.problems])


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, be it a damaged one."""
    return any((folder / name).is_file() for name in _FILES)


def read_run(folder: Path) -> Run:
    """Reads a run's folder; whatever can't be read becomes one of its `problems`."""
    problems: list[str] = []
    settings = _read_settings(folder / "config.yaml", problems)
    curves = _read_curves(folder / "metrics.csv", problems)
    try:
        written = datetime.fromtimestamp((folder / "metrics.csv").stat().st_mtime, UTC)
    except OSError:
        written = None
    return Run(
        folder, _known(read_status(folder)), settings, curves, _newest_pictures(folder), written, tuple(problems)
    )


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        OSError: it can't be opened.
        ValueError: it holds something else.
    """
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _LOADER)
    except yaml.YAMLError as error:
        raise ValueError(f"{file.name} is no YAML") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} holds no settings")
    return {str(key): value for key, value in content.items()}


def _read_settings(file: Path, problems: list[str]) -> dict[str, Any]:
    try:
        flat = flat_settings(read_yaml(file))
    except FileNotFoundError:
        problems.append("config.yaml is missing")
        return {}
    except (OSError, ValueError, TypeError, AttributeError):
        problems.append("config.yaml can't be read")
        return {}
    spread: dict[str, Any] = {}
    for key, value in flat.items():
        spread |= _spread(key, value)
    return spread


def _spread(key: str, value: Any) -> dict[str, Any]:
    """A list of classes, such as the callbacks, as their names and a key for each of their settings."""
    if isinstance(value, list) and value and all(isinstance(item, dict) and "class_path" in item for item in value):
        names = [str(item["class_path"]).rsplit(".", 1)[-1] for item in value]
        spread: dict[str, Any] = {key: ", ".join(names)}
        for name, item in zip(names, value, strict=True):
            arguments = item.get("init_args")
            spread |= flat_settings(arguments, f"{key}.{name}.") if isinstance(arguments, dict) else {}
        return spread
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        return {key: float(value)}
    return {key: value}


def _read_curves(file: Path, problems: list[str]) -> dict[str, Curve]:
    """Every column but step and epoch; lines that a kill cut short are left out."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        problems.append("metrics.csv is missing")
        return {}
    except OSError:
        problems.append("metrics.csv can't be read")
        return {}
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
        del lines[-1]  # its last number may lack digits
    try:
        header, *rows = csv.reader(lines)
    except (ValueError, csv.Error):  # not even a header
        problems.append("metrics.csv is empty")
        return {}
    if "step" not in header:
        problems.append("metrics.csv has no column step")
        return {}
    points: dict[str, list[Point]] = {name: [] for name in header if name not in ("step", "epoch", "")}
    for row in rows:
        _read_row(header, row, points)
    curves = {
        name: Curve(tuple(sorted(found, key=lambda point: point.step))) for name, found in points.items() if found
    }
    if not curves:
        problems.append("metrics.csv has no figures yet")
    return curves


def _read_row(header: Sequence[str], row: Sequence[str], points: dict[str, list[Point]]) -> None:
    if len(row) != len(header):
        return
    cells = dict(zip(header, row, strict=True))
    step = _number(cells["step"])
    if step is None or not math.isfinite(step):
        return
    epoch = _number(cells.get("epoch", ""))
    epoch = epoch if epoch is not None and math.isfinite(epoch) else None
    for name, found in points.items():
        value = _number(cells[name]) if cells[name] else None
        if value is not None:
            found.append(Point(int(step), epoch, value))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _newest_pictures(folder: Path) -> dict[str, Path]:
    """`pictures/<series>/<step>.png`: the highest step of each series."""
    root = folder / "pictures"
    newest: dict[str, Path] = {}
    for file in sorted(root.rglob("*.png")):  # steps are padded with zeros
        if file.parent != root:
            newest[file.parent.relative_to(root).as_posix()] = file
    return newest


def _known(status: Status) -> Status:
    """A status whose fields are what they should be; "unknown" if they are not."""
    texts = (status.reason, status.command, status.started, status.ended)
    sound = status.state in get_args(State) and all(isinstance(text, str | None) for text in texts)
    return status if sound else Status()


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
