"""Runs a case and judges what came of it."""

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from common.errors import UserError
from pipelines.search.search import Search
from tests.campaign.case import Case, Command, Expect
from tests.campaign.good_files import GOOD_FILES, RUN_ID
from tests.command_line import Finished, Started, start_pipeline
from tests.helpers import rows

MARKER = "executed-by-a-file"  # the file that code hidden in data makes
LIMIT_SECONDS = 60.0
_BUSY = 10  # times the limit in which a command must end whatever it does
_LONGEST_SENTENCE = 600  # characters
_TRACEBACK = "Traceback (most recent call last)"
# What a refused command may change: who holds what, that it failed, and caches.
_MAY_CHANGE = re.compile(r"status\.json$|\.lock$|\.npy$|/launchers/|matplotlib|/trials/|journal\.log$|^home/")
_NO_NETWORK = dict.fromkeys(["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"], "http://127.0.0.1:9")


@dataclass(frozen=True)
class Finding:
    """A fault of the project.

    Attributes:
        what: "traceback", "hang", "code" (from a data file was run), "silent" (damage was accepted), "difference",
            "refused" (what should work), "status", "sentence" (the refusal is none), "changed" (a refused command
            changed files) or "leftover".
        detail: What happened, in a line.
        key: Findings of the same key are the same fault.
    """

    what: str
    detail: str
    key: str


@dataclass
class Result:
    """What came of a case: its findings, exit status and duration of each command, and whether the last succeeded."""

    findings: list[Finding] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    accepted: bool = False
    seconds: list[float] = field(default_factory=list)


class Judge:
    """Runs cases, each in a fresh copy of the good files it names, and judges them.

    Args:
        folder: Folder for good files and copies.
        limit: Seconds of work, or of rest, after which a command hangs: a busy machine takes longer for either.
        start: Starts a command.
    """

    def __init__(
        self, folder: Path, limit: float = LIMIT_SECONDS, start: Callable[..., Started] = start_pipeline
    ) -> None:
        self._folder = folder
        self._limit = limit
        self._start = start
        self._references: dict[tuple[str, tuple[Command, ...]], dict[str, Any]] = {}

    def __call__(self, case: Case, folder: Path) -> tuple[str, Result]:
        """Runs a case in a folder that does not exist yet: its label, and what came of it."""
        shutil.copytree(self._good_files(case.files), folder, symlinks=True)
        good = contents(folder)
        words = case.damage(folder)
        damaged = {name: digest for name, digest in contents(folder).items() if digest != good.get(name)}
        damaged |= dict.fromkeys(good.keys() - contents(folder).keys(), "missing")
        label = f"{case.label} ({words})" if words else case.label
        result, finished = Result(), None
        for command in case.commands:
            before = contents(folder)
            start = time.monotonic()
            finished = self._run(command, folder)
            if finished is None:
                result.findings.append(Finding("hang", f"more than {self._limit:.0f} s: {command}", f"{case.label}"))
                break
            result.codes.append(finished.code)
            result.seconds.append(time.monotonic() - start)
            found = list(_faults(command, finished, folder, before))
            result.findings += found
            if found:
                break
        else:
            assert finished is not None
            result.accepted = case.commands[-1].succeeded(finished.code, finished.out + finished.err)
            result.findings += self._compare(case, folder, finished, damaged)
        return label, result

    def _compare(self, case: Case, folder: Path, last: Finished, damaged: dict[str, str]) -> Iterator[Finding]:
        refused = not case.commands[-1].succeeded(last.code, last.out + last.err)
        key = re.sub(r"[\d.]+", "", f"{case.files} {case.label}")
        if case.expect is Expect.REFUSED and not refused:
            yield Finding("silent", f"accepted by {case.commands[-1]}", f"{case.label}")
        if case.expect is Expect.RESULT and refused:
            yield Finding("refused", f"{last.err[-300:]!r} of {case.commands[-1]}", key)
        if case.prints and not re.search(case.prints, last.out, re.MULTILINE):
            yield Finding("difference", f"{case.commands[-1]} prints no line {case.prints!r}: {last.err[-200:]!r}", key)
        if case.expect in (Expect.SAME, Expect.RESULT) and not refused:
            expected, got = self._reference(case), figures(folder)
            now = contents(folder)
            untouched = {name for name, digest in damaged.items() if now.get(name, "missing") == digest}
            other = sorted(name for name in expected.keys() - untouched if got.get(name) != expected[name])
            if other:
                what = "difference" if any(command.kill for command in case.commands) else "silent"
                yield Finding(what, f"other {', '.join(other)} after {case.commands[-1]}", key)

    def _good_files(self, name: str) -> Path:
        folder = self._folder / "good" / name.replace(" ", "-")
        if not folder.exists():
            making = Path(tempfile.mkdtemp(dir=self._folder))
            GOOD_FILES[name](making)
            folder.parent.mkdir(exist_ok=True)
            making.rename(folder)
        return folder

    def _reference(self, case: Case) -> dict[str, Any]:
        key = (case.files, case.reference or case.commands)
        if key not in self._references:
            folder = Path(tempfile.mkdtemp(dir=self._folder)) / "case"
            shutil.copytree(self._good_files(case.files), folder)
            for command in key[1]:
                finished = self._run(command, folder)
                if finished is None or not command.succeeded(finished.code, finished.out + finished.err):
                    raise RuntimeError(f"{command} on good files: {finished}")
            self._references[key] = figures(folder)
            shutil.rmtree(folder.parent)
        return self._references[key]

    def _run(self, command: Command, folder: Path) -> Finished | None:
        """Runs a command; None if it hangs."""
        home = folder / "home"
        home.mkdir(exist_ok=True)
        environment = {
            **_NO_NETWORK, "WANDB_RUN_ID": RUN_ID, "HOME": str(home), "MPLCONFIGDIR": str(self._folder / "matplotlib"),
            "COLUMNS": "120",
        }  # fmt: skip
        arguments = command.arguments_in(folder)
        process = self._start(command.pipeline, arguments, folder, **environment)
        if command.kill is not None:
            end = time.monotonic() + command.kill.seconds
            while process.running and time.monotonic() < end:
                time.sleep(0.005)
            if process.running:
                process.send_signal(command.kill.signal)
        if self._hangs(process):
            process.kill()
            return None
        return process.finish()

    def _hangs(self, process: Started) -> bool:
        """Waits for a command's end; whether it came too late."""
        seconds, worked = 0.0, time.monotonic()
        end = worked + _BUSY * self._limit
        while process.running and time.monotonic() < end:
            time.sleep(0.02)
            with suppress(psutil.Error):  # it has just ended
                times = psutil.Process(process.pid).cpu_times()
                now = times.user + times.system + times.children_user + times.children_system
                if now > seconds + 0.01:
                    seconds, worked = now, time.monotonic()
            if seconds > self._limit or time.monotonic() > worked + self._limit:
                break
        return process.running


def contents(folder: Path) -> dict[str, str]:
    """Digest of each file below a folder."""
    found = {}
    for path, _, names in os.walk(folder):
        for name in names:
            file = Path(path, name)
            if file.is_file():
                found[str(file.relative_to(folder))] = hashlib.md5(file.read_bytes()).hexdigest()
    return found


def figures(folder: Path) -> dict[str, Any]:
    """What must not depend on damage or kills: the weights of each checkpoint, the last metrics, results in files."""
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("logs/*/*/checkpoints/*.ckpt")):
        name = str(file.relative_to(folder))
        try:
            stored = torch.load(file, weights_only=True)["state_dict"]
            found[name] = {key: hashlib.md5(value.numpy().tobytes()).hexdigest() for key, value in stored.items()}
        except Exception as error:  # it is the damaged file
            found[name] = f"unreadable: {type(error).__name__}"
    for file in sorted(folder.glob("logs/*/*/metrics.csv")):
        name = str(file.relative_to(folder))
        try:
            # Running means over a kill lack the steps since the last log, so only the metrics of whole epochs count.
            found[name] = [
                sorted((key, value) for key, value in row.items() if key == "step" or key.startswith(("val/", "test/")))
                for row in rows(file.parent)
                if any(value for key, value in row.items() if key.startswith(("val/", "test/")))
            ]
        except Exception as error:
            found[name] = f"unreadable: {type(error).__name__}"
    for sweep in sorted(folder.glob("logs/sweeps/*")):
        found[f"figures of {sweep.name}"] = _swapped_figures(sweep)
    for file in sorted(folder.glob("*.csv")):
        found |= {
            f"{file.name} {line.partition(',')[0]}": line for line in file.read_text(errors="replace").splitlines()
        }
    for file in sorted(folder.glob("c.json")):  # captions
        found |= {f"{file.name} {entry['file_name']}": entry["caption"] for entry in json.loads(file.read_bytes())}
    for file in [*sorted(folder.glob("*/*.png")), *folder.glob("*.png"), *folder.glob("*.safetensors")]:
        found[str(file.relative_to(folder))] = hashlib.md5(file.read_bytes()).hexdigest()
    return found


def _swapped_figures(sweep: Path) -> list[str]:
    """The trials of a sweep that have another trial's figure: that of x is x / 100."""
    try:
        trials = Search(sweep).trials()
    except UserError:  # the damaged sweep
        return []
    return [f"x = {trial.values['x']}: {trial.metric}" for trial in trials if trial.metric != [trial.values["x"] / 100]]


def _faults(command: Command, finished: Finished, folder: Path, before: dict[str, str]) -> Iterator[Finding]:
    """What no command may do, whatever it was given."""
    err, code = finished.err, finished.code
    if (folder / MARKER).exists() or (folder / "home" / MARKER).exists():
        yield Finding("code", f"code of a file was run by {command}", command.pipeline)
    interrupted = command.kill is not None and err.rstrip().endswith("KeyboardInterrupt")  # in the start of the process
    if _TRACEBACK in err and not interrupted:
        yield Finding("traceback", f"{last_error(err)}: {command}", origin(err))
    elif command.kill is None and code != 2 and not command.succeeded(code, finished.out + err):
        yield Finding("status", f"{code} of {command}: {err[-200:]!r}", f"{command.pipeline} {code}")
    elif command.kill is None and code == 2:
        if problem := _bad_sentence(err):
            yield Finding("sentence", f"{problem}: {err[-300:]!r} of {command}", f"{problem} {_stem(err)}")
        after = contents(folder)
        for name, digest in before.items():
            if after.get(name) != digest and not _MAY_CHANGE.search(name):
                yield Finding("changed", f"{name} by the refused {command}", f"{command.pipeline} {Path(name).name}")
    if command.kill is None:
        for file in sorted(contents(folder).keys() - before.keys()):
            if re.search(r"\.tmp$|\.part$", file):
                yield Finding("leftover", f"{file} of {command}", f"{command.pipeline} {Path(file).suffix}")


def _bad_sentence(err: str) -> str | None:
    lines = [line for line in err.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    if len(errors) != 1 or lines[-1] != errors[0]:
        return "not one sentence at the end"
    if len(errors[0]) > _LONGEST_SENTENCE:
        return f"{len(errors[0])} characters"
    for word in ("Namespace(", "NestedArg", "ArgumentError", "Traceback", "<class '", "collections.abc", "typing."):
        if word in errors[0]:
            return f"{word} in it"
    if not errors[0].rstrip().endswith((".", "?", "!")):
        return "no full stop"
    return None


def last_error(err: str) -> str:
    """The last exception of a traceback, in one line."""
    lines = [line for line in err.splitlines() if re.match(r"[\w.]+(Error|Exception|Warning|Interrupt|Exit)\b", line)]
    return (lines[-1] if lines else err.strip().splitlines()[-1])[:200]


def origin(err: str) -> str:
    """Where a traceback comes from: the kind of error, and the deepest lines of the project and of all."""
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', err)
    ours = [frame for frame in frames if "site-packages" not in frame[0] and "/lib/python" not in frame[0]]
    places = [f"{Path(file).name}:{function}" for file, _, function in [*ours[-1:], *frames[-1:]]]
    return " ".join([last_error(err).partition(":")[0], *places])


def _stem(err: str) -> str:
    """The words of a sentence without what was given."""
    return re.sub(r"""['"].*?['"]|[\d./~]+""", "", err[-300:])[:60]
