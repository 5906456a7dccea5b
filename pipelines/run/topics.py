"""Topics by name: `--config NAME` means `pipelines/configs/NAME.yaml`. It needs no import that takes time."""

from difflib import get_close_matches
from pathlib import Path

from common.errors import UserError

CONFIGS = Path(__file__).parents[1] / "configs"


def topics() -> dict[str, str]:
    """Names of all topics with a line on each, the first comment of its configuration."""
    files = sorted(CONFIGS.glob("*.yaml"))
    return {file.stem: file.read_text().splitlines()[0].lstrip("# ") for file in files}


def find_config(name: str) -> Path:
    """The file meant by `--config`: a topic's name or a path.

    Raises:
        ValueError: neither, with the nearest name.
    """
    for candidate in (CONFIGS / f"{name}.yaml", Path(name)):
        if candidate.is_file():
            return candidate
    near = get_close_matches(name, topics(), 1)
    meant = f"did you mean {near[0]}?" if near else f"give one of {', '.join(topics())}, or the path of a YAML file."
    raise UserError(f"There is no topic or file {name!r}; {meant}")
