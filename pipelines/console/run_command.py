"""Runs a command without subcommands: help, error messages and exit status."""

import sys
from collections.abc import Callable, Sequence

from pipelines.console.errors import user_errors


def run_command(
    usage: Callable[[], str], work: Callable[[list[str]], bool | None], arguments: Sequence[str] | None
) -> None:
    """Prints the help, or runs the command; a user's mistake ends with one sentence and exit status 2.

    Args:
        usage: Returns the help text, shown without arguments and with --help.
        work: Runs the command; if it returns False, the exit status is 1.
        arguments: Command line; None takes that of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with user_errors():
        if not given or {"--help", "-h"} & set(given):
            print(usage())
        elif work(given) is False:
            sys.exit(1)
