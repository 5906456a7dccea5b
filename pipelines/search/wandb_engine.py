"""Runs a sweep that W&B leads: W&B chooses the points, its own agents start the runs, here and on other machines.

An agent is `wandb agent`, unmodified; the sweep file goes to W&B as it is.
"""

import contextlib
import io
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from pipelines.console.formatting import setting
from pipelines.search.local_machine import shares, visible_gpus
from pipelines.search.watchdog import MARK, Watchdog
from pipelines.tracking.wandb_login import PROJECT, reachable, server_name, wandb_mode

_POLL_SECONDS = 0.2
_END_SECONDS = 15.0  # for agents to end their runs after each signal; a run's own clean end takes a few

Agent = tuple["subprocess.Popen[bytes]", Path]  # and what it prints


def run_on_wandb(
    sweep: Path | str,
    parallel: int | None = None,
    gpus_per_trial: int = 1,
    count: int | None = None,
) -> None:
    """Registers a sweep at W&B and works on it with agents on this machine until it ends.

    Args:
        sweep: a sweep file; or a sweep that is there already, as ENTITY/PROJECT/ID, to lend a hand with it.
        parallel: how many runs at a time; None for one per `gpus_per_trial` GPUs, or one on a machine without.
        gpus_per_trial: each run sees these GPUs and no others.
        count: how many runs this machine starts at most, shared out among its agents beforehand.

    Raises:
        ValueError: not logged in, no answer from W&B, no such sweep, too few GPUs, or an agent that could not go on.
        KeyboardInterrupt: Ctrl-C or SIGTERM; all agents and their runs have ended.
    """
    _check_login()
    environments = shares(parallel or (None if visible_gpus() else 1), gpus_per_trial)
    path = _create(sweep) if isinstance(sweep, Path) else sweep
    if not re.fullmatch(r"[^/\s]+/[^/\s]+/[^/\s]+", path):
        raise UserError(f"{path!r} is no sweep; give a sweep file, or ENTITY/PROJECT/ID as W&B's page shows it.")
    folder = Path("logs") / "sweeps" / path.rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    print(f"join it from other machines with: wandb agent {path}")
    print(f"agents: {len(environments)} on this machine; what they and their runs print is in {folder}")
    mark = secrets.token_hex(8)
    watchdog = Watchdog(mark)
    agents: list[Agent] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for place, environment in enumerate(environments):
            share = None if count is None else (count + place) // len(environments)
            if share != 0:
                agents.append(_start(path, folder, place, share, {**environment, MARK: mark}))
        _follow(agents, folder)
    except KeyboardInterrupt:
        print("The runs here are stopped; the sweep stays open for agents.", file=sys.stderr)
        with contextlib.suppress(KeyboardInterrupt):  # at the second Ctrl-C what is left is killed at once
            _end(agents)
        raise
    finally:
        watchdog.close()
        signal.signal(signal.SIGTERM, before)


def _check_login() -> None:
    instead = "or search without it: --engine local"
    if wandb_mode() != "online":
        raise UserError(f"W&B leads a sweep only for users who are logged in; run `wandb login` first, {instead}.")
    if not reachable():
        raise UserError(f"W&B at {server_name()} can't be reached; try again later, {instead}.")


def _create(file: Path) -> str:
    """Registers a sweep file; the sweep's path."""
    import wandb
    from wandb.errors import Error

    content: dict[str, Any] = yaml.safe_load(file.read_text())
    project = os.environ.get("WANDB_PROJECT") or content.get("project") or PROJECT
    entity = os.environ.get("WANDB_ENTITY") or content.get("entity")
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            sweep_id = wandb.sweep(content, entity=entity, project=project)
    except (Error, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"W&B did not take {file} ({reason}); correct it, or search with --engine local.") from error
    for violation in re.findall(r"Violation \d+\. (.*)", said.getvalue()):
        print(f"W&B doubts {file}: {violation}", file=sys.stderr)
    print(f"sweep: {said.getvalue().rpartition('URL:')[2].split()[0]}")
    # W&B's client has put what its server said into the environment, where it looks itself.
    return f"{os.environ['WANDB_ENTITY']}/{os.environ['WANDB_PROJECT']}/{sweep_id}"


def _start(path: str, folder: Path, place: int, count: int | None, environment: dict[str, str]) -> Agent:
    """Starts an agent in a session of its own, so that a terminal's Ctrl-C reaches it through this process alone."""
    log = folder / f"agent-{os.getpid()}-{place}.log"
    many = ["--count", str(count)] if count is not None else []
    with log.open("ab") as output:
        agent = subprocess.Popen(
            [sys.executable, "-m", "wandb", "agent", "--forward-signals", *many, path],
            env={
                **{name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},
                "WANDB_DIR": str(folder.resolve()),
                # The sweep's command says "python" and means this one, whether or not its environment is active.
                "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return agent, log


def _follow(agents: list[Agent], folder: Path) -> None:
    """Waits for the agents and names each run that they start.

    Raises:
        ValueError: an agent ended with an error; the others have been ended too.
    """
    named = {file for file in _given(folder) if _values(file) is not None}
    alive = True
    while alive:
        alive = _any_alive(agents)
        for file in _given(folder):
            if file not in named and (values := _values(file)) is not None:
                named.add(file)
                print(f"run {file.stem.removeprefix('config-')}: {values}", flush=True)
        for agent, log in agents:
            if agent.returncode:
                _end(agents)
                lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
                reason = (lines or ["it said nothing"])[-1].removeprefix("wandb: ").removeprefix("ERROR ").rstrip(".")
                raise UserError(f"A W&B agent ended with status {agent.returncode} ({reason}); {log} has the whole.")
        time.sleep(_POLL_SECONDS)


def _given(folder: Path) -> list[Path]:
    """The files in which W&B's client keeps the values that it was given for each run."""
    return sorted(folder.glob("wandb/sweep-*/config-*.yaml"), key=lambda file: file.stat().st_mtime)


def _values(file: Path) -> str | None:
    """What such a file says; None while it is being written."""
    try:
        content = yaml.safe_load(file.read_text())
    except yaml.YAMLError:
        return None
    values = {name: entry["value"] for name, entry in content.items() if isinstance(entry, dict)}
    return "  ".join(f"{name}={setting(value)}" for name, value in values.items())


def _end(agents: list[Agent]) -> None:
    """Ends the agents, which pass the signals on to their runs; whatever is left then, the watchdog kills."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        for agent, _ in agents:
            if agent.poll() is None:
                agent.send_signal(signum)
        deadline = time.monotonic() + _END_SECONDS
        while _any_alive(agents) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _any_alive(agents: list[Agent]) -> bool:
    return None in [agent.poll() for agent, _ in agents]
