"""Interprets a trained classifier: a run of this project, or a pretrained model of timm.

python -m pipelines.interpret saliency --ckpt logs/convnet/RUN --images cat.png --out maps
python -m pipelines.interpret saliency --method grad_cam --timm tf_efficientnet_lite0 --images photos --out maps
python -m pipelines.interpret fooling --ckpt logs/convnet/RUN --images cat.png --class truck --out fooled
python -m pipelines.interpret class_visualization --ckpt logs/convnet/RUN --out classes
python -m pipelines.interpret features --ckpt logs/convnet/RUN --images photos --layer stages.1 --out features

    saliency               the pixels that matter for a class (`saliency.py`, `grad_cam.py`)
    fooling                small changes after which the network predicts another class (`fooling_images.py`)
    class_visualization    images that maximize the score of a class (`class_visualization.py`)
    features               feature maps, and the patches with the strongest activations of each channel
                           (`feature_extraction.py`, `receptive_patches.py`)

The methods are in `modules/interpretation`. Pictures are written to the folder --out as PNG and their figures as CSV.
Images are preprocessed as in training: by the fitted preprocessing of a run, or by the transform of a timm model. An
image that can't be read is named and left out. The exit status is 1 if there was one, or if an image did not fool the
network.
"""

import argparse
import sys
from pathlib import Path

from common.errors import UserError
from common.messages.counting import count
from pipelines.console.errors import user_errors
from pipelines.console.option_parser import OptionParser
from pipelines.console.outputs import check_out_folder, print_report
from pipelines.run.run_folder import as_typed

COMMANDS = {
    "saliency": "maps of the pixels that matter for a class",
    "fooling": "small changes after which the network predicts another class",
    "class_visualization": "images that maximize the score of a class",
    "features": "feature maps, and the patches with the strongest activations of each channel",
}
METHODS = ("gradient", "smoothgrad", "integrated", "grad_cam")


def usage() -> str:
    """Returns the help text."""
    lines = ["usage: python -m pipelines.interpret COMMAND --ckpt RUN|CHECKPOINT --images FILE ... --out FOLDER"]
    lines += [
        "       python -m pipelines.interpret COMMAND --timm NAME [--weights FILE] --images FILE ... --out FOLDER"
    ]
    lines += ["", "commands:", *(f"  {name:<19}  {text}" for name, text in COMMANDS.items())]
    lines += ["", "What each option means:  python -m pipelines.interpret COMMAND --help"]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    program = "python -m pipelines.interpret"
    parser = OptionParser(program, add_help=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, images: bool = True) -> argparse.ArgumentParser:
        text = f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}."
        command = commands.add_parser(name, prog=f"{program} {name}", description=text)
        checkpoint = "run folder (its best checkpoint), checkpoint, or artifact wandb:ENTITY/PROJECT/NAME:ALIAS"
        command.add_argument("--ckpt", metavar="RUN|CHECKPOINT", help=checkpoint)
        command.add_argument("--timm", metavar="NAME", help="model of timm instead, such as tf_efficientnet_lite0")
        command.add_argument("--weights", type=Path, metavar="FILE", help="its weights (default: timm downloads them)")
        command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of pictures and figures")
        if images:
            command.add_argument("--images", nargs="+", required=True, metavar="FILE", help="image files or folders")
            command.add_argument("--invert", action="store_true", help="invert the images: dark ink becomes light")
        return command

    def add_int(command: argparse.ArgumentParser, option: str, default: int, text: str) -> None:
        command.add_argument(option, type=int, default=default, metavar="N", help=f"{text} (default: {default})")

    def add_float(command: argparse.ArgumentParser, option: str, default: float, text: str) -> None:
        command.add_argument(option, type=float, default=default, metavar="X", help=f"{text} (default: {default})")

    saliency = add("saliency")
    saliency.add_argument("--class", dest="label", metavar="NAME|INDEX", help="class (default: the most probable one)")
    saliency.add_argument("--method", choices=METHODS, default="gradient", help="method (default: gradient)")
    saliency.add_argument("--layer", metavar="NAME", help="grad_cam: layer (default: the last with feature maps)")
    add_int(saliency, "--samples", 25, "smoothgrad: number of noisy images")
    add_float(saliency, "--noise", 0.15, "smoothgrad: standard deviation, as a fraction of the image's range")
    add_int(saliency, "--steps", 64, "integrated: number of steps from the baseline to the image")

    fooling = add("fooling")
    fooling.add_argument("--class", dest="label", required=True, metavar="NAME|INDEX", help="target class")
    add_float(fooling, "--step", 0.001, "root mean square of the change in one step")
    add_int(fooling, "--steps", 200, "largest number of steps for an image")
    fooling.add_argument("--bound", type=float, metavar="X", help="largest change of a value (default: no limit)")

    classes = add("class_visualization", images=False)
    classes.add_argument(
        "--class", dest="labels", nargs="+", metavar="NAME|INDEX", help="classes (default: all of a run)"
    )
    add_int(classes, "--steps", 200, "steps of gradient ascent")
    add_float(classes, "--step", 0.02, "size of the first step")
    add_float(classes, "--l2", 0.01, "strength of the L2 regularization towards gray")
    add_float(classes, "--jitter", 0.07, "largest shift as a fraction of the shorter side")
    add_float(classes, "--blur", 0.5, "standard deviation of the Gaussian blur, in pixels")
    add_int(classes, "--blur-every", 10, "steps between two blurs")
    # The option's former spelling.
    classes.add_argument("--blur_every", type=int, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    add_int(classes, "--seed", 0, "seed of the first image and the shifts")
    classes.add_argument("--animation", action="store_true", help="also write classes.gif")

    features = add("features")
    features.add_argument(
        "--layer", nargs="+", default=[], metavar="NAME", help="layers (default: the last one of each stage)"
    )
    add_int(features, "--maps", 8, "maps per layer, and channels with patches")
    features.add_argument(
        "--channel",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="channels with patches (default: most selective)",
    )
    add_int(features, "--patches", 9, "patches per channel, 0 for none")
    return parser


def interpret(given: argparse.Namespace) -> bool:
    """Runs a parsed command line; returns False if an image could not be read or did not fool the network.

    Raises:
        ValueError: If the network, an image or a value can't be used.
        OSError: If the folder can't be written.
    """
    if (given.ckpt is None) == (given.timm is None):
        raise UserError(
            "There must be one network; set either --ckpt to a run's folder or checkpoint, or --timm to a model's name."
        )
    if given.weights is not None and given.timm is None:
        raise UserError("--weights is only for --timm; a checkpoint has its own weights.")
    # These import torch, Lightning and timm, which takes seconds; a typing error is reported before.
    from datamodules.files.given_images import GivenImages, find_images
    from pipelines.interpretation.class_images import show_classes
    from pipelines.interpretation.class_names import find_class
    from pipelines.interpretation.fooling_images import show_fooling
    from pipelines.interpretation.inspected_model import inspect_run, inspect_timm
    from pipelines.interpretation.layer_features import show_features
    from pipelines.interpretation.saliency_maps import show_saliency

    images = find_images(given.images) if "images" in given else GivenImages([])
    check_out_folder(given.out, images.files)
    invert = "invert" in given and given.invert
    if given.timm is None:
        inspected = inspect_run(given.ckpt, invert)
    else:
        inspected = inspect_timm(given.timm, given.weights, invert)
    names = inspected.class_names
    given.out.mkdir(parents=True, exist_ok=True)
    print(f"network  {inspected.name}, {count(len(names), 'class')}", flush=True)
    good = True
    if given.command == "saliency":
        label = None if given.label is None else find_class(given.label, names)
        show_saliency(
            inspected, images, label, given.out, given.method, given.layer, given.samples, given.noise, given.steps
        )
    elif given.command == "fooling":
        label = find_class(given.label, names)
        good = show_fooling(inspected, images, label, given.out, given.step, given.steps, given.bound)
    elif given.command == "class_visualization":
        if given.labels is None and given.timm is not None:
            raise UserError(f"{given.timm} has {len(names)} classes; choose with --class.")
        labels = range(len(names)) if given.labels is None else [find_class(label, names) for label in given.labels]
        settings = {name: getattr(given, name) for name in ("step", "l2", "jitter", "blur", "blur_every", "seed")}
        show_classes(inspected, labels, given.out, given.animation, given.steps, **settings)
    else:
        show_features(inspected, images, given.layer, given.out, given.maps, given.channel, given.patches)
    print_report(images.report(inspected.brightness))
    print(f"written  {as_typed(given.out)}")
    return good and not images.unreadable


def main(arguments: list[str] | None = None) -> None:
    """Runs a command line; exit status 1 if an image can't be read or did not fool the network, 2 after a mistake."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with user_errors():
        if not arguments or arguments[0] in ("--help", "-h"):
            print(usage())
        elif not interpret(_parser().parse_args(arguments)):
            sys.exit(1)


if __name__ == "__main__":
    main()
