"""Tracks a run in Weights & Biases: online if logged in, offline otherwise, off on request.

A run never waits for the network: an unreachable server is noticed within seconds and the run is tracked offline; a
server that fails later costs at most `_FINISH_SECONDS` at the end. `wandb sync` sends what was not uploaded.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from torch import nn

from common.commands import command
from common.errors import UserError
from common.messages.reasons import reason_of
from common.proxy import pass_on_all_proxy
from pipelines.artifacts.model_files import ModelFiles
from pipelines.syncing.arrived import STEP, Arrived
from pipelines.tracking.secrets import without_passwords
from pipelines.tracking.wandb_files import link_files, mark_sent, stage_beside, wandb_dir
from pipelines.tracking.wandb_mode import Mode, logged_in, reachable, server_name
from pipelines.tracking.wandb_options import Watch
from pipelines.tracking.wandb_settings import wandb_setting

_INIT_SECONDS = 10.0  # for the server to register the run
_FINISH_SECONDS = 60  # for the last uploads


def start_wandb(
    folder: Path, run_id: str, arguments: Mapping[str, Any], config: dict[str, Any], mode: Mode
) -> "TrackedRun | None":
    """Starts or resumes the W&B run `run_id` with its files in `folder`; returns None if W&B is off.

    Args:
        folder: Folder of the run.
        run_id: Id of the run, the same on W&B and on disk.
        arguments: Keyword arguments of `wandb.init`, such as {"project": "mine"}, or another id or folder.
        config: Flat settings, such as {"model.reg": 0.001}.
        mode: Whether the run is tracked online, offline or not at all.

    Raises:
        UserError: If W&B refuses its settings, such as the project's name.
    """
    if mode == "disabled":
        return None
    if mode != "offline" and not logged_in():
        _print(f"W&B has no API key for {server_name()}: this run is tracked offline; run `wandb login` for the next.")
        mode = "offline"
    elif mode != "offline" and not reachable():
        _print(f"W&B at {server_name()} can't be reached: this run is tracked offline.")
        mode = "offline"
    silent = wandb_setting("silent")
    os.environ.setdefault("WANDB_SILENT", "true")  # the run's own summary says what matters
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # wandb's own telemetry, when the server fails
    pass_on_all_proxy()
    for name in [name for name, value in os.environ.items() if name.startswith("WANDB_") and not value]:
        del os.environ[name]  # empty is unset; wandb refuses an empty WANDB_MODE
    import wandb  # takes half a second

    def start(mode: Mode) -> Any:
        stop = getattr(threading.current_thread(), "stop_run", _stop)  # a run in a pack has a thread of its own
        settings: dict[str, Any] = {"silent": silent or True, "finish_timeout_raises": True, "stop_fn": stop}
        for name, default in (("init_timeout", _INIT_SECONDS), ("finish_timeout", _FINISH_SECONDS)):
            settings[name] = wandb_setting(name) or default
        # absolute: a W&B service shared with a parent process has another working folder
        own: dict[str, Any] = {"id": run_id, "dir": str((wandb_dir() or folder).resolve())}
        resume = wandb_setting("resume") or "allow"
        return wandb.init(
            mode=mode, resume=cast(Any, resume), settings=wandb.Settings(**settings), **own | dict(arguments)
        )

    try:
        try:
            run = start(mode)
        except (wandb.errors.UsageError, ValueError) as error:
            reason = without_passwords(_reason(error))
            raise UserError(
                f"W&B refuses its settings ({reason}); correct them, or set --wandb.mode disabled."
            ) from None
        except Exception as error:  # whatever the server does, the training continues
            if mode == "offline":
                raise
            _print(f"W&B did not register the run ({_reason(error)}): it is tracked offline.")
            wandb.teardown()
            os.environ.pop("WANDB_SERVICE", None)  # a service shared with a parent process would still hold the id
            run = start("offline")
    except UserError:
        raise
    except Exception as error:  # its service could not start, or its files could not be written
        _print(f"W&B can't track this run ({_reason(error)}): its metrics are in metrics.csv alone.")
        return None
    link_files(folder, Path(run.settings.sync_dir))
    stage_beside(Path(run.settings.sync_dir))
    if run.url:
        _print(f"W&B: {run.url}")
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP)
    run.config.update(config, allow_val_change=True)
    return TrackedRun(experiment=run)


def _reason(error: Exception) -> str:
    """Returns what W&B refuses in one line; its pydantic models say it on several."""
    problems = getattr(error, "errors", None)
    if callable(problems):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems()).rstrip(".")
    return reason_of(error)


def watch(loggers: Sequence[Logger], model: nn.Module, what: Watch, every_n_steps: int) -> None:
    """Records histograms of a model's gradients or parameters, as W&B's `run.watch` does.

    Args:
        loggers: Loggers of the run.
        model: The model, before its first step.
        what: "gradients", "parameters" or "all".
        every_n_steps: Steps between two histograms, ≥ 1; 0 for W&B's own 1000.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.watch(model, log=what, log_freq=every_n_steps or 1000, log_graph=False)


def finish_wandb(loggers: Sequence[Logger], exit_code: int) -> None:
    """Ends the W&B runs of loggers, as finished (0), failed, or stopped from outside (255)."""
    for logger in loggers:
        run: Any = logger._experiment if isinstance(logger, WandbLogger) else None
        if run is None:  # not started
            continue
        if isinstance(logger, TrackedRun):
            logger.log_models()
        sync = command("compare", "upload", run.id)
        try:
            run.finish(exit_code=exit_code)
            if not run.offline:
                mark_sent(Path(run.settings.sync_file))
        except TimeoutError:
            _print(f"W&B's server did not take everything in time; send the rest with: {sync}")
        except ConnectionError:
            with contextlib.suppress(ConnectionError):
                sys.modules["wandb"].teardown()  # or wandb prints a traceback when this process ends
            _print(f"W&B's service was ended by a signal; send what it has written with: {sync}")


class TrackedRun(WandbLogger):
    """Drops what is logged after W&B's service has ended: SLURM sends a job's signals to that process too.

    Training still has to write its last checkpoint then, and the other ranks wait for this one.

    Attributes:
        arrived: What W&B has of a run that goes on, which is not sent again.
        models: Checkpoints that W&B gets; None for none.
    """

    arrived = Arrived()
    models: ModelFiles | None = None

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Sends the checkpoints of each epoch if it is asked for, once last.ckpt, which is written last, is there."""
        if self.models is not None and self.models.each and Path(checkpoint_callback.last_model_path).stem == "last":
            self.log_models()

    def log_models(self) -> None:
        """Sends the checkpoints, unless they were sent already."""
        if self.models is not None:
            try:
                self.models.log(self.experiment)
            except Exception as error:  # the run and its own files are complete without
                _print(f"W&B did not get the checkpoints ({_reason(error)}); they are in the run's folder.")

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if step is not None and self.arrived.has(step, metrics):
            return
        with contextlib.suppress(ConnectionError):
            super().log_metrics(metrics, step)

    def log_image(self, *args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(ConnectionError):
            super().log_image(*args, **kwargs)


def _stop() -> None:
    """Handles the dashboard's "stop run" like SIGTERM instead of Ctrl-C."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _print(message: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it; the run continues
        print(without_passwords(message), file=sys.stderr)
