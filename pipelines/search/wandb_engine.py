"""Runs a sweep controlled by W&B: its service chooses the points, and its agents start the runs, on any machine.

An agent is an unmodified `wandb agent`, and the sweep file is sent to W&B unchanged.
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
from common.proxy import pass_on_all_proxy
from common.yaml_text import read_yaml_file
from pipelines.console.formatting import setting
from pipelines.console.signals import interrupt_on_signals, stop_signals
from pipelines.tracking.secrets import without_passwords
from pipelines.tracking.wandb_files import AGENT_DIR
from pipelines.tracking.wandb_mode import logged_in, reachable, server_name, wandb_mode
from pipelines.tracking.wandb_options import PROJECT, wandb_project
from pipelines.tracking.wandb_settings import wandb_setting
from pipelines.trials.local_machine import trial_environments, visible_gpus
from pipelines.trials.watchdog import MARK, Watchdog

_POLL_SECONDS = 0.2
_END_SECONDS = 15.0  # that agents have to end their runs after each signal; a run takes a few to end cleanly

Agent = tuple["subprocess.Popen[bytes]", Path]  # process and log file


def run_on_wandb(
    sweep: Path | str,
    parallel: int | None = None,
    gpus_per_trial: int = 1,
    count: int | None = None,
) -> None:
    """Registers a sweep with W&B and runs agents for it on this machine until the sweep ends.

    Args:
        sweep: Path of a sweep file; or ENTITY/PROJECT/ID of a registered sweep, to run agents for it.
        parallel: Number of agents, ≥ 1; None for one per `gpus_per_trial` GPUs, or one without GPUs.
        gpus_per_trial: Number of GPUs that each run sees, ≥ 1.
        count: Largest number of runs that this machine starts, divided among its agents; None for no limit.

    Raises:
        ValueError: If the user is not logged in, W&B can't be reached or refuses the sweep, the machine has too few
            GPUs, or an agent fails.
        KeyboardInterrupt: After Ctrl-C or another stop signal, when all agents and their runs have ended.
    """
    _check_login()
    pass_on_all_proxy()
    environments = trial_environments(parallel or (None if visible_gpus() else 1), gpus_per_trial)
    path = _create(sweep) if isinstance(sweep, Path) else sweep
    if not re.fullmatch(r"[^/\s]+/[^/\s]+/[^/\s]+", path):
        raise UserError(f"{path!r} is not a W&B sweep; give a sweep file, or ENTITY/PROJECT/ID as W&B's page shows it.")
    folder = Path("logs") / "sweeps" / path.rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    print(f"join it from other machines with: wandb agent {path}")
    print(f"agents: {len(environments)} on this machine; their output and that of their runs is in {folder}")
    mark = secrets.token_hex(8)
    watchdog = Watchdog([mark])
    agents: list[Agent] = []
    before = {number: signal.getsignal(number) for number in stop_signals()}
    interrupt_on_signals()
    try:
        for index, environment in enumerate(environments):
            own_count = None if count is None else (count + index) // len(environments)
            if own_count != 0:
                agents.append(_start(path, folder, index, own_count, {**environment, MARK: mark}))
        _follow(agents, folder)
    except KeyboardInterrupt:
        print("The runs on this machine were stopped; other agents can continue the sweep.", file=sys.stderr)
        with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C kills the rest immediately
            _end(agents)
        raise
    finally:
        watchdog.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_login() -> None:
    instead = "or search without W&B: --engine local"
    if logged_in() and wandb_mode() != "online":
        raise UserError(
            f"W&B is switched to {wandb_mode()}, but would control the sweep; run `wandb online` or set "
            f"WANDB_MODE=online, {instead}."
        )
    if not logged_in():
        raise UserError(
            f"You are not logged in to W&B, which would control the sweep; run `wandb login` first, {instead}."
        )
    if not reachable():
        raise UserError(f"W&B at {server_name()} can't be reached; try again later, {instead}.")


def _create(file: Path) -> str:
    """Registers a sweep file; returns ENTITY/PROJECT/ID."""
    import wandb
    from wandb.errors import Error

    content: dict[str, Any] = yaml.safe_load(read_yaml_file(file))
    own = content.get("project")
    project = os.environ.get("WANDB_PROJECT") or (own if own != PROJECT else None) or wandb_project()
    entity = os.environ.get("WANDB_ENTITY") or content.get("entity") or wandb_setting("entity")
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            sweep_id = wandb.sweep(content, entity=entity, project=project)
    except (Error, ValueError) as error:
        reason = without_passwords(" ".join(str(error).split())).rstrip(".")
        raise UserError(f"W&B refused {file} ({reason}); correct it, or search with --engine local.") from error
    for violation in re.findall(r"Violation \d+\. (.*)", output.getvalue()):
        print(f"W&B's warning about {file}: {violation}", file=sys.stderr)
    print(f"sweep: {without_passwords(output.getvalue().rpartition('URL:')[2].split()[0])}")
    # W&B's client stores the server's answer in these environment variables.
    return f"{os.environ['WANDB_ENTITY']}/{os.environ['WANDB_PROJECT']}/{sweep_id}"


def _start(path: str, folder: Path, index: int, count: int | None, environment: dict[str, str]) -> Agent:
    """Starts an agent in a session of its own, so that Ctrl-C on the terminal reaches it only through this process."""
    log = folder / f"agent-{os.getpid()}-{index}.log"
    limit = ["--count", str(count)] if count is not None else []
    with log.open("ab") as output:
        agent = subprocess.Popen(
            [sys.executable, "-m", "wandb", "agent", "--forward-signals", *limit, path],
            env={
                **{name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},
                "WANDB_DIR": str(folder.resolve()),  # for the files of the agent; not for those of its runs
                AGENT_DIR: os.environ.get("WANDB_DIR", ""),
                # `python` in the sweep's command is this interpreter, whether or not its environment is active.
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
    """Waits for the agents and prints the parameters of each run that they start.

    Raises:
        ValueError: If an agent fails; the others are ended then.
    """
    printed = {file for file in _run_configs(folder) if _parameters(file) is not None}
    alive = True
    while alive:
        alive = _any_alive(agents)
        for file in _run_configs(folder):
            if file not in printed and (parameters := _parameters(file)) is not None:
                printed.add(file)
                print(f"run {file.stem.removeprefix('config-')}: {parameters}", flush=True)
        for agent, log in agents:
            if agent.returncode:
                _end(agents)
                lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
                reason = (lines or ["no output"])[-1].removeprefix("wandb: ").removeprefix("ERROR ").rstrip(".")
                raise UserError(
                    f"A W&B agent ended with status {agent.returncode} ({without_passwords(reason)}); see {log}."
                )
        time.sleep(_POLL_SECONDS)


def _run_configs(folder: Path) -> list[Path]:
    """Returns the files in which W&B's client stores the parameters of each run, oldest first."""
    return sorted(folder.glob("wandb/sweep-*/config-*.yaml"), key=lambda file: file.stat().st_mtime)


def _parameters(file: Path) -> str | None:
    """Formats the parameters in such a file; None while it is being written."""
    try:
        content = yaml.safe_load(file.read_text())
    except yaml.YAMLError:
        return None
    values = {name: entry["value"] for name, entry in content.items() if isinstance(entry, dict)}
    return "  ".join(f"{name}={setting(value)}" for name, value in values.items())


def _end(agents: list[Agent]) -> None:
    """Ends the agents, which forward the signals to their runs; the watchdog kills those that remain."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        for agent, _ in agents:
            if agent.poll() is None:
                agent.send_signal(signum)
        deadline = time.monotonic() + _END_SECONDS
        while _any_alive(agents) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _any_alive(agents: list[Agent]) -> bool:
    return None in [agent.poll() for agent, _ in agents]
