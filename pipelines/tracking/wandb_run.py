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
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from pipelines.tracking.wandb_login import PROJECT, reachable, server_name, wandb_mode

_INIT_SECONDS = 10.0  # for the server to register the run
_FINISH_SECONDS = 60  # for the last uploads


def start_wandb(folder: Path, run_id: str, group: str, config: dict[str, Any]) -> WandbLogger | None:
    """Starts or resumes the W&B run `run_id` with its files in `folder`; returns None if W&B is off.

    Args:
        folder: Folder of the run.
        run_id: Id of the run, the same on W&B and on disk.
        group: Topic, by which the dashboard groups runs.
        config: Flat settings, such as {"model.reg": 0.001}.
    """
    mode = wandb_mode()
    if mode == "disabled":
        return None
    if mode == "online" and not reachable():
        _print(f"W&B at {server_name()} can't be reached: this run is tracked offline.")
        mode = "offline"
    os.environ.setdefault("WANDB_SILENT", "true")  # the run's own summary says what matters
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # wandb's own telemetry, when the server fails
    import wandb  # takes half a second

    settings = wandb.Settings(
        silent=True,
        init_timeout=_INIT_SECONDS,
        finish_timeout=float(os.environ.get("WANDB_FINISH_TIMEOUT", _FINISH_SECONDS)),
        finish_timeout_raises=True,
        stop_fn=_stop,
    )
    arguments: dict[str, Any] = {
        "project": os.environ.get("WANDB_PROJECT", PROJECT),
        "group": os.environ.get("WANDB_RUN_GROUP", group),
        "id": run_id,
        "name": os.environ.get("WANDB_NAME", run_id),
        "dir": str(folder.resolve()),  # a W&B service shared with a parent process has another working folder
        "resume": "allow",
        "settings": settings,
    }
    try:
        run = wandb.init(mode=mode, **arguments)
    except Exception as error:  # whatever the server does, the training continues
        _print(f"W&B did not register the run ({str(error).splitlines()[0]}): it is tracked offline.")
        wandb.teardown()
        os.environ.pop("WANDB_SERVICE", None)  # a service shared with a parent process would still hold the run's id
        run = wandb.init(mode="offline", **arguments)
    if run.url:
        _print(f"W&B: {run.url}")
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step")
    run.config.update(config, allow_val_change=True)
    return _Logger(experiment=run)


def finish_wandb(exit_code: int) -> None:
    """Ends the W&B run, if there is one, as finished (0), failed, or stopped from outside (255)."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        # Without the option only runs that were tracked offline from the start are sent.
        sync = f"wandb sync --include-online {wandb.run.settings.sync_dir}"
        try:
            wandb.run.finish(exit_code=exit_code)
        except TimeoutError:
            _print(f"W&B's server did not take everything in time; send the rest with: {sync}")
        except ConnectionError:
            with contextlib.suppress(ConnectionError):
                wandb.teardown()  # or wandb prints a traceback when this process ends
            _print(f"W&B's service was ended by a signal; send what it has written with: {sync}")


class _Logger(WandbLogger):
    """Drops what is logged after W&B's service has ended: SLURM sends a job's signals to that process too.

    Training still has to write its last checkpoint then, and the other ranks wait for this one.
    """

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(ConnectionError):
            super().log_metrics(*args, **kwargs)

    def log_image(self, *args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(ConnectionError):
            super().log_image(*args, **kwargs)


def _stop() -> None:
    """Handles the dashboard's "stop run" like SIGTERM instead of Ctrl-C."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _print(message: str) -> None:
    print(message, file=sys.stderr)
