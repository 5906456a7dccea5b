"""One line about work that goes on: redrawn in place on a terminal; elsewhere a line for each change."""

from datetime import datetime
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text


class StatusLine:
    """A context manager whose line disappears from a terminal at its end.

    Args:
        console: Output; None for standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._shown = ""

    def __enter__(self) -> "StatusLine":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, status: str) -> None:
        """Replaces the line by the time and a status, cut to the terminal's width; does nothing if it is the same."""
        if status == self._shown:
            return
        self._shown = status
        line = f"{datetime.now():%H:%M:%S}  {status}"
        if self._console.is_terminal:
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        else:
            self.print(line)

    def print(self, line: str) -> None:
        """Prints a line that stays, above the status."""
        self._console.print(Text(line), soft_wrap=True)
