"""Finds the runs that the user names: by folder, or by the name of a run, topic or sweep under `logs/`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from glob import escape
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.user_paths import user_path
from pipelines.comparison.runs import is_run, read_yaml
from pipelines.run.run_folder import as_typed
from pipelines.tracking.curves import Goal

LOGS = Path("logs")


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder, `<logs>/sweeps/<sweep id>/`.

    Attributes:
        folder: Folder that contains `sweep.yaml`.
        name: Name in the sweep file; by default the sweep's id.
        method: Method, such as "bayes"; empty if the file can't be read.
        metric: Metric that the search optimizes; None if the file has none.
        goal: Goal for that metric.
    """

    folder: Path
    name: str
    method: str = ""
    metric: str | None = None
    goal: Goal = "minimize"  # W&B's default

    @property
    def sweep_id(self) -> str:
        return self.folder.resolve().name

    def number(self, run_id: str) -> int | None:
        """Returns the number of a run's trial, from 0; None if the run is not one of the sweep."""
        match = re.fullmatch(rf"{re.escape(self.sweep_id)}-(\d{{4,}})", run_id)
        return int(match[1]) if match else None

    def runs(self) -> list[Path]:
        """Returns the folders of its runs, by number of the trial."""
        for folder in dict.fromkeys([self.folder.absolute(), self.folder.resolve()]):  # `sweeps` may be a link
            numbered = [
                (number, run)
                for run in as_typed(folder.parent.parent).glob("*/*/")
                if (number := self.number(run.name)) is not None and is_run(run)
            ]
            if numbered:
                return [run for _, run in sorted(numbered)]
        return []


@dataclass(frozen=True)
class FoundRuns:
    """Runs and sweeps that were found.

    Attributes:
        folders: Folders of the runs, each once.
        sweeps: Sweeps that were named, each once.
    """

    folders: tuple[Path, ...]
    sweeps: tuple[Sweep, ...]


def find_runs(targets: Sequence[str], may_be_empty: bool = False) -> FoundRuns:
    """Finds runs and sweeps by folder or name.

    Args:
        targets: Folders of runs, topics or sweeps, folders that contain such folders, or their names under `logs/`.
        may_be_empty: Whether sweeps without runs are accepted.

    Raises:
        ValueError: If a target is a file, does not exist or contains no run.
    """
    folders: dict[Path, Path] = {}
    sweeps: dict[Path, Sweep] = {}
    for target in targets:
        for folder in _candidates(target):
            if (folder / "sweep.yaml").is_file():
                sweep = _read_sweep(folder)
                sweeps.setdefault(folder.resolve(), sweep)
                runs = sweep.runs()
                if not runs and not may_be_empty:
                    raise UserError(f"The sweep {sweep.sweep_id} has no runs yet; start its trials first.")
            else:
                runs = [folder] if is_run(folder) else _runs_in(folder)
            for run in runs:
                folders.setdefault(run.resolve(), run)
    return FoundRuns(tuple(folders.values()), tuple(sweeps.values()))


def _read_sweep(folder: Path) -> Sweep:
    """Reads what is needed of a sweep file; missing or damaged parts get defaults."""
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


def _candidates(target: str) -> list[Path]:
    """The folders of runs, topics or sweeps that a target denotes: its path, or else a folder of that name in `logs/`.

    Raises:
        ValueError: If there are none.
    """
    path = user_path(target)
    named = (
        [LOGS / "sweeps" / target, LOGS / target, *sorted(LOGS.glob(f"*/{escape(target)}/"))]
        if _is_name(target)
        else []
    )
    for folder in (path, *named):
        if folder.is_dir() and ((folder / "sweep.yaml").is_file() or is_run(folder)):
            return [folder]
        if folder.is_dir() and folder.name == "sweeps" and _sweeps_in(folder):
            return _sweeps_in(folder)
        if folder.is_dir() and _runs_in(folder):
            return [folder]
    if path.is_dir():
        raise UserError(
            f"{path} contains neither config.yaml nor runs; give the folder of a run, of a topic such as logs/softmax, "
            "or of a sweep."
        )
    if path.exists():
        raise UserError(f"{target} is a file; give the folder of a run, of a topic or of a sweep.")
    known = [folder.name for pattern in ("*/", "*/*/") for folder in LOGS.glob(pattern)]
    near = get_close_matches(path.name, known, 1)
    hint = f"did you mean {near[0]}?" if near else "give a folder, or the name of a run, topic or sweep in ./logs."
    raise UserError(f"There is no {target}; {hint}")


def _is_name(target: str) -> bool:
    """Returns whether a target is safe to look up under `logs/`: no pattern, no absolute path and no `..`."""
    return bool(target) and not re.search(r"[*?\[\]]", target) and not Path(target).is_absolute() and ".." not in target


def _runs_in(folder: Path) -> list[Path]:
    """The runs in a topic's folder or in `logs`."""
    return [run for pattern in ("*/", "*/*/") for run in sorted(folder.glob(pattern)) if is_run(run)]


def _sweeps_in(folder: Path) -> list[Path]:
    return [sweep for sweep in sorted(folder.iterdir()) if (sweep / "sweep.yaml").is_file()]
