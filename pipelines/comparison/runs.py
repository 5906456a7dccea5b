"""Reads runs from their folders, however they ended: missing or damaged files are described, not raised."""

import re
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from common.errors import UserError
from common.yaml_text import load_yaml, read_yaml_file
from pipelines.run.run_folder import RunFolder
from pipelines.run.status import State, Status, read_status
from pipelines.tracking.curves import Curve, Goal, read_curves
from pipelines.tracking.flat_settings import flat_settings, flatten_classes

_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")  # 1e-3, which YAML 1.1 reads as text
RUN_FILES = ("config.yaml", "metrics.csv", "status.json")


@dataclass(frozen=True)
class Run:
    """The content of a run's folder.

    Attributes:
        folder: Folder `<logs>/<topic>/<run id>`.
        status: State, reason and times of the run.
        settings: Settings by dotted key, as on the command line.
        curves: Curves by metric, in the order of metrics.csv.
        pictures: Newest picture of each series by name, such as "confusion/val".
        written: Time at which metrics.csv was last written; None without the file.
        problems: Descriptions of what is missing or damaged.
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
    def data(self) -> str:
        """Class of its data set, such as "CIFAR10"; empty if its configuration could not be read."""
        return str(self.settings.get("data") or "")

    @property
    def monitor(self) -> tuple[str, Goal] | None:
        """Monitored metric of its configuration (`checkpoint.monitor`) and its goal."""
        name = self.settings.get("checkpoint.monitor")
        if not isinstance(name, str):
            return None
        return name, "minimize" if self.settings.get("checkpoint.mode") == "min" else "maximize"

    @property
    def seconds(self) -> float | None:
        """Duration: up to now if it is running, up to the last logged value if it was killed."""
        started, ended = _time(self.status.started), _time(self.status.ended)
        if self.status.state == "running":
            ended = datetime.now(UTC)
        ended = ended or self.written
        return max(0.0, (ended - started).total_seconds()) if started and ended else None

    @property
    def remark(self) -> str:
        """Why it failed or stopped, and problems of its files; empty for most runs."""
        reason = [self.status.reason.rstrip(": ")] if self.status.reason else []  # an error may have no message
        return "; ".join([*reason, *self.problems])


def is_run(folder: Path) -> bool:
    """Returns whether a folder is a run's, even if files are missing."""
    return any((folder / name).is_file() for name in RUN_FILES)


def read_run(folder: Path) -> Run:
    """Reads a run's folder; what can't be read is described in `problems`."""
    problems: list[str] = []
    status = _valid(read_status(folder))  # first, so that of a run that has ended everything is read
    settings = _read_settings(folder / "config.yaml", problems)
    curves = _read_curves(folder / "metrics.csv", problems)
    try:
        written = datetime.fromtimestamp((folder / "metrics.csv").stat().st_mtime, UTC)
    except OSError:
        written = None
    return Run(folder, status, settings, curves, _newest_pictures(folder), written, tuple(problems))


def read_yaml(file: Path) -> dict[str, Any]:
    """Reads a YAML file that contains a mapping.

    Raises:
        OSError: If it can't be opened.
        ValueError: If it is not YAML, or not a mapping.
    """
    content = load_yaml(read_yaml_file(file), file.name)
    if not isinstance(content, dict):
        raise UserError(f"{file.name} contains no settings")
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
    settings: dict[str, Any] = {}
    for key, value in flat.items():
        if key.startswith("trainer.logger") or (key == "trainer.callbacks" and value == []):
            continue  # where it is tracked; no callbacks, like those that only draw
        settings |= {name: _number(value) for name, value in flatten_classes(key, value).items()}
    return settings


def _number(value: Any) -> Any:
    """Returns a value with text such as 1e-3 as the number that it means."""
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    if isinstance(value, int) and value.bit_length() >= sys.float_info.max_exp:
        return str(value)  # no float is as large
    return value


def _read_curves(file: Path, problems: list[str]) -> dict[str, Curve]:
    try:
        curves = read_curves(file)
    except FileNotFoundError:
        problems.append("metrics.csv is missing")
    except OSError:
        problems.append("metrics.csv can't be read")
    except ValueError as error:
        problems.append(str(error))
    else:
        if not curves:
            problems.append("metrics.csv has no values yet")
        return curves
    return {}


def _newest_pictures(folder: Path) -> dict[str, Path]:
    """Returns the file with the highest step of each series, `pictures/<series>/<step>.png`."""
    root = folder / "pictures"
    newest: dict[str, Path] = {}
    for file in sorted(root.rglob("*.png")):  # steps are padded with zeros
        if file.parent != root:
            newest[file.parent.relative_to(root).as_posix()] = file
    return newest


def _valid(status: Status) -> Status:
    """The status if all its fields have valid types, else one with the state "unknown"."""
    texts = (status.reason, status.command, status.started, status.ended)
    valid = status.state in get_args(State) and all(isinstance(text, str | None) for text in texts)
    return status if valid else Status()


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
