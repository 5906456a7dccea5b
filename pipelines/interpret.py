"""Looks inside a trained classifier: a run of this project, or a pretrained model of timm.

python -m pipelines.interpret saliency --ckpt logs/convnet/RUN --images cat.png --out maps
python -m pipelines.interpret saliency --method grad_cam --timm tf_efficientnet_lite0 --images photos --out maps
python -m pipelines.interpret fooling --ckpt logs/convnet/RUN --images cat.png --class truck --out fooled
python -m pipelines.interpret class_visualization --ckpt logs/convnet/RUN --out classes
python -m pipelines.interpret features --ckpt logs/convnet/RUN --images photos --layer stages.1 --out features

    saliency               which pixels matter for a class (`saliency.py`, `grad_cam.py`)
    fooling                the small change that makes the network see another class (`fooling_images.py`)
    class_visualization    an image that is most typical of a class (`class_visualization.py`)
    features               what layers make of an image, and the patches that excite their channels most
                           (`feature_extraction.py`, `receptive_patches.py`)

The methods are in `modules/interpretation`. The folder --out gets the pictures as PNG and their figures as
CSV. What goes into the network is each image as it was
prepared in training: the preprocessing that was fitted for a run, timm's own transform for a model of timm.
"""

import argparse
import sys
from pathlib import Path

from common.errors import UserError
from pipelines.console.errors import user_errors
from pipelines.console.option_parser import OptionParser
from pipelines.run.run_folder import as_typed

METHODS = ("gradient", "smoothgrad", "integrated", "grad_cam")


def usage() -> str:
    """The help."""
    return "\n".join(
        [
            "usage: python -m pipelines.interpret COMMAND --ckpt CKPT|RUN --images FILE ... --out FOLDER",
            "       python -m pipelines.interpret COMMAND --timm NAME [--weights FILE] --images FILE ... --out FOLDER",
            "",
            "commands:",
            "  saliency             which pixels matter for a class",
            "  fooling              the small change that makes the network see another class",
            "  class_visualization  an image that is most typical of a class",
            "  features             what layers make of an image, and the patches that excite their channels most",
            "",
            "What each option means:  python -m pipelines.interpret COMMAND --help",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    program = "python -m pipelines.interpret"
    parser = OptionParser(program, add_help=False, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, images: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, prog=f"{program} {name}", description=text, allow_abbrev=False)
        made.add_argument("--ckpt", metavar="CKPT|RUN", help="a checkpoint, or a run's folder (its best checkpoint)")
        made.add_argument("--timm", metavar="NAME", help="a model of timm instead, such as tf_efficientnet_lite0")
        made.add_argument("--weights", type=Path, metavar="FILE", help="its weights; left out, timm downloads them")
        made.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for pictures and figures")
        if images:
            made.add_argument("--images", nargs="+", required=True, metavar="FILE", help="image files or folders")
        return made

    saliency = add("saliency", "Which pixels matter for a class.")
    saliency.add_argument("--class", dest="label", metavar="NAME|INDEX", help="left out: the most probable one")
    saliency.add_argument("--method", choices=METHODS, default="gradient", help="(default: gradient)")
    saliency.add_argument("--layer", help="grad_cam: a layer that gives maps (default: the last one)")
    saliency.add_argument("--samples", type=int, default=25, help="smoothgrad: noisy images (default: 25)")
    saliency.add_argument(
        "--noise", type=float, default=0.15, help="smoothgrad: share of an image's range (default: 0.15)"
    )
    saliency.add_argument("--steps", type=int, default=64, help="integrated: points on the way (default: 64)")

    fooling = add("fooling", "The small change that makes the network see another class.")
    fooling.add_argument("--class", dest="label", required=True, metavar="NAME|INDEX", help="what it is to see")
    fooling.add_argument(
        "--step", type=float, default=0.001, help="change in one step, root mean square (default: 0.001)"
    )
    fooling.add_argument("--steps", type=int, default=200, help="give an image up after so many (default: 200)")
    fooling.add_argument("--bound", type=float, help="the most by which a value may change, such as 0.03")

    classes = add("class_visualization", "An image that is most typical of a class.", images=False)
    classes.add_argument(
        "--class", dest="labels", nargs="+", metavar="NAME|INDEX", help="left out: all of a run's classes"
    )
    classes.add_argument("--steps", type=int, default=200, help="of gradient ascent (default: 200)")
    classes.add_argument("--step", type=float, default=0.02, help="change in the first step (default: 0.02)")
    classes.add_argument("--l2", type=float, default=0.01, help="how much gray is preferred (default: 0.01)")
    classes.add_argument("--jitter", type=float, default=0.07, help="largest shift, share of the side (default: 0.07)")
    classes.add_argument("--blur", type=float, default=0.5, help="of the Gaussian, in pixels (default: 0.5)")
    classes.add_argument("--blur_every", type=int, default=10, help="steps between two blurs (default: 10)")
    classes.add_argument("--seed", type=int, default=0, help="of first image and shifts (default: 0)")
    classes.add_argument("--animation", action="store_true", help="write classes.gif too")

    features = add("features", "What layers make of an image, and the patches that excite their channels most.")
    features.add_argument("--layer", nargs="+", default=[], help="names of layers (default: what each stage ends with)")
    features.add_argument("--maps", type=int, default=8, help="maps, and channels with patches (default: 8)")
    features.add_argument(
        "--channel", type=int, nargs="+", default=[], help="channels with patches (default: strongest)"
    )
    features.add_argument("--patches", type=int, default=9, help="for each channel; 0 for none (default: 9)")
    return parser


def interpret(given: argparse.Namespace) -> bool:
    """Carries out a parsed command line; false if there was an image that the network could not be fooled with.

    Raises:
        ValueError: what was given can't be used.
        OSError: the folder can't be written.
    """
    if (given.ckpt is None) == (given.timm is None):
        raise UserError("Say which network: --ckpt with a checkpoint or a run's folder, or --timm with a name.")
    if given.weights is not None and given.timm is None:
        raise UserError("--weights goes with --timm alone; a checkpoint has its own weights.")
    # They import torch, Lightning and timm: seconds that a typing error need not wait for.
    from datamodules.images.image_files import find_images
    from pipelines.interpretation.class_images import show_classes
    from pipelines.interpretation.class_names import find_class
    from pipelines.interpretation.fooling_images import show_fooling
    from pipelines.interpretation.inspected_model import of_run, of_timm
    from pipelines.interpretation.layer_features import show_features
    from pipelines.interpretation.saliency_maps import show_saliency

    files = find_images(given.images) if "images" in given else []
    subject = of_run(given.ckpt) if given.timm is None else of_timm(given.timm, given.weights)
    names = subject.class_names
    given.out.mkdir(parents=True, exist_ok=True)
    print(f"network  {subject.name}, {len(names)} classes", flush=True)
    good = True
    if given.command == "saliency":
        label = None if given.label is None else find_class(given.label, names)
        show_saliency(
            subject, files, label, given.out, given.method, given.layer, given.samples, given.noise, given.steps
        )
    elif given.command == "fooling":
        label = find_class(given.label, names)
        good = show_fooling(subject, files, label, given.out, given.step, given.steps, given.bound)
    elif given.command == "class_visualization":
        if given.labels is None and given.timm is not None:
            raise UserError(f"{given.timm} has {len(names)} classes; say with --class which of them to show.")
        labels = range(len(names)) if given.labels is None else [find_class(label, names) for label in given.labels]
        settings = {name: getattr(given, name) for name in ("step", "l2", "jitter", "blur", "blur_every", "seed")}
        show_classes(subject, labels, given.out, given.animation, given.steps, **settings)
    else:
        show_features(subject, files, given.layer, given.out, given.maps, given.channel, given.patches)
    print(f"written  {as_typed(given.out)}")
    return good


def main(arguments: list[str] | None = None) -> None:
    """Runs a command line; ends with status 1 if not all images fool, 2 and one sentence if it can't be carried out."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("--help", "-h"):
        print(usage())
        return
    with user_errors():
        good = interpret(_parser().parse_args(arguments))
    if not good:
        sys.exit(1)


if __name__ == "__main__":
    main()
