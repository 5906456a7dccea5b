"""Messages of a run when it starts, stops or ends, printed by rank 0."""

import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, Protocol, runtime_checkable

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from common.commands import command
from pipelines.checkpoints.already_finished import longer
from pipelines.checkpoints.best_checkpoint import BestCheckpoint
from pipelines.checkpoints.recorded_settings import Changes
from pipelines.console.formatting import count
from pipelines.console.outputs import print_report
from pipelines.run.predictions import PredictionsCSV
from pipelines.run.run_folder import RunFolder, as_typed
from pipelines.run.stop_signals import Stopped
from pipelines.tracking.wandb_files import unsent_files

_P = ParamSpec("_P")


@runtime_checkable
class HasSummary(Protocol):
    """Data that a run describes when it starts."""

    def summary(self) -> list[str]:
        """Returns lines with the numbers of samples and classes."""
        ...


def _of_a_run(message: Callable[_P, None]) -> Callable[_P, None]:
    """Prints a message on rank 0; one that can't be printed, since nobody reads it any more, does not end the run."""

    @rank_zero_only
    @wraps(message)
    def printed(*args: _P.args, **kwargs: _P.kwargs) -> None:
        with suppress(OSError):
            message(*args, **kwargs)

    return printed


@_of_a_run
def print_started(
    subcommand: str,
    model: LightningModule,
    data: LightningDataModule,
    trainer: Trainer,
    seed: Any,
    run_folder: RunFolder | None,
) -> None:
    """Prints model, data, devices, seed and folder in one line."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    noun = "parameter" if total == 1 else "parameters"
    of_total = f" of {total:,}" if 0 < trained < total else ""
    print(
        f"{subcommand}: {type(model).__name__}, {trained:,}{of_total} {noun}, on {type(data).__name__}; "
        f"{trainer.world_size} × {trainer.strategy.root_device.type}, seed {seed}"
        + (f"; {as_typed(run_folder.path)}" if run_folder else "")
    )
    if isinstance(data, HasSummary) and subcommand != "predict":  # which needs none of the data
        print("\n".join(data.summary()))


@_of_a_run
def print_precision(changed: str | None) -> None:
    """Prints that the run uses another precision than its configuration, if it does."""
    if changed is not None:
        print(f"precision: {changed}")


@_of_a_run
def print_unbounded(settings: Mapping[str, Any]) -> None:
    """Prints how long a run is whose configuration does not say it, such as one that lost its `trainer` section."""
    unset = settings["max_epochs"] is None and settings["max_time"] is None and settings["max_steps"] in (-1, None)
    if unset and not settings["fast_dev_run"]:
        print("length: no trainer.max_epochs, max_steps or max_time is set, so the run has Lightning's 1,000 epochs")


@_of_a_run
def print_changes(changes: Changes | None) -> None:
    """Prints the settings that a resumed run changes, if there are any."""
    if changes:
        print("changed: " + ", ".join(f"{key} {old} → {new}" for key, (old, new) in changes.items()))


@rank_zero_only
def print_already_finished(reason: str, trainer: Trainer, checkpoint: Path) -> None:
    """Prints that a run is not resumed since it has reached its end, and the command that trains it longer."""
    run_folder = RunFolder.of_checkpoint(checkpoint)
    more = longer(trainer)
    if "EarlyStopping" in reason:
        what = "train it longer with a larger patience in its config.yaml, or without EarlyStopping"
    else:
        path = as_typed(run_folder.path if run_folder else checkpoint)
        what = f"train it longer with: {command('train', 'fit', '--ckpt_path', path)} {more}"
    print(f"already finished: {reason}; {what}")


@_of_a_run
def print_branched(checkpoint: Path, step: int, run: RunFolder, reached: int) -> None:
    """Prints that training goes on in a new run, because its own has later results than the checkpoint."""
    print(
        f"{as_typed(checkpoint)} is from step {step}, and its run has reached step {reached}: training goes on from "
        f"there as a new run, and {as_typed(run.path)} keeps its results"
    )


@_of_a_run
def print_stopped(stopped: Stopped, run_folder: RunFolder | None, step: int | None) -> None:
    """Prints what stopped a run, and the command that continues a `fit`.

    Args:
        stopped: The signal that stopped it.
        run_folder: Folder of a `fit`; None for other commands.
        step: Step at which it stopped, if it had begun.
    """
    if run_folder is None:
        print(f"Stopped by {stopped.reason}.", file=sys.stderr)
    elif run_folder.last.is_file():
        at = "" if step is None else f" at step {step}"
        resume = command("train", "fit", "--ckpt_path", as_typed(run_folder.path))
        print(f"Stopped{at} by {stopped.reason}; continue with: {resume}", file=sys.stderr)
    else:
        print(f"Stopped by {stopped.reason} before the first checkpoint.", file=sys.stderr)


@_of_a_run
def print_fitted(model: LightningModule, trainer: Trainer, run_folder: RunFolder) -> None:
    """Prints the best metric, the folder and the commands that come next."""
    best = next((callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestCheckpoint)), None)
    if best is not None and best.best_model_score is not None:
        print(f"best {best.monitor}  {float(best.best_model_score):.4f}  ({as_typed(run_folder.best)})")
    elif best is not None and best.save_top_k != 0 and not run_folder.best.is_file():
        print("best.ckpt          none: no epoch was validated and met the conditions of --checkpoint")
    print(f"run folder         {as_typed(run_folder.path)}")
    if unsent := unsent_files(run_folder.path):  # each start of the run has its own
        print(f"send it to W&B     wandb sync {shlex.join(str(as_typed(folder)) for folder in unsent)}")
    if best is None:
        print("checkpoints        none, as --trainer.enable_checkpointing is false")
        return
    if not run_folder.last.is_file():
        return  # nothing was trained
    print(f"test it            {command('train', 'test', '--ckpt_path', as_typed(run_folder.path))}")
    if not any(p.requires_grad for p in model.parameters()):
        return  # a model that memorizes has nothing more to learn
    more = longer(trainer)
    if more is not None:
        print(f"train it longer    {command('train', 'fit', '--ckpt_path', as_typed(run_folder.path))} {more}")
    else:
        print("train it longer    with a larger patience of EarlyStopping in config.yaml, and --ckpt_path as above")


@rank_zero_only
def print_metrics(trainer: Trainer, prefix: str) -> None:
    """Prints the metrics whose names begin with `prefix`, one per line."""
    for name, value in trainer.callback_metrics.items():
        if name.startswith(prefix):
            print(f"{name:<28} {float(value):.4f}" if "images" not in name else f"{name:<28} {int(value):,}")


@rank_zero_only
def print_predicted(predictions: PredictionsCSV) -> None:
    """Prints the number of predicted images, the file, and what was left out."""
    print_report(predictions.report)
    if predictions.only is not None:
        print(predictions.only)
    print(f"{count(len(predictions.rows) - predictions.num_unreadable, 'image')} predicted: {predictions.file}")
