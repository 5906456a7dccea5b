"""One parser for several command lines of a process: building it takes two thirds of the time that parsing takes."""

from collections.abc import Callable
from typing import Any


class SharedParser:
    """The parser that the first command line has built.

    Its links, such as that of the model's `num_classes` to the data, read the configuration of that command line. So
    `read` gives it the configuration of each one before its classes are created.
    """

    def __init__(self) -> None:
        self._attributes: dict[str, Any] = {}
        self._first: Any = None

    def set_up(self, cli: Any, build: Callable[[], None]) -> None:
        """Sets the attributes of a command line that hold the parser; calls `build`, which does that, for the first."""
        if self._first is None:
            before = set(vars(cli))
            build()
            self._first = cli
            self._attributes = {name: value for name, value in vars(cli).items() if name not in before}
        vars(cli).update(self._attributes)

    def read(self, cli: Any) -> None:
        """Makes the links read the configuration of a command line."""
        self._first.config = cli.config
