"""Creates timm models by name, randomly initialized or pretrained, with clear errors for invalid names or weights."""

import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from common.errors import UserError

_OWN_OPTIONS = {  # of `timm.create_model` that are set here, and what to do instead
    "num_classes": "it is that of the data",
    "in_chans": "it is that of the images",
    "features_only": "the network has to end in one vector for each image",
    "pretrained": "set pretrained to hub, or to a file of weights",
    "checkpoint_path": "set pretrained to the file of weights",
    "pretrained_cfg": "set pretrained to hub, or to a file of weights",
    "pretrained_cfg_overlay": "set pretrained to hub, or to a file of weights",
    "model_name": "set backbone to the model's name",
}


def timm_name(name: str) -> str:
    """Returns the name of a model without the prefixes that timm and the Hugging Face hub put before it.

    Args:
        name: Name such as resnet18, timm/resnet18.a1_in1k or hf-hub:timm/resnet18.a1_in1k.

    Raises:
        ValueError: If it names a model of another owner on the hub, or a folder.
    """
    plain = name.removeprefix("hf_hub:").removeprefix("hf-hub:").removeprefix("timm:").removeprefix("timm/")
    if "/" in plain or ":" in plain:
        raise UserError(
            f"The model {name!r} is not one of timm's own; use the name of the timm model that it is, and set "
            "pretrained to a file of its weights."
        )
    return plain


def check_timm_model(name: str, pretrained: str | None) -> None:
    """Refuses an unknown model or missing weights, without creating the model.

    Args:
        name: Name of the model in timm, such as resnet18.
        pretrained: hub for the weights that timm names, a file of weights, or None for random weights.

    Raises:
        ValueError: If timm has no model of that name, the file does not exist, or the hub has no weights for it.
    """
    import timm  # takes a second and a half to import

    name = timm_name(name)
    if not timm.is_model(name.split(".")[0]):
        near = get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models('*resnet*') lists some."
        raise UserError(f"timm has no model {name!r}; {hint}")
    if pretrained not in (None, "hub") and not Path(str(pretrained)).is_file():
        raise UserError(f"pretrained is {pretrained!r}, and there is no such file; give hub or a file of weights.")
    if pretrained == "hub" and not timm.is_model_pretrained(name):
        raise UserError(
            f"timm has no pretrained weights for {name!r}; give a file of weights, or leave pretrained out."
        )


def create_timm_model(
    name: str,
    pretrained: str | None,
    options: Mapping[str, Any] | None = None,
    new_classes: int | None = None,
    **arguments: Any,
) -> nn.Module:
    """Returns what `timm.create_model` returns.

    Args:
        name: Name of the model in timm, such as resnet18.
        pretrained: hub for the weights that timm names, a file of weights, or None for random weights.
        options: Further arguments of `timm.create_model` that the user gave.
        new_classes: Outputs of a new last layer that replaces the loaded one, 0 for none; None keeps the loaded one.
            timm checks that all weights fit only if the last layer is created as the weights have it.
        arguments: Further arguments of `timm.create_model`, overridden by `options`.

    Raises:
        ValueError: As `check_timm_model`, or if the model refuses an argument or the weights.
    """
    import timm

    check_timm_model(name, pretrained)
    name = timm_name(name)
    for option in options or {}:
        if option in _OWN_OPTIONS:
            raise UserError(f"options has {option!r}, which is not an option here: {_OWN_OPTIONS[option]}.")
    arguments |= options or {}
    if pretrained not in (None, "hub"):
        arguments["pretrained_cfg_overlay"] = {"file": pretrained}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: nn.Module = timm.create_model(name, pretrained=pretrained is not None, **arguments)
            if new_classes is not None:
                model.reset_classifier(new_classes)  # type: ignore[operator]
    except Exception as error:  # timm, torch and the hub raise exceptions of many types
        reason = " ".join(str(error).split())[:300].rstrip(".")
        if pretrained is not None:
            raise UserError(
                f"The weights {pretrained!r} can't be used for {name}: {reason}; use weights saved for this model."
            ) from error
        raise UserError(f"timm can't create {name} with {dict(options or {})}: {reason}.") from error
    return model
