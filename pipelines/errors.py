"""A user's mistake ends with one sentence and exit status 2, a mistake of ours with its traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb


@contextmanager
def user_errors(root: Path) -> Iterator[None]:
    """Turns errors that this project raised on purpose, and those of files and disks, into a sentence and status 2.

    A ValueError raised by the project's own code says what was given, what is accepted and what to do; one raised
    inside a library is a bug, and its traceback is what helps. `LIGHTNING_231N_TRACEBACK=1` shows all tracebacks.

    Args:
        root: folder of the project.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        frames = extract_tb(error.__traceback__)
        ours = bool(frames) and Path(frames[-1].filename).resolve().is_relative_to(root)
        installed = bool(frames) and "site-packages" in frames[-1].filename  # an environment inside the folder
        on_purpose = isinstance(error, ValueError) and ours and not installed
        if os.environ.get("LIGHTNING_231N_TRACEBACK") or not (on_purpose or isinstance(error, OSError)):
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)


def sentence(error: BaseException) -> str:
    """What an error says, on one line."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}; make it usable or choose another place."
    return " ".join(str(error).split())
