"""Error handling of the commands: a user's mistake prints one sentence and exits with 2, a bug its traceback."""

import errno
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from traceback import extract_tb

from common.errors import UserError
from common.messages.reasons import reason_of
from common.messages.shortening import shorten
from pipelines.console.resources import exhausted_resource
from pipelines.console.terminal import discard_output, prepare_terminal

_LONGEST_WORD = 400  # characters; longer than any path that can be useful in a sentence


def find_user_error(error: BaseException | None) -> UserError | None:
    """Returns the first UserError among an error and its causes."""
    while error is not None:
        if isinstance(error, UserError):
            return error
        error = error.__cause__ or error.__context__
    return None


def refused_by_library(error: BaseException, arguments: Sequence[str] = ()) -> str | None:
    """Returns the message of a library that refuses a value, such as a learning rate of −1, or None.

    For errors raised while the objects of a configuration are created. Errors in the project's own code give None.

    Args:
        error: The error.
        arguments: The command line, to name the setting that was refused.
    """
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]  # the loop's condition
    if (reason := out_of_memory(error)) is not None:
        return reason
    inside = "site-packages" in extract_tb(error.__traceback__)[-1].filename
    refusals = ("ValueError", "TypeError", "ModuleNotFoundError", "MisconfigurationException")
    if not inside or type(error).__name__ not in refusals:
        return None

    from pipelines.settings.refused_settings import refused_setting  # PyYAML, which most commands do not need

    message = shorten(reason_of(error).rstrip("!"), 300)
    return f"{message}; change {refused_setting(message, arguments) or 'that setting (--help explains each)'}."


def out_of_memory(error: BaseException) -> str | None:
    """Returns a sentence for an error of torch about memory of a CPU or GPU that it could not get, or None."""
    text = str(error)
    if not isinstance(error, RuntimeError) or not re.search("out of memory|can't allocate memory", text):
        return None
    asked = re.search(r"Tried to allocate ([\d.]+ \w+)|tried to allocate (\d+) bytes", text)
    size = "" if asked is None else f" for {asked[1] or f'{int(asked[2]) / 1e9:,.1f} GB'}"
    return f"There is not enough memory{size}; use a smaller batch_size, smaller numbers in the model, or fewer images."


def refused_by_lightning(error: BaseException) -> str | None:
    """Returns the message with which Lightning's own code refuses a setting while a run begins or goes on, or None.

    Lightning knows the length of an epoch or the names of the metrics only then. Errors raised in other code give None.
    """
    inside = "/site-packages/lightning/" in extract_tb(error.__traceback__)[-1].filename
    refusal = isinstance(error, ValueError | RuntimeError) or type(error).__name__ == "MisconfigurationException"
    return sentence(error) if inside and refusal and str(error) else None


@contextmanager
def user_errors() -> Iterator[None]:
    """Turns user errors, and errors of files, disks and memory, into one sentence and exit status 2.

    A UserError says what was given, what is accepted and what to do. Any other exception is a bug, and its traceback
    is what helps. `LIGHTNING_231N_TRACEBACK=1` shows all tracebacks.
    """
    prepare_terminal()
    try:
        try:
            yield
        except SystemExit:
            _flush()
            raise
        _flush()
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        discard_output(1)
        discard_output(2)
        sys.exit(141)  # as a shell reports SIGPIPE
    except Exception as error:
        misconfigured = type(error).__name__ == "MisconfigurationException"  # Lightning's error for a user's mistake
        users_mistake = isinstance(error, UserError | OSError) or misconfigured or exhausted_resource(error)
        if os.environ.get("LIGHTNING_231N_TRACEBACK") or not users_mistake:
            raise
        _say(f"error: {sentence(error)}")
        sys.exit(2)
    except KeyboardInterrupt:
        _say("Stopped.")
        sys.exit(130)


def _say(message: str) -> None:
    with suppress(OSError):  # nobody reads it
        print(message, file=sys.stderr)


def _flush() -> None:
    """Writes what is still buffered here, where an error is caught: the interpreter only prints one as it ends."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, or a terminal that was closed
        discard_output(1)
        raise UserError(
            f"The output can't be written ({(error.strerror or 'unknown error').lower()}); send it to another file."
        ) from None


def sentence(error: BaseException) -> str:
    """Returns the message of an error on one line; shortens very long words, and escapes bytes that are not UTF-8."""
    text = exhausted_resource(error) or str(error)
    if text == str(error) and isinstance(error, OSError) and error.filename is not None and error.strerror:
        problem = error.strerror[0].lower() + error.strerror[1:]
        todo = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "make it usable"
        text = f"{error.filename}: {problem}; {todo} or choose another path."
    words = (word if len(word) <= _LONGEST_WORD else f"{word[:100]}…{word[-40:]}" for word in text.split())
    return " ".join(words).encode("utf-8", "backslashreplace").decode()
