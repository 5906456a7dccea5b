"""Topics by name: `--config NAME` means `pipelines/configs/NAME.yaml`. Imports nothing slow."""

from pathlib import Path

from common.errors import UserError
from common.user_paths import user_path
from pipelines.console.near_names import nearest

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
    for candidate in _candidates(name):
        if candidate.is_file():
            return candidate
    if user_path(name).is_dir():
        raise UserError(f"{name} is a folder; give a YAML file in it, or go on from a run with --ckpt_path {name}.")
    near = nearest(name, [*topics(), *(str(file) for file in Path(name).parent.glob("*.y*ml"))])
    hint = f"did you mean {near}?" if near else f"use one of {', '.join(topics())}, or the path of a YAML file."
    raise UserError(f"There is no topic or file {name!r}; {hint}")


def is_config(name: str) -> bool:
    """Returns whether there is a topic of that name, or a file."""
    return any(candidate.is_file() for candidate in _candidates(name))


def _candidates(name: str) -> tuple[Path, Path]:
    return CONFIGS / f"{name}.yaml", user_path(name)
