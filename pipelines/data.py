"""Lists, downloads, verifies and previews the data sets.

python -m pipelines.data list
python -m pipelines.data download cifar10 mnist
python -m pipelines.data verify cifar10
python -m pipelines.data preview cifar10 --flip --crop_padding 4 --cutout 8 --out preview.png
python -m pipelines.data verify photos/                                      # a folder of your own images

The exit status of `verify` is 1 if files are missing, damaged, or have the official counts but other checksums. Other
counts are only reported: a part of a data set in the right format can be trained on.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from pipelines.console.errors import sentence, user_errors
from pipelines.console.formatting import count
from pipelines.console.option_parser import OptionParser
from pipelines.console.outputs import check_out_file
from pipelines.console.png import is_picture, write_png
from pipelines.data_sets import caption_data_sets
from pipelines.data_sets.image_data_sets import DATA_SETS, find_name, make, table
from pipelines.data_sets.own_images import num_training_images
from pipelines.data_sets.preview import preview
from pipelines.data_sets.verification import verify


def download(name: str, root: Path) -> None:
    """Downloads the missing files of a data set, with a progress bar.

    Raises:
        ValueError: If no mirror has the right files, or they can't be written.
    """
    if name not in DATA_SETS:
        raise UserError(f"{name} is a folder or file of your own, with nothing to download; verify reads it.")
    if not DATA_SETS[name].files:
        print(f"{name}: built in, nothing to download.")
        return
    if DATA_SETS[name].captions:
        caption_data_sets.download(name, root)
    else:
        make(name, root).prepare_data()
    print(f"{name}: complete, in {root / DATA_SETS[name].folder}.")


def _albumentations(text: str) -> list[Any]:
    """Parses an Albumentations pipeline in YAML."""
    from common.yaml_text import load_yaml  # PyYAML, which the other commands do not need

    pipeline = load_yaml(text, "--albumentations")
    if not isinstance(pipeline, list):
        raise UserError(f"albumentations is {text!r}; give a list such as '[{{HorizontalFlip: {{p: 0.5}}}}]'.")
    return pipeline


def _parser() -> OptionParser:
    parser = OptionParser(
        "python -m pipelines.data", description="Lists, downloads, verifies and previews the data sets.",
        epilog=f"data sets: {', '.join(DATA_SETS)}",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    root = OptionParser(add_help=False)
    root.add_argument(
        "--root", type=Path, default=Path("data"), metavar="FOLDER", help="folder of the data sets (default: data)"
    )

    def add(name: str, text: str) -> OptionParser:
        return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=[root])

    add("list", "list all data sets and whether their files are complete")
    for name, text in (
        ("download", "download the missing files of data sets"),
        ("verify", "read all files of data sets, count the images, compare checksums"),
    ):
        add(name, text).add_argument(
            "names",
            nargs="+",
            metavar="NAME",
            help=f"{', '.join(DATA_SETS)}, or a folder or CSV file of your own images",
        )
    show = add("preview", "draw training images before and after augmentation")
    show.add_argument(
        "names", nargs=1, metavar="NAME", help=f"{', '.join(DATA_SETS)}, or a folder or CSV file of your own images"
    )
    show.add_argument(
        "--out", type=Path, default=Path("preview.png"), metavar="FILE", help="PNG file to write (default: preview.png)"
    )
    show.add_argument("--size", type=int, metavar="PIXELS", help="side of your own images once resized (default: 64)")
    show.add_argument("--n", type=int, default=40, help="number of images (default: 40)")
    show.add_argument("--seed", type=int, default=0, help="seed of the augmentation (default: 0)")
    show.add_argument(
        "--crop_padding", type=int, default=0, metavar="PIXELS", help="padding before a random crop (default: 0)"
    )
    show.add_argument("--flip", action="store_true", help="flip horizontally at random")
    show.add_argument(
        "--rotation", type=float, default=0.0, metavar="DEGREES", help="largest angle of a random rotation (default: 0)"
    )
    show.add_argument(
        "--cutout",
        type=int,
        default=0,
        metavar="PIXELS",
        help="side of a random square filled with the training mean (default: 0)",
    )
    show.add_argument(
        "--albumentations", metavar="YAML", help="Albumentations pipeline, such as '[{HorizontalFlip: {p: 0.5}}]'"
    )
    return parser


def _run(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    if given.command == "list":
        print(table(given.root))
        print("Your own images: --data ImageFolder --data.folder FOLDER; verify and preview take FOLDER or a CSV file.")
        return 0
    names = [find_name(name) for name in given.names]
    failed = False
    for name in names:
        if given.command == "download":
            download(name, given.root)
        elif given.command == "verify":
            try:
                verify(name, given.root)
            except ValueError as error:
                print(f"error: {sentence(error)}", file=sys.stderr)
                failed = True
        else:
            is_picture(given.out)  # refuses a name of another kind
            if given.size is not None and name in DATA_SETS:
                raise UserError(f"--size is for your own images; those of {name} have their size.")
            settings = {key: getattr(given, key) for key in ("size", "crop_padding", "flip", "rotation", "cutout")}
            if given.albumentations is not None:
                settings["albumentations"] = _albumentations(given.albumentations)
            check_out_file(given.out)
            augmentation = {key: value for key, value in settings.items() if value}
            number = given.n if name in DATA_SETS else min(given.n, num_training_images(name, given.root))
            write_png(preview(name, given.root, number, given.seed, augmentation), given.out)
            print(f"{name}: {count(number, 'image')} in {given.out}")
    return int(failed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; exit status 1 if `verify` finds missing or damaged files, 2 after a user's mistake."""
    with user_errors():
        if status := _run(sys.argv[1:] if arguments is None else arguments):
            sys.exit(status)


if __name__ == "__main__":
    main()
