"""Settings and class paths that runs of earlier versions recorded under other names.

Version 0.1 said `keep_prob`, the probability of keeping a unit, where torch says `dropout`, the probability of dropping
it; `name` for a timm backbone; and it had every module in one folder, so class paths were one level shorter.
"""

from collections.abc import Mapping
from typing import Any

_DROPOUT = {"keep_prob": "dropout"}
_BACKBONE = {"name": "backbone"}

RENAMED: Mapping[str, Mapping[str, str]] = {
    "FullyConnectedNet": _DROPOUT,
    "ConvNet": _DROPOUT,
    "CaptionRNN": _DROPOUT,
    "CaptionLSTM": _DROPOUT,
    "CaptionTransformer": _DROPOUT,
    "TimmClassifier": _BACKBONE,
    "SimCLR": _BACKBONE,
    "LinearProbe": {"name": "backbone", "freeze_encoder": "freeze_backbone"},
    "FastConvNet": {"views": "test_time_augmentation"},
    "COCOCaptions": {"weights": "pretrained"},
    "NearestTrainingImages": {"neighbours": "neighbors"},
}
"""Class name → earlier name of a setting → its name now."""

_DROPPED: Mapping[str, Mapping[str, Any]] = {
    # timm's Muon had these; the project's own has them built in. Other values are refused as unknown settings.
    "Muon": {
        "safety_factor": 1.0,
        "conv_mode": "flatten",
        "normalize_spatial": True,
        "adamw_lr": None,
        "fallback_lr_scale": 1.0,
        "algo": "muon",
        "scale_eps": False,
        "capturable": False,
        "verbose": False,
    },
}

_MOVED = {"modules.muon.Muon": "modules.optimizers.muon.Muon", "modules.lars.LARS": "modules.optimizers.lars.LARS"}
_PACKAGES = ("modules", "datamodules", "callbacks")


def current_class_path(class_path: str) -> str:
    """Returns where a class of the project is found now: `modules.ConvNet` for `modules.conv_net.ConvNet`.

    Paths of other packages are returned as they are.
    """
    package, _, rest = class_path.partition(".")
    if package not in _PACKAGES or rest.count(".") != 1:
        return class_path
    return _MOVED.get(class_path, f"{package}.{rest.rpartition('.')[2]}")


def current_settings(class_name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a class under their current names, with `keep_prob` p turned into `dropout` 1 − p."""
    renamed = RENAMED.get(class_name, {})
    dropped = _DROPPED.get(class_name, {})
    return {
        renamed.get(name, name): round(1 - value, 12) if name == "keep_prob" and name in renamed else value
        for name, value in settings.items()
        if name not in dropped or dropped[name] != value
    }


def current_config(config: Any) -> Any:
    """Returns a configuration, as YAML gives it, with every class path and setting under its current name."""
    if isinstance(config, list):
        return [current_config(entry) for entry in config]
    if not isinstance(config, dict):
        return config
    config = {key: current_config(value) for key, value in config.items()}
    if isinstance(config.get("class_path"), str):
        config["class_path"] = current_class_path(config["class_path"])
        if isinstance(config.get("init_args"), dict):
            config["init_args"] = current_settings(config["class_path"].rpartition(".")[2], config["init_args"])
    return config
