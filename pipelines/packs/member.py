"""A run in a pack: an ordinary run of `pipelines.train fit` in a thread of the pack's process.

The threads take turns, so that only one runs at any time. In its turn a member has its own environment variables,
arguments, output and random numbers, as it would have in a process of its own.
"""

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pipelines.console.errors import user_errors
from pipelines.packs.member_cli import MemberCLI, NotPackable, SharedParts
from pipelines.packs.process_state import ProcessState
from pipelines.run.stop_signals import Stopped
from pipelines.train import resolve

# Each run has a W&B run of its own, and its output in its log.
_WANDB = {"WANDB_REINIT": "create_new", "WANDB_CONSOLE": "off"}
_POLL_SECONDS = 0.2  # between two looks for a request to stop, while a run goes on by itself


class Member:
    """A run in a thread of its own, which runs while the pack waits in `go_on`.

    Args:
        number: Number of the trial.
        arguments: Arguments of `pipelines.train`.
        environment: All environment variables.
        log: File that the output is appended to.
        shared: What the runs of the pack share.

    Attributes:
        cli: Its command line; None until its thread has begun, and after its end.
        loop: Its `PackedEpochLoop`; None until its trainer is created.
        exit_code: Exit status, as that of a process; None until it has ended.
        alone: Why it must be started as a process of its own; None if it need not.
    """

    def __init__(
        self, number: int, arguments: list[str], environment: dict[str, str], log: Path, shared: SharedParts
    ) -> None:
        self.number = number
        self.shared = shared
        self.loop: Any = None  # a PackedEpochLoop
        self.exit_code: int | None = None
        self.alone: str | None = None
        self._arguments = arguments
        self._log = log
        self._state = ProcessState({**_WANDB, **environment}, [sys.argv[0], *arguments])
        self.cli: MemberCLI | None = None
        self._stop: int | None = None  # signal by which it was asked to stop
        self._turn, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"trial {number}", daemon=True)
        self._thread.stop_run = lambda: self.stop(signal.SIGTERM)  # type: ignore[attr-defined]  # W&B's stop button

    def go_on(self, poll: Callable[[], None]) -> None:
        """Lets the run go on until it waits for its next training steps, or ends.

        Args:
            poll: Called now and then, so that runs can be stopped meanwhile.
        """
        with self.in_its_process():
            if self._thread.ident is None:
                self._thread.start()
            self._turn.set()
            while not self._over.wait(_POLL_SECONDS):
                poll()
            self._over.clear()

    @property
    def random_state(self) -> torch.Tensor:
        """State of torch's random number generator."""
        return self._state.torch

    @random_state.setter
    def random_state(self, state: torch.Tensor) -> None:
        self._state.torch = state

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop is not None

    @contextmanager
    def in_its_process(self) -> Iterator[None]:
        """Context in which environment variables, arguments, output and random numbers are those of the run."""
        with self._log.open("a", buffering=1) as output, self._state.swapped_in(output):
            yield

    def wait(self) -> None:
        """Ends the run's turn; returns at the next one. The run calls it in its thread."""
        self._over.set()
        self._turn.wait()
        self._turn.clear()

    def stop(self, signum: int) -> None:
        """Makes the run stop after its next step, or before its first one, as a signal would."""
        if self._thread.ident is None:
            self.exit_code = -signum
        else:
            self._stop = signum
            self.forward_stop()

    def forward_stop(self) -> None:
        """Passes a request to stop on to the run, if there is one."""
        lifetime = getattr(self.cli, "lifetime", None)  # which the run creates in its thread
        if self._stop is not None and lifetime is not None:
            lifetime.signals.request(self._stop)

    def release(self) -> None:
        """Frees what the run, which has ended, holds in memory."""
        self.loop = self.cli = None

    def _run(self) -> None:
        self._turn.wait()
        self._turn.clear()
        try:
            self.exit_code = self._exit_code()
        finally:
            self._over.set()

    def _exit_code(self) -> int:
        try:
            with user_errors():
                resolved, topic = resolve(self._arguments)
                MemberCLI(resolved, topic, self)
        except NotPackable as reason:
            self.alone = str(reason)
        except Stopped as stopped:
            return 128 - int(stopped.code or 128)  # minus the signal's number, as of a process that it ended
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException:
            traceback.print_exc()
            return 1
        return 0
