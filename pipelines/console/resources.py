"""Limits of the machine that a command runs into: open files, memory, processes, shared memory."""

import errno
import resource

from common.errors import UserError

_FEWEST_FILES = 64  # W&B's client waits forever with too few
_MANY_FILES = 65_536


def allow_many_files() -> None:
    """Raises the number of files that this process may open as far as its user may.

    Raises:
        UserError: If that are too few for a run.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
    if wanted < _FEWEST_FILES:
        raise UserError(f"Only {wanted} files may be open (ulimit -n); allow at least {_FEWEST_FILES}.")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def exhausted_resource(error: BaseException) -> str | None:
    """Returns what to do about an error that says that the machine lacks memory, processes or files; None for others.

    Args:
        error: The error; libraries have no common class for these.
    """
    text, number = str(error), getattr(error, "errno", None)
    if isinstance(error, RuntimeError) and "DataLoader worker" in text and "Bus error" in text:
        return (
            "A data loader process ran out of shared memory (/dev/shm); enlarge it (docker run --shm-size 2g), or set "
            "data.num_workers to 0."
        )
    if (isinstance(error, RuntimeError) and "can't start new thread" in text) or number == errno.EAGAIN:
        return "No further process or thread could be started (ulimit -u, or the container's limit); raise that limit."
    if number in (errno.EMFILE, errno.ENFILE):
        return "Too many files are open (ulimit -n); raise that limit, or use fewer data loader processes."
    if type(error).__name__ == "OutOfMemoryError":  # torch's, of an accelerator
        return f"{'. '.join(text.split('. ')[:2]).rstrip('.')}; use a smaller batch_size or model."
    words = ("can't allocate memory", "not enough memory", "failed to map segment", "annot allocate memory")
    if (
        isinstance(error, MemoryError)
        or number == errno.ENOMEM
        or (isinstance(error, RuntimeError | ImportError) and any(word in text for word in words))
    ):
        said = f" ({' '.join(text.split())[:200]})" if text else ""
        return f"There is not enough memory{said}; use a smaller batch_size or model, or raise the limit (ulimit -v)."
    return None
