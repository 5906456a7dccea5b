"""Run and sweep folders as `pipelines.train` and `pipelines.sweep` write them, for tests of the comparison."""

import csv
import fcntl
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from pipelines.compare import main
from pipelines.comparison.find_runs import find_runs
from pipelines.comparison.group import Group
from pipelines.comparison.ranking import Comparison, compare

_KEYS = {"model": "model", "data": "data", "reg": "model.reg", "lr": "optimizer.lr", "optimizer": "optimizer",
         "callbacks": "trainer.callbacks", "seed": "seed_everything"}  # fmt: skip


def write_run(
    folder: Path,
    accuracy: Sequence[float | str] = (0.5,),
    state: str = "finished",
    reason: str | None = None,
    pictures: Sequence[str] = (),
    **settings: Any,
) -> Path:
    """Writes a run's folder as `pipelines.train fit` does.

    Args:
        folder: Folder of the run.
        accuracy: The monitored metric after each epoch of ten steps.
        state: State in status.json.
        reason: Reason in status.json.
        pictures: Series of which to draw two steps.
        settings: Changes of the configuration: model, data, reg, lr, optimizer, callbacks, seed, monitor, mode; most
            are also in the command, unless that is given as `command`.
    """
    optimizer = settings.get("optimizer", "torch.optim.SGD")
    own = {"momentum": 0.9} if optimizer.endswith("SGD") else {"betas": [0.9, 0.999], "eps": 1e-8}
    config = {
        "seed_everything": settings.get("seed", 0),
        "trainer": {"max_epochs": len(accuracy), "default_root_dir": str(folder),
                    "callbacks": settings.get("callbacks")},
        "model": {"class_path": f"modules.{settings.get('model', 'SoftmaxRegression')}",
                  "init_args": {"reg": settings.get("reg", 0.01)}},
        "data": {"class_path": f"datamodules.{settings.get('data', 'Digits')}", "init_args": {"batch_size": 32}},
        "optimizer": {"class_path": optimizer, "init_args": {"lr": settings.get("lr", 0.1), **own}},
        "checkpoint": {"monitor": settings.get("monitor", "val/accuracy"), "mode": settings.get("mode", "max"),
                       "dirpath": f"{folder}/checkpoints"},
    }  # fmt: skip
    metric = str(settings.get("monitor", "val/accuracy"))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("# lightning.pytorch==2.6.6\n" + yaml.safe_dump(config))
    with (folder / "metrics.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, ["step", metric, "epoch", "train/loss"], restval="")
        rows.writeheader()
        for epoch, value in enumerate(accuracy):
            rows.writerow({"step": 10 * epoch + 4, "train/loss": 2 / (epoch + 1), "epoch": epoch})
            rows.writerow({"step": 10 * epoch + 9, metric: value, "epoch": epoch})
    times = {"started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T10:03:20+00:00"}
    given = [f"--{_KEYS[name]} {value}" for name, value in settings.items() if name in _KEYS]
    command = settings.get("command", f"python -m pipelines.train fit --trainer.max_epochs 1 {' '.join(given)}")
    status = {"state": state, "reason": reason, "command": command, "host": "here", "pid": 1, **times}
    (folder / "status.json").write_text(json.dumps(status, indent=1))
    for index, name in enumerate(pictures):
        for step in (9, 10 * len(accuracy)):
            file_ = folder / "pictures" / name / f"{step:08d}.png"
            file_.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_mandelbrot((810, 432), (-2, -1.5, 1 + step / 100, 1.5), 60 + index).convert("RGB").save(file_)
    return folder


class RunningRun:
    """A run whose process is alive: this one holds the lock on its status."""

    def __init__(self, folder: Path, *accuracy: float, **settings: Any) -> None:
        self.folder = write_run(folder, accuracy, "running", **settings)
        self._status = (folder / "status.json").open()
        fcntl.flock(self._status, fcntl.LOCK_EX)
        self._epoch = len(accuracy)

    def log(self, accuracy: float) -> None:
        with (self.folder / "metrics.csv").open("a") as file:
            file.write(f"{10 * self._epoch + 9},{accuracy},{self._epoch},\n")
        self._epoch += 1

    def end(self, state: str = "finished") -> None:
        status = json.loads((self.folder / "status.json").read_text())
        (self.folder / "status.json").write_text(json.dumps({**status, "state": state}))
        self.kill()

    def kill(self) -> None:
        self._status.close()


def write_sweep(logs: Path, name: str = "first", goal: str = "maximize", metric: str = "val/accuracy") -> Path:
    folder = logs / "sweeps" / name
    folder.mkdir(parents=True)
    content = {
        "name": f"{name} try", "method": "random", "metric": {"name": metric, "goal": goal},
        "parameters": {"optimizer.lr": {"min": 1e-4, "max": 1.0, "distribution": "log_uniform_values"}},
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    (folder / "journal.log").write_text("")
    return folder


def compared(*targets: Path | str, sort: str | None = None) -> Comparison:
    texts = [str(target) for target in targets]
    return compare(find_runs(texts), texts, sort)


def ranked(*targets: Path | str, sort: str | None = None) -> Group:
    """The only group of runs."""
    (group,) = compared(*targets, sort=sort).groups
    return group


def order(comparison: Comparison | Group) -> list[str]:
    return [run.run_id for run in comparison.runs]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence with which a command line ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    output = capsys.readouterr().err
    assert output.startswith("error: ") and output.count("\n") == 1
    return output
