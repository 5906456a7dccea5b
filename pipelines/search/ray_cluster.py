"""Spreads a sweep over a Ray cluster: Ray places launchers, each with a trial's share of a machine.

The launchers work on one folder just as those of several machines without Ray do, so what a sweep is, what survives a
kill and what `show`, `best` and `compare` read is the same. Ray decides where a launcher runs, holds its GPUs and
cores, and starts it anew elsewhere when its machine is lost.
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
from pipelines.search.launcher import line, run_search
from pipelines.search.search import Search, Trial

_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 5.0
_LOST_SECONDS = 30.0  # without an answer from the head; Ray itself would end this process after 60
_END_SECONDS = 15.0  # for launchers to end their trials after Ctrl-C


def check_ray(address: str | None) -> None:
    """Finds at once what would keep Ray from working; Ray itself takes minutes.

    Args:
        address: HOST:PORT of a cluster's head, or None.

    Raises:
        ValueError: Ray is not installed, or nothing listens at the address.
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
    """Works on a sweep with the machines of a Ray cluster until nothing is left to start.

    All machines must see the sweep's folder and this project under the same paths.

    Args:
        search: the sweep.
        address: HOST:PORT of the cluster's head; None for a cluster of this machine alone, started and ended here,
            that listens on loopback.
        parallel: how many trials at a time; None for as many as the cluster has room for now. More than that wait in
            Ray's queue, which makes a cluster that grows by itself grow.
        gpus_per_trial: None for one where the cluster has GPUs.
        cpus_per_trial: 1 or more.

    Raises:
        ValueError: no connection, a cluster with too little of something, a machine that does not see the folder, or a
            metric that no run logs.
        ConnectionError: the cluster's head is gone; trials that ran are up for adoption.
        KeyboardInterrupt: Ctrl-C; likewise.
    """
    with _connected(address):
        import ray
        from ray.exceptions import RayError, RayTaskError

        gpus = gpus_per_trial if gpus_per_trial is not None else int("GPU" in ray.cluster_resources())
        room = _room(gpus, cpus_per_trial)
        if not room:
            raise UserError(
                f"No machine of this Ray cluster has {cpus_per_trial} cores and {gpus} GPUs, which --cpus-per-trial "
                "and --gpus-per-trial ask for; give less."
            )
        # As an argument, for Ray shows a runtime_env, and these may hold a key.
        settings = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
        # A machine that is lost takes its launcher along: a new one adopts its trial.
        place = ray.remote(num_cpus=cpus_per_trial, num_gpus=gpus, max_retries=-1)(_launch)
        launchers = [place.remote(search.folder, max(gpus, 1), settings) for _ in range(parallel or room)]
        try:
            _follow(search, launchers)
        except RayTaskError as error:
            if isinstance(error.cause, ValueError):  # a launcher's own sentence
                raise UserError(str(error.cause)) from error
            raise
        except RayError as error:
            raise UserError(f"The Ray cluster failed ({' '.join(str(error).split())[:200]}).") from error
        except KeyboardInterrupt:
            _cancel(launchers)
            raise


def _launch(folder: Path, gpus_per_trial: int, settings: dict[str, str]) -> None:
    """What runs on the cluster's machines."""
    if not folder.is_dir():
        raise UserError(
            f"{os.uname().nodename} does not see {folder}; give the cluster's machines a folder that they share."
        )
    os.environ.update(settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_search(Search(folder), parallel=1, gpus_per_trial=gpus_per_trial)


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Within it Ray is connected; every connection must prove that it knows the cluster's token."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if address is None:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's own way to have it listen on loopback alone
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
            f"Ray at {address} can't be used ({reason}); RAY_AUTH_TOKEN must be the token with which the cluster was "
            "started."
        ) from error
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own, which ends the process without a word
    try:
        yield
    finally:
        ray.shutdown()


def _room(gpus: int, cpus: int) -> int:
    """How many trials fit on the cluster's machines at a time."""
    import ray

    room = 0
    for node in ray.nodes():
        if node["Alive"]:
            resources = node["Resources"]
            fits = int(resources.get("CPU", 0) // cpus)
            room += min(fits, int(resources.get("GPU", 0) // gpus)) if gpus else fits
    return room


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _follow(search: Search, launchers: list[Any]) -> None:
    """Prints each trial that ends, until all launchers have; raises what one of them raises."""
    import ray

    told = {trial.number for trial in _ended(search)}
    waiting = launchers
    head = ray.get_runtime_context().gcs_address
    heard = time.monotonic()
    while waiting:
        ended, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_POLL_SECONDS)
        if time.monotonic() - heard > _ANSWER_SECONDS and _answers(head):
            heard = time.monotonic()
        if time.monotonic() - heard > _LOST_SECONDS:
            raise ConnectionError("The Ray cluster's head is gone. No trial is lost: start it again, then resume.")
        for trial in _ended(search):
            if trial.number not in told:
                told.add(trial.number)
                print(line(search, trial), flush=True)
        ray.get(ended)


def _ended(search: Search) -> list[Trial]:
    ended = [trial for trial in search.trials() if trial.state not in ("running", "interrupted")]
    return sorted(ended, key=lambda trial: trial.number)


def _cancel(launchers: list[Any]) -> None:
    """Has the launchers end as by Ctrl-C; what is left after a while ends with the connection."""
    import ray

    for launcher in launchers:
        ray.cancel(launcher)
    deadline = time.monotonic() + _END_SECONDS
    waiting = launchers
    while waiting and time.monotonic() < deadline:
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_POLL_SECONDS)
