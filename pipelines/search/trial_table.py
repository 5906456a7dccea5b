"""Prints a sweep's trials as a table, best first, and formats its best trial for pasting."""

import math
import os
import re
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import yaml
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from common.commands import command
from common.errors import UserError
from common.messages.counting import count
from pipelines.console.formatting import duration, figure, setting
from pipelines.search.search import Search, Trial
from pipelines.trials.trial_command import trial_command

_COLORS = {"finished": "green", "pruned": "yellow", "failed": "red", "running": "cyan", "interrupted": "magenta"}
_REDRAW_SECONDS = 1.0


def print_trials(search: Search, console: Console | None = None, sleep: Callable[[float], None] = time.sleep) -> None:
    """Prints the table; on a terminal, redraws it every second until the sweep's launchers have ended, or until Ctrl-C.

    Args:
        search: The sweep.
        console: Output; None for standard output.
        sleep: Waits that many seconds.
    """
    console = console or Console()
    if not console.is_terminal:
        Console(width=200, file=console.file).print(_table(search, search.trials()))
        return
    with Live(console=console, auto_refresh=False) as live, suppress(KeyboardInterrupt):
        searching = True
        while searching:
            searching = search.has_launcher  # before the trials: the last table is complete
            live.update(_table(search, search.trials()), refresh=True)
            if searching:
                sleep(_REDRAW_SECONDS)


def best_trial(search: Search) -> str:
    """Returns the best trial's settings as YAML, the command that repeats it, and the command that tests its run.

    Raises:
        ValueError: If no trial has a value yet.
    """
    trial = _best(search.trials())
    if trial is None:
        raise UserError(f"No trial of {search.folder.name} has a value yet; `sweep show` shows the state of each.")
    lines = [f"# trial {trial.number} of {search.folder.name}: {search.sweep.metric} {trial.best:.4f}, {trial.state}"]
    lines += [
        yaml.safe_dump(search.sweep.nested(trial.values), sort_keys=False).rstrip(),
        "",
        _command_line(search, trial),
    ]
    run = search.run_folder(trial)
    if run is not None:
        lines.append(command("train", "test", "--ckpt_path", run.relative_to(search.root)))
    return "\n".join(lines)


def _best(trials: list[Trial]) -> Trial | None:
    """Returns the best of trials that are sorted, best first; None if none has a value."""
    return next((trial for trial in trials if trial.best is not None and trial.state != "failed"), None)


def _command_line(search: Search, trial: Trial) -> str:
    """Returns the shell command that repeats a trial, with the value of each parameter as an option."""
    words: list[str] = []
    for word in search.sweep.command:
        if word in ("${env}", "/usr/bin/env"):
            continue
        if word in ("${args}", "${args_json_file}"):
            if word == "${args_json_file}" and words and words[-1] in ("--config", "-c"):
                words.pop()
            words += [shlex.quote(f"--{name}={_to_yaml(value)}") for name, value in trial.values.items()]
        elif "${envvar:" in word:  # may be a secret
            words.append('"' + re.sub(r"\$\{envvar:(\w+)\}", r"${\1}", re.sub(r'(["`\\])', r"\\\1", word)) + '"')
        else:
            words += map(shlex.quote, trial_command((word,), search.sweep.nested(trial.values), Path(os.devnull)))
    return " ".join(words)


def _table(search: Search, trials: list[Trial]) -> Table:
    counts = {state: sum(trial.state == state for trial in trials) for state in _COLORS}
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    cap = f" of at most {search.run_cap}" if search.run_cap else ""
    # As Text throughout: rich reads a plain string as markup, and drops a value such as "[hog]".
    title = Text(f"{search.folder.name}: {count(len(trials), 'trial')}{cap}, {states or 'none yet'}", "table.title")
    table = Table(title=title, title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column(Text(search.sweep.metric), justify="right")
    for name in search.sweep.searched:
        table.add_column(Text(name), justify="right")
    table.add_column("values", justify="right")
    table.add_column("time", justify="right")
    table.add_column("state", overflow="fold")
    best = _best(trials)
    for trial in trials:
        state = trial.state + (f": {trial.reason}" if trial.reason else "") + (", best" if trial is best else "")
        table.add_row(
            str(trial.number),
            figure(trial.best),
            *(Text(setting(trial.values[name])) for name in search.sweep.searched),
            str(len(trial.metric)),
            duration(trial.seconds),
            Text(state, style=_COLORS[trial.state]),
            style="bold" if trial is best else None,
        )
    return table


def _to_yaml(value: object) -> str:
    """A value as YAML on one line, as the command line reads it."""
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf).removesuffix("...\n").strip()
