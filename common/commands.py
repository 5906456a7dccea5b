"""Commands that the user can paste into the shell from which the program was started."""

import shlex
import shutil
import sys
from pathlib import Path


def command(name: str, *words: object) -> str:
    """Returns the command line of a command of this program, such as "python -m pipelines.data download cifar10".

    Without an activated environment, `python` is another interpreter or none, so its path is named then.

    Args:
        name: Name of the command, "train" for fit, validate, test and predict.
        words: Its arguments.
    """
    return f"{_python()} -m {shlex.join([f'pipelines.{name}', *map(str, words)])}"


def _python() -> str:
    running = Path(sys.executable)
    found = shutil.which("python")
    # Compared without following links: an environment's python is a link to that of the system, which has no packages.
    if not sys.executable or (found is not None and Path(found).absolute() == running.absolute()):
        return "python"
    if running.is_relative_to(Path.cwd()):
        running = running.relative_to(Path.cwd())
    return shlex.quote(str(running))
