"""One case of the campaign: good files, damage to them, the commands that meet the damage, and what must come of it."""

import re
import shlex
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

_UNREAD = r"^[\d,]+ of [\d,]+ images can't be read and were left out:$"
# x that `tests.fake_trial` can't divide by 100; a number that became a text is a fault of the sweep.
_NO_NUMBER = r"None|\[1\]|\{'a': 2\}|'\[/b\]'|'NaN'"
# The line with which each command explains exit status 1, as its documentation says.
_EXPLANATIONS = {
    "caption": _UNREAD,
    "check": r"^[a-z][a-z ]* FAIL  ",
    "data": r"^error: .+\.$",  # of `verify`
    "interpret": rf"{_UNREAD}|^.+  .+ → not fooled within \d+ steps?: ",
    "sweep": rf"^error: all \d+ trials? failed, the last: exit status 1: x is ({_NO_NUMBER}), which is not a number$",
    "train": _UNREAD,  # of `predict`
}


class Expect(Enum):
    """What must come of a case's commands, besides that none has a traceback, hangs, runs foreign code or leaves files.

    Attributes:
        SENTENCE: Success, or a refusal in one sentence.
        REFUSED: A refusal in one sentence.
        SAME: A refusal in one sentence, or the very figures and weights that undamaged files give.
        RESULT: The very figures and weights that undamaged files give.
    """

    SENTENCE = auto()
    REFUSED = auto()
    SAME = auto()
    RESULT = auto()


@dataclass(frozen=True)
class Kill:
    """A signal to a command while it runs.

    Attributes:
        signal: The signal.
        seconds: Time from the command's start to the signal.
    """

    signal: signal.Signals
    seconds: float


@dataclass(frozen=True)
class Command:
    """`python -m pipelines.<pipeline> <arguments>` in the case's folder.

    Attributes:
        pipeline: Name of the pipeline.
        arguments: Its arguments.
        kill: Signal that ends it early.
        resumes: Run's folder from which it goes on, by `--ckpt_path`, if it has a checkpoint; else the command is given
            as it stands.
        statuses: Exit statuses of success, besides 1 where `explains` finds the reason.
    """

    pipeline: str
    arguments: tuple[str, ...]
    kill: Kill | None = None
    resumes: str | None = None
    statuses: tuple[int, ...] = (0,)

    def __str__(self) -> str:
        line = shlex.join(["python", "-m", f"pipelines.{self.pipeline}", *self.arguments])
        if self.resumes is not None:
            line += f" [from {self.resumes}]"
        return line if self.kill is None else f"{line} [{self.kill.signal.name} after {self.kill.seconds:.2f} s]"

    def explains(self, output: str) -> bool:
        """Whether an output has the line that explains exit status 1."""
        line = _EXPLANATIONS.get(self.pipeline)
        return line is not None and re.search(line, output, re.MULTILINE) is not None

    def succeeded(self, code: int, output: str) -> bool:
        """Whether an exit status is one of success: the command has done what it was told."""
        return code in self.statuses or (code == 1 and self.explains(output))

    def arguments_in(self, folder: Path) -> list[str]:
        """The arguments, or those that resume the run if it has a checkpoint."""
        if self.resumes is None or not (folder / self.resumes / "checkpoints" / "last.ckpt").is_file():
            return list(self.arguments)
        return ["fit", "--ckpt_path", self.resumes, *_callbacks(self.arguments)]


def _callbacks(arguments: tuple[str, ...]) -> list[str]:
    """Those of a command line, since the resumed run's own may hold one that kills it."""
    return [word for word in arguments if word.startswith("--trainer.callbacks=")]


Damage = Callable[[Path], str | None]


def undamaged(folder: Path) -> None:
    """Leaves all files as they are."""


@dataclass(frozen=True)
class Case:
    """One case; the same seed, kind and number give the same one.

    Attributes:
        files: Name of the good files, a key of `tests.campaign.good_files.GOOD_FILES`, copied for the case.
        label: The damage, in words.
        commands: What is run, one after the other.
        damage: Damages the copy; returns more words for the label, which depend on the files.
        expect: What must come of the commands.
        reference: Commands that give the right figures on undamaged files; the case's own if there are none here.
        prints: Regular expression of a line that the last command must print.
    """

    files: str
    label: str
    commands: tuple[Command, ...]
    damage: Damage = field(default=undamaged, compare=False)
    expect: Expect = Expect.SENTENCE
    reference: tuple[Command, ...] = ()
    prints: str = ""
