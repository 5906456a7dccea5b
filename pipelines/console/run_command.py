"""What a command without subcommands does around its work: help, one sentence for a mistake, an exit status."""

import sys
from collections.abc import Callable, Sequence

from pipelines.console.errors import user_errors


def run_command(
    usage: Callable[[], str], work: Callable[[list[str]], bool | None], arguments: Sequence[str] | None
) -> None:
    """Shows the help, or works; ends with status 2 and one sentence if the work can't be carried out.

    Args:
        usage: what to show without arguments and with --help.
        work: carries out a command line; False ends with status 1, for work that was done with a bad outcome.
        arguments: the command line; None takes that of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or {"--help", "-h"} & set(given):
        print(usage())
        return
    with user_errors():
        good = work(given)
    if good is False:
        sys.exit(1)
