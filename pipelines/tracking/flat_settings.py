"""Flat configuration with dotted keys, the same on the command line, in sweeps and on the dashboard."""

from typing import Any

from pipelines.tracking.secrets import hide_secrets


def flat_settings(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens a configuration to dotted keys, spelled as on the command line.

    {"model": {"class_path": "modules.LinearSVM", "init_args": {"reg": 0.1}}} becomes {"model": "LinearSVM",
    "model.reg": 0.1}. Keys and passwords are hidden.
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and "class_path" in value:
            flat[name] = value["class_path"].rsplit(".", 1)[-1]
            flat |= flat_settings({**(value.get("init_args") or {}), **(value.get("dict_kwargs") or {})}, f"{name}.")
        elif isinstance(value, dict):
            flat |= flat_settings(value, f"{name}.")
        else:
            flat[name] = hide_secrets(value, name)
    return flat
