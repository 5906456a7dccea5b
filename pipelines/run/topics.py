"""Topics by name: `--config NAME` means `pipelines/configs/NAME.yaml`. Imports nothing slow."""

from difflib import get_close_matches
from pathlib import Path

from common.errors import UserError

CONFIGS = Path(__file__).parents[1] / "configs"


def topics() -> dict[str, str]:
    """Returns all topics with their description, the first comment of the configuration."""
    files = sorted(CONFIGS.glob("*.yaml"))
    return {file.stem: file.read_text().splitlines()[0].lstrip("# ") for file in files}


def topic_list() -> list[str]:
    """Returns the lines of a help text that lists all topics."""
    descriptions = topics()
    width = max(map(len, descriptions))
    return ["topics:", *(f"  {name:<{width}}  {text}" for name, text in descriptions.items())]


def find_config(name: str) -> Path:
    """Returns the configuration file for a topic's name or a path.

    Raises:
        ValueError: If there is neither; names the nearest topic.
    """
    for candidate in (CONFIGS / f"{name}.yaml", Path(name)):
        if candidate.is_file():
            return candidate
    near = get_close_matches(name, topics(), 1)
    hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(topics())}, or the path of a YAML file."
    raise UserError(f"There is no topic or file {name!r}; {hint}")
