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


def flatten_classes(key: str, value: Any) -> dict[str, Any]:
    """Flattens a list of classes, such as the callbacks, to their names and a key for each of their settings.

    The project's own callbacks are left out: they draw and measure. Others, such as EarlyStopping, change what is
    trained. A value that is not a list of classes is returned under its key.
    """
    if not (
        isinstance(value, list) and value and all(isinstance(item, dict) and "class_path" in item for item in value)
    ):
        return {key: value}
    others = [item for item in value if not str(item["class_path"]).startswith("callbacks.")]
    names = [str(item["class_path"]).rsplit(".", 1)[-1] for item in others]
    settings: dict[str, Any] = {key: ", ".join(names)} if names else {}
    for name, item in zip(names, others, strict=True):
        arguments = item.get("init_args")
        settings |= flat_settings(arguments, f"{key}.{name}.") if isinstance(arguments, dict) else {}
    return settings
