"""One command for all: `l231n fit --config svm` is `python -m pipelines.train fit --config svm`.

`python -m pipelines` is the same command, for an environment whose scripts are not on the path.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from common.errors import UserError
from pipelines.console.errors import user_errors
from pipelines.console.near_names import nearest
from pipelines.run.topics import is_config
from pipelines.train import MEANT, SUBCOMMANDS

COMMANDS = {
    "check": "check a model and its data before training",
    "sweep": "search hyperparameters by a W&B sweep file",
    "compare": "compare runs in the terminal and as a page",
    "crossval": "cross-validate settings",
    "caption": "write captions for image files",
    "score_captions": "score a file of captions against references",
    "interpret": "saliency maps, fooling images, class visualization, feature maps",
    "sample": "generate images with a trained generator",
    "export": "write a trained classifier as ONNX, TorchScript or safetensors",
    "reproduce": "run the commands behind the figures of RESULTS.md again",
    "data": "list, download, verify and preview data sets",
    "new": "write a small topic of your own to start from",
}


def usage() -> str:
    """Returns the help text: one line for each command."""
    lines = ["usage: l231n COMMAND ...", "", "commands:"]
    lines += [f"  {name:<15} {text}" for name, text in {**SUBCOMMANDS, **COMMANDS}.items()]
    lines += ["", "l231n COMMAND --help explains each; l231n fit --config TOPIC trains a topic."]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command that the first argument names with the arguments after it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with user_errors():
        if not given or given[0] in ("--help", "-h"):
            print(usage())
            return
        name = given[0].replace("-", "_")
        if name not in {**SUBCOMMANDS, **COMMANDS}:
            near = MEANT.get(name.lower()) or nearest(name, [*SUBCOMMANDS, *COMMANDS])
            if near is None and is_config(given[0]):
                near = f"fit {given[0]}"
            hint = f"did you mean {near}?" if near else f"it must be one of {', '.join([*SUBCOMMANDS, *COMMANDS])}."
            raise UserError(f"There is no command {given[0]!r}; {hint}")
    module = "train" if name in SUBCOMMANDS else name
    import_module(f"pipelines.{module}").main(given if module == "train" else given[1:])


if __name__ == "__main__":
    main()
