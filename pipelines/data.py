"""Lists, downloads, verifies and previews the data sets.

python -m pipelines.data list
python -m pipelines.data download cifar10 mnist
python -m pipelines.data verify cifar10
python -m pipelines.data preview cifar10 --flip --crop_padding 4 --cutout 8 --out preview.png

`verify` ends with status 1 if files are missing or damaged. Counts or bytes that are not the official ones are said,
but are no failure: a part of a data set in the right format can be trained on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from pipelines.console.errors import sentence, user_errors
from pipelines.console.png import write_png
from pipelines.data_sets import caption_data_sets as caption_data
from pipelines.data_sets.image_data_sets import DATA_SETS, find_name, make, table
from pipelines.data_sets.preview import preview
from pipelines.data_sets.verification import verify


def download(name: str, root: Path) -> None:
    """Downloads a data set's files unless they are there, with a progress bar.

    Raises:
        ValueError: no mirror delivers the right files, or they can't be written.
    """
    if not DATA_SETS[name].files:
        print(f"{name}: built in, nothing to download.")
        return
    if DATA_SETS[name].captions:
        caption_data.download(name, root)
    else:
        make(name, root).prepare_data()
    print(f"{name}: there, in {root / DATA_SETS[name].folder}.")


def _albumentations(text: str) -> list[Any]:
    """A pipeline written as YAML on the command line."""
    import yaml

    try:
        pipeline = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"albumentations is {text!r}, which is no YAML ({sentence(error)}); mend it.") from error
    if not isinstance(pipeline, list):
        raise UserError(f"albumentations is {text!r}; give a list such as '[{{HorizontalFlip: {{p: 0.5}}}}]'.")
    return pipeline


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m pipelines.data", description="Lists, downloads, verifies and previews the data sets.",
        epilog=f"data sets: {', '.join(DATA_SETS)}", allow_abbrev=False,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    root = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    root.add_argument("--root", type=Path, default=Path("data"), help="folder of the data files (default: data)")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[root], allow_abbrev=False)

    add("list", "show all data sets and whether their files are there")
    for name, text in (
        ("download", "download data sets unless they are there"),
        ("verify", "read all files of data sets, count the images and compare checksums"),
    ):
        add(name, text).add_argument("names", nargs="+", metavar="NAME", help=", ".join(DATA_SETS))
    show = add("preview", "draw training images before and after augmentation into a PNG file")
    show.add_argument("names", nargs=1, metavar="NAME", help=", ".join(DATA_SETS))
    show.add_argument("--out", type=Path, default=Path("preview.png"), help="the file (default: preview.png)")
    show.add_argument("--n", type=int, default=40, help="number of images (default: 40)")
    show.add_argument("--seed", type=int, default=0, help="of the augmentation (default: 0)")
    show.add_argument("--crop_padding", type=int, default=0, help="pixels padded before a random crop")
    show.add_argument("--flip", action="store_true", help="mirror at random")
    show.add_argument("--rotation", type=float, default=0.0, help="largest angle in degrees")
    show.add_argument("--cutout", type=int, default=0, help="side of a blanked square in pixels")
    show.add_argument("--albumentations", help="a pipeline as YAML, such as '[{HorizontalFlip: {p: 0.5}}]'")
    return parser


def _run(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    if given.command == "list":
        print(table(given.root))
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
            settings = {key: getattr(given, key) for key in ("crop_padding", "flip", "rotation", "cutout")}
            if given.albumentations is not None:
                settings["albumentations"] = _albumentations(given.albumentations)
            augmentation = {key: value for key, value in settings.items() if value}
            write_png(preview(name, given.root, given.n, given.seed, augmentation), given.out)
            print(f"{name}: {given.n} images in {given.out}")
    return int(failed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; ends with status 1 if files fail to verify, 2 if the command can't be carried out."""
    with user_errors():
        if status := _run(sys.argv[1:] if arguments is None else arguments):
            sys.exit(status)


if __name__ == "__main__":
    main()
