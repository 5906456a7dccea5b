"""Distributes a sweep over a Ray cluster: each launcher is a Ray task with the GPUs and cores of one trial.

The launchers share one sweep folder, just as those of several machines without Ray do, so `show`, `best` and `compare`
work in the same way, and a killed launcher loses no more than without Ray. Ray decides where a launcher runs, reserves
its GPUs and cores, and restarts it elsewhere if its machine is lost.
"""

import contextlib
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.errors import UserError
from pipelines.console.signals import interrupt_on_signals
from pipelines.search.launcher import run_search, trial_line
from pipelines.search.search import Search, Trial

_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 5.0
_LOST_SECONDS = 30.0  # without an answer the head counts as lost; Ray itself would end this process after 60
_END_SECONDS = 15.0  # that launchers have to end their trials after Ctrl-C


def check_ray(address: str | None) -> None:
    """Checks within seconds that Ray is installed and its cluster answers; Ray's own check takes minutes.

    Args:
        address: HOST:PORT of a cluster's head; None for a cluster of this machine alone.

    Raises:
        ValueError: If Ray is not installed, or nothing listens at the address.
    """
    if find_spec("ray") is None:
        raise UserError(
            "Ray is not installed; run `pip install -r requirements-ray.txt`, or search with --engine local."
        )
    if address is not None and not _answers(address):
        raise UserError(
            f"No Ray cluster answers at --address {address}; give HOST:PORT as `ray start --head` printed it."
        )


def run_on_ray(
    search: Search,
    address: str | None = None,
    parallel: int | None = None,
    gpus_per_trial: int | None = None,
    cpus_per_trial: int = 1,
) -> None:
    """Runs trials of a sweep on a Ray cluster until none is left to start.

    All machines must see the sweep's folder and this project under the same paths.

    Args:
        search: The sweep.
        address: HOST:PORT of the cluster's head; None starts a cluster of this machine alone, which listens on loopback
            and ends with the sweep.
        parallel: Number of trials at a time, ≥ 1; None for as many as fit on the cluster now. Those that do not fit
            wait in Ray's queue, so that an autoscaler adds machines for them.
        gpus_per_trial: Number of GPUs of each trial, ≥ 1; None for 1 if the cluster has GPUs, else 0.
        cpus_per_trial: Number of cores of each trial, ≥ 1.

    Raises:
        ValueError: If Ray can't be used, no machine has the GPUs and cores of one trial, a machine does not see the
            folder, or no run logs the metric.
        ConnectionError: If the cluster's head is lost; its trials can be adopted.
        KeyboardInterrupt: After Ctrl-C; likewise.
    """
    with _connected(address):
        import ray
        from ray.exceptions import RayError, RayTaskError

        gpus = gpus_per_trial if gpus_per_trial is not None else int("GPU" in ray.cluster_resources())
        capacity = _capacity(gpus, cpus_per_trial)
        if not capacity:
            raise UserError(
                f"No machine of this Ray cluster has {cpus_per_trial} cores and {gpus} GPUs, as --cpus-per-trial "
                "and --gpus-per-trial require; give less."
            )
        # As an argument rather than in a runtime_env, which Ray displays: they may contain an API key.
        settings = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
        # max_retries: a launcher whose machine is lost is restarted elsewhere, and adopts the trial.
        launch = ray.remote(num_cpus=cpus_per_trial, num_gpus=gpus, max_retries=-1)(_launch)
        launchers = [launch.remote(search.folder, max(gpus, 1), settings) for _ in range(parallel or capacity)]
        try:
            _follow(search, launchers)
        except RayTaskError as error:
            if isinstance(error.cause, ValueError):  # a UserError of the launcher
                raise UserError(str(error.cause)) from error
            raise
        except RayError as error:
            raise UserError(f"The Ray cluster failed ({' '.join(str(error).split())[:200]}).") from error
        except KeyboardInterrupt:
            _cancel(launchers)
            raise


def _launch(folder: Path, gpus_per_trial: int, settings: dict[str, str]) -> None:
    """Runs a launcher of one trial at a time, on a machine of the cluster."""
    if not folder.is_dir():
        raise UserError(
            f"{os.uname().nodename} does not see {folder}; start the sweep in a folder that all machines share."
        )
    os.environ.update(settings)
    interrupt_on_signals()
    run_search(Search(folder), parallel=1, gpus_per_trial=gpus_per_trial)


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connects to Ray, with token authentication, for the duration of the context."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if address is None:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's setting to listen on loopback alone
    import ray

    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # ConnectionError, RuntimeError, AuthenticationError and others, by version
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        if address is None:
            raise UserError(f"Ray did not start ({reason}); search with --engine local.") from error
        raise UserError(
            f"Ray at {address} can't be used ({reason}); set RAY_AUTH_TOKEN to the token with which the cluster was "
            "started."
        ) from error
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own handler ends the process without a message
    try:
        yield
    finally:
        ray.shutdown()


def _capacity(gpus: int, cpus: int) -> int:
    """Returns how many trials fit on the cluster's machines at a time."""
    import ray

    capacity = 0
    for node in ray.nodes():
        if node["Alive"]:
            resources = node["Resources"]
            fits = int(resources.get("CPU", 0) // cpus)
            capacity += min(fits, int(resources.get("GPU", 0) // gpus)) if gpus else fits
    return capacity


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _follow(search: Search, launchers: list[Any]) -> None:
    """Prints each trial that ends until all launchers have ended; raises an exception of any of them."""
    import ray

    printed = {trial.number for trial in _ended_trials(search)}
    waiting = launchers
    head = ray.get_runtime_context().gcs_address
    last_answer = time.monotonic()
    while waiting:
        ended, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_POLL_SECONDS)
        if time.monotonic() - last_answer > _ANSWER_SECONDS and _answers(head):
            last_answer = time.monotonic()
        if time.monotonic() - last_answer > _LOST_SECONDS:
            raise ConnectionError("The Ray cluster's head is gone. No trial is lost: restart the head, then resume.")
        for trial in _ended_trials(search):
            if trial.number not in printed:
                printed.add(trial.number)
                print(trial_line(search, trial), flush=True)
        ray.get(ended)


def _ended_trials(search: Search) -> list[Trial]:
    ended = [trial for trial in search.trials() if trial.state not in ("running", "interrupted")]
    return sorted(ended, key=lambda trial: trial.number)


def _cancel(launchers: list[Any]) -> None:
    """Interrupts the launchers as Ctrl-C does and waits for them; any that remain end with the connection."""
    import ray

    for launcher in launchers:
        ray.cancel(launcher)
    deadline = time.monotonic() + _END_SECONDS
    waiting = launchers
    while waiting and time.monotonic() < deadline:
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_POLL_SECONDS)
