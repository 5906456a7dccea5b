"""The name of a run on a dashboard: topic, data set and the settings by which it differs from its configuration."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from common.errors import UserError
from common.messages.shortening import shorten
from common.yaml_text import load_yaml
from pipelines.console.formatting import setting
from pipelines.settings.classes import CLASS_KEYS
from pipelines.settings.written_settings import WrittenSettings

_MAX_LENGTH = 128  # W&B's
_MAX_VALUE = 24
_SEPARATOR = " · "
# Where and how a run is computed, tracked and drawn, which does not change its results.
_SAME_RESULTS = tuple(
    f"{key}."
    for key in (
        *("wandb", "checkpoint", "last_checkpoint", "ckpt_path", "data.root", "data.num_workers", "data.images"),
        *("trainer.logger", "trainer.callbacks", "trainer.devices", "trainer.num_nodes", "trainer.accelerator"),
        *("trainer.strategy", "trainer.log_every_n_steps", "trainer.default_root_dir", "trainer.profiler"),
        *(
            "trainer.enable_progress_bar",
            "trainer.enable_model_summary",
            "trainer.enable_checkpointing",
            "print_config",
        ),
    )
)


def run_name(topic: str, data: str, arguments: Sequence[str]) -> str:
    """Returns the name of a run, such as "svm · CIFAR10 · lr 3e-3 · reg 0.1".

    Args:
        topic: Its topic.
        data: Class of its data set.
        arguments: Its command line, with --config naming files; the first one is the topic's.
    """
    words = list(arguments)
    first = next((index for index, word in enumerate(words) if word in ("--config", "-c")), len(words))
    topics = {written.key: _read(written.value) for written in WrittenSettings(words[first : first + 2]).settings}
    changed: dict[str, tuple[str, Any]] = {}
    for written in WrittenSettings([*words[:first], *words[first + 2 :]]).settings:
        value = _read(written.value)
        changed.pop(written.key, None)
        same = written.key in topics and topics[written.key] == value
        if not same and written.key != "data" and not f"{written.key}.".startswith(_SAME_RESULTS):
            changed[written.key] = written.value, value
    labels = Counter(map(_label, changed))
    parts = [topic, data]
    for key, (text, value) in changed.items():
        label = _label(key) if labels[_label(key)] == 1 else key
        part = _shown(text.rpartition(".")[2], value) if key in CLASS_KEYS else f"{label} {_shown(text, value)}"
        if len(_SEPARATOR.join([*parts, part, "…"])) > _MAX_LENGTH:
            parts.append("…")
            break
        parts.append(part)
    return _SEPARATOR.join(parts)[:_MAX_LENGTH]


def _label(key: str) -> str:
    return "seed" if key == "seed_everything" else key.rpartition(".")[2]


def _read(text: str) -> Any:
    try:
        return load_yaml(text, "a setting")
    except UserError:
        return text


def _shown(text: str, value: Any) -> str:
    """Returns a value as it is written or with four digits, whichever is shorter."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return min(setting(value), text, key=len)
    return (
        shorten(setting(value) if value is not None else "null", _MAX_VALUE)
        if not isinstance(value, str)
        else shorten(text, _MAX_VALUE)
    )
