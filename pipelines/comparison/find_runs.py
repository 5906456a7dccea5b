"""Which runs are meant by what a person types: folders, names of runs, topics and sweeps below `logs/`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from common.errors import UserError
from pipelines.comparison.runs import is_run, read_yaml
from pipelines.run.run_folder import as_typed
from pipelines.tracking.curves import Goal

LOGS = Path("logs")


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder, `<logs>/sweeps/<sweep id>/`.

    Attributes:
        folder: holds `sweep.yaml`.
        name: as its file says, by default the id.
        method: such as "bayes"; empty if the file can't be read.
        metric: what the search looked at; None if the file does not say.
        goal: of the metric.
    """

    folder: Path
    name: str
    method: str = ""
    metric: str | None = None
    goal: Goal = "minimize"  # as W&B takes a metric without a goal

    @property
    def sweep_id(self) -> str:
        return self.folder.resolve().name

    def number(self, run_id: str) -> int | None:
        """Which of its trials a run is, from 0 on; None if the run is not the sweep's."""
        found = re.fullmatch(rf"{re.escape(self.sweep_id)}-(\d{{4,}})", run_id)
        return int(found[1]) if found else None

    def runs(self) -> list[Path]:
        """The folders of its runs, in the order of their numbers."""
        logs = as_typed(self.folder.resolve().parent.parent)
        found = [
            (number, folder)
            for folder in logs.glob("*/*/")
            if (number := self.number(folder.name)) is not None and is_run(folder)
        ]
        return [folder for _, folder in sorted(found)]


@dataclass(frozen=True)
class Found:
    """What was meant.

    Attributes:
        folders: of the runs, each once.
        sweeps: those that were named.
    """

    folders: tuple[Path, ...]
    sweeps: tuple[Sweep, ...]


def find(targets: Sequence[str]) -> Found:
    """The runs and sweeps meant by folders or names.

    Args:
        targets: each a run's folder, a topic's, a sweep's, one that holds such folders, or a name below `logs/`.

    Raises:
        ValueError: one of them is a file, is not there or holds no run.
    """
    folders: dict[Path, Path] = {}
    sweeps: dict[Path, Sweep] = {}
    for target in targets:
        for place in _places(target):
            if (place / "sweep.yaml").is_file():
                sweep = read_sweep(place)
                sweeps.setdefault(place.resolve(), sweep)
                runs = sweep.runs()
                if not runs:
                    raise UserError(f"The sweep {sweep.sweep_id} has no run yet; start its trials first.")
            else:
                runs = [place] if is_run(place) else _below(place)
            for run in runs:
                folders.setdefault(run.resolve(), run)
    return Found(tuple(folders.values()), tuple(sweeps.values()))


def read_sweep(folder: Path) -> Sweep:
    """A sweep's folder; what its file doesn't say is left at its default."""
    try:
        content = read_yaml(folder / "sweep.yaml")
    except (OSError, ValueError):
        content = {}
    metric: Any = content.get("metric")
    metric = metric if isinstance(metric, dict) else {}
    name = metric.get("name")
    return Sweep(
        folder,
        str(content.get("name") or folder.resolve().name),
        str(content.get("method") or ""),
        name if isinstance(name, str) else None,
        "maximize" if metric.get("goal") == "maximize" else "minimize",
    )


def _places(target: str) -> list[Path]:
    """The folders that a target may mean: itself, or what has that name below `logs/`.

    Raises:
        ValueError: there is none.
    """
    given = Path(target)
    named = [LOGS / "sweeps" / target, LOGS / target, *sorted(LOGS.glob(f"*/{target}/"))] if _is_name(target) else []
    for place in (given, *named):
        if place.is_dir() and ((place / "sweep.yaml").is_file() or is_run(place)):
            return [place]
        if place.is_dir() and place.name == "sweeps" and _sweeps_in(place):
            return _sweeps_in(place)
        if place.is_dir() and _below(place):
            return [place]
    if given.is_dir():
        raise UserError(
            f"{given} has neither config.yaml nor runs below it; give a run's folder, a topic's such as logs/softmax, "
            "or a sweep's."
        )
    if given.exists():
        raise UserError(f"{target} is a file; give the folder of a run, of a topic or of a sweep.")
    known = [folder.name for pattern in ("*/", "*/*/") for folder in LOGS.glob(pattern)]
    near = get_close_matches(given.name, known, 1)
    hint = f"did you mean {near[0]}?" if near else "give a folder, or the name of a run, topic or sweep below ./logs."
    raise UserError(f"There is no {target}; {hint}")


def _is_name(target: str) -> bool:
    """Whether it may be looked for below `logs/`: no pattern, no way out of it."""
    return bool(target) and not re.search(r"[*?\[\]]", target) and not Path(target).is_absolute() and ".." not in target


def _below(folder: Path) -> list[Path]:
    """The runs in a topic's folder or in `logs`; W&B's and Python's own folders are none."""
    return [run for pattern in ("*/", "*/*/") for run in sorted(folder.glob(pattern)) if is_run(run)]


def _sweeps_in(folder: Path) -> list[Path]:
    return [place for place in sorted(folder.iterdir()) if (place / "sweep.yaml").is_file()]
