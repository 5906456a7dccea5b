"""Scores a file of captions against references: BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D, without Java.

python -m pipelines.score_captions captions.json data/coco/annotations/captions_val2017.json

The first file is in COCO's results format, as `pipelines.caption --out` writes it; the second contains the references
in COCO's annotation format, whose list of images may be missing. The images of the results file are scored.
docs/caption_metrics.md compares the scores with those of coco-caption.

Source: https://cocodataset.org/#captions-eval
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from common.errors import UserError
from pipelines.console.formatting import count
from pipelines.console.option_parser import OptionParser
from pipelines.console.run_command import run_command

if TYPE_CHECKING:
    from datamodules.captions.coco_files import CocoImage, ImageId

_FORMAT = "it must be a list of objects with an image_id, an integer or text, and a string caption"


def usage() -> str:
    """Returns the help text."""
    return "\n".join(
        [
            "usage: python -m pipelines.score_captions RESULTS.json ANNOTATIONS.json",
            "",
            "  RESULTS.json      captions in COCO's results format, as written by pipelines.caption --out",
            "  ANNOTATIONS.json  references in COCO's annotation format, such as captions_val2017.json",
        ]
    )


class Row(NamedTuple):
    """An entry of a results file."""

    image_id: Any  # a number or text
    caption: str
    file_name: str  # empty if the file does not say


def read_results(file: Path) -> list[Row]:
    """Reads captions from a file in COCO's results format, in UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        ValueError: If the file is missing or in another format, or an image has two captions.
    """
    if not file.is_file():
        raise UserError(f"There is no results file at {file}; use one written by pipelines.caption --out.")
    try:
        entries: Any = json.loads(file.read_bytes())
        rows = [Row(entry["image_id"], entry["caption"], entry.get("file_name", "")) for entry in entries]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} is not in COCO's results format ({error!r}); {_FORMAT}.") from error
    for number, text, _ in rows:
        if isinstance(number, bool) or not isinstance(number, int | str) or not isinstance(text, str):
            raise UserError(f"{file} has image_id {number!r} with caption {text!r}; {_FORMAT}.")
    images = {str(row.image_id) for row in rows}
    if not rows or len(images) < len(rows):
        raise UserError(
            f"{file} has {count(len(rows), 'caption')} of {count(len(images), 'image')}; there must be one "
            "caption per image."
        )
    return rows


def find_images(rows: Sequence[Row], references: "Mapping[ImageId, CocoImage]") -> "list[ImageId | None]":
    """Returns the id of each row's image in the annotations, None if they have no such image.

    An image is found by its file name if both files have it, since ids of results may be indices; otherwise by its id,
    unless the file names say that it is another image.
    """
    ids: dict[str, Any] = {str(number): number for number in references}
    by_path, by_base = _by_name(references, str), _by_name(references, _base)
    found: list[Any] = []
    for row in rows:
        name, of_id = str(row.file_name), ids.get(str(row.image_id))
        paths, bases = by_path.get(name, []), by_base.get(_base(name), [])
        if len(paths) == 1:
            found += paths
        elif of_id is not None and _agree(row, references[of_id].file_name):
            found.append(of_id)
        else:
            found.append(bases[0] if len(bases) == 1 else None)
    return found


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _by_name(references: "Mapping[ImageId, CocoImage]", key: Callable[[str], str]) -> dict[str, list[Any]]:
    named: dict[str, list[Any]] = {}
    for number, image in references.items():
        if image.file_name:
            named.setdefault(key(image.file_name), []).append(number)
    return named


def _agree(row: Row, file_name: str) -> bool:
    """Whether a row may be of the image of its id: COCO's 2014 and 2017 name a file differently, but both by its id."""
    base = _base(str(row.file_name))
    digits = re.search(r"(\d+)$", Path(base).stem)
    by_id = digits is not None and str(int(digits[1])) == str(row.image_id)
    return not base or not file_name or base == _base(file_name) or by_id


def score(results: Path, annotations: Path) -> dict[str, float]:
    """Returns the scores by name, and `images`, the number of scored images.

    CIDEr-D is NaN if no word is rarer than others, as for a single image.

    Raises:
        ValueError: If a file can't be used, or an image has no references.
    """
    rows = read_results(results)
    from datamodules.captions.coco_files import (  # imports torch, which takes seconds
        BadSamples,
        read_captions,
    )
    from modules.caption_metrics.bleu import BLEU
    from modules.caption_metrics.cider import CIDEr
    from modules.caption_metrics.rouge import ROUGE

    references = read_captions(annotations, BadSamples("skip"), need_files=False)
    numbers: list[Any] = find_images(rows, references)
    if unknown := [row.image_id for row, number in zip(rows, numbers, strict=True) if number is None]:
        raise UserError(
            f"{results} has captions of {len(unknown)} of {count(len(rows), 'image')} without references in "
            f"{annotations}, such as image {unknown[0]}; use the annotations of the same images."
        )
    if len(set(numbers)) < len(numbers):
        repeated = next(number for number in numbers if numbers.count(number) > 1)
        raise UserError(f"{results} has two captions of image {repeated}; there must be one caption per image.")
    captions = [row.caption for row in rows]
    of_images = [references[number].captions for number in numbers]
    bleu, rouge, cider = BLEU(), ROUGE(), CIDEr()
    for metric in (bleu, rouge, cider):
        metric.update(captions, of_images)
    scores = {f"bleu{n}": float(value) for n, value in enumerate(bleu.compute(), start=1)}
    cider_d = float(cider.compute()) if cider.has_weights() else nan
    return scores | {"rouge_l": float(rouge.compute()), "cider": cider_d, "images": len(captions)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; a user's mistake ends with one sentence and exit status 2."""
    run_command(usage, _work, arguments)


def _work(arguments: list[str]) -> None:
    parser = OptionParser(prog="python -m pipelines.score_captions", add_help=False)
    parser.add_argument("results", type=Path)
    parser.add_argument("annotations", type=Path)
    given = parser.parse_args(arguments)
    for name, value in score(given.results, given.annotations).items():
        if isnan(value):
            print(f"{name:<8} undefined: it weighs words by how few images they occur in, and none is rare here")
        else:
            print(f"{name:<8} {value:.4f}" if name != "images" else f"{name:<8} {value:,}")


if __name__ == "__main__":
    main()
