"""Settings that name a checkpoint, such as `model.checkpoint` of a linear probe, take an artifact of W&B too."""

from typing import Any

from jsonargparse import Namespace

from pipelines.artifacts.downloaded import downloaded
from pipelines.artifacts.names import is_artifact

_WITH_CHECKPOINTS = ("model", "trainer.callbacks")


def use_artifacts(config: Namespace) -> None:
    """Replaces each name of an artifact in the settings of model and callbacks by its file or folder, in place.

    Raises:
        UserError: If there is no such artifact, or it is not one of this program.
    """
    for key in _WITH_CHECKPOINTS:
        if config.get(key) is not None:
            config[key] = _with_files(config[key])


def _with_files(value: Any) -> Any:
    if is_artifact(value):
        return str(downloaded(value))
    if isinstance(value, list):
        return [_with_files(entry) for entry in value]
    if isinstance(value, Namespace):
        for key, entry in list(vars(value).items()):
            setattr(value, key, _with_files(entry))
    return value
