"""A user's mistake ends with one sentence and exit status 2, a mistake of ours with its traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import extract_tb

from common.errors import UserError


def raised_on_purpose(error: BaseException | None) -> UserError | None:
    """The first UserError among an error and those that it was raised from."""
    while error is not None:
        if isinstance(error, UserError):
            return error
        error = error.__cause__ or error.__context__
    return None


def refused_by_library(error: BaseException) -> str | None:
    """What a library said when it was asked for an object with values that it refuses, such as a learning rate of −1.

    For errors raised while the objects of a configuration are made. An error in our own code is none of these.
    """
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]  # the loop's condition
    inside = "site-packages" in extract_tb(error.__traceback__)[-1].filename
    refusals = ("ValueError", "TypeError", "ModuleNotFoundError", "MisconfigurationException")
    if not inside or type(error).__name__ not in refusals:
        return None
    return f"{str(error).strip().splitlines()[0].rstrip('.')}; change that setting (--help explains each)."


@contextmanager
def user_errors() -> Iterator[None]:
    """Turns errors that this project raised on purpose, and those of files and disks, into a sentence and status 2.

    A UserError says what was given, what is accepted and what to do. Any other exception is a bug, and its traceback
    is what helps. `LIGHTNING_231N_TRACEBACK=1` shows all tracebacks.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as a shell reports SIGPIPE
    except Exception as error:
        misconfigured = type(error).__name__ == "MisconfigurationException"  # Lightning's word for a user's mistake
        on_purpose = isinstance(error, OSError) or misconfigured or raised_on_purpose(error) is error
        if os.environ.get("LIGHTNING_231N_TRACEBACK") or not on_purpose:
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)


def sentence(error: BaseException) -> str:
    """What an error says, on one line."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        problem = error.strerror[0].lower() + error.strerror[1:]
        return f"{error.filename}: {problem}; make it usable or choose another place."
    return " ".join(str(error).split())
