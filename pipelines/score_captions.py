"""Scores a file of captions against references: BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D, without Java.

python -m pipelines.score_captions captions.json data/coco/annotations/captions_val2017.json

The first file is in COCO's results format, as `pipelines.caption --out` writes it; the second contains the references
in COCO's annotation format. The images of the results file are scored. docs/caption_metrics.md compares the scores with
those of coco-caption.

Source: https://cocodataset.org/#captions-eval
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from pipelines.console.formatting import count
from pipelines.console.option_parser import OptionParser
from pipelines.console.run_command import run_command

_FORMAT = "it must be a list of objects with an integer image_id and a string caption"


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


def read_results(file: Path) -> dict[int, str]:
    """Reads captions by image id from a file in COCO's results format.

    Raises:
        ValueError: If the file is missing or in another format, or an image has two captions.
    """
    if not file.is_file():
        raise UserError(f"There is no results file at {file}; use one written by pipelines.caption --out.")
    try:
        rows: Any = json.loads(file.read_text(encoding="utf-8"))
        captions = [(row["image_id"], row["caption"]) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file} is not in COCO's results format ({error!r}); {_FORMAT}.") from error
    for number, text in captions:
        if not isinstance(number, int) or not isinstance(text, str):
            raise UserError(f"{file} has image_id {number!r} with caption {text!r}; {_FORMAT}.")
    by_image = dict(captions)
    if not captions or len(by_image) < len(captions):
        raise UserError(
            f"{file} has {count(len(captions), 'caption')} of {count(len(by_image), 'image')}; there must be one "
            "caption per image."
        )
    return by_image


def score(results: Path, annotations: Path) -> dict[str, float]:
    """Returns the scores by name, and `images`, the number of scored images.

    Raises:
        ValueError: If a file can't be used, or an image has no references.
    """
    captions = read_results(results)
    from datamodules.captions.coco_files import (  # imports torch, which takes seconds
        BadSamples,
        read_captions,
    )
    from modules.caption_metrics.bleu import BLEU
    from modules.caption_metrics.cider import CIDEr
    from modules.caption_metrics.rouge import ROUGE

    references = read_captions(annotations, BadSamples("skip"))
    unknown = sorted(captions.keys() - references.keys())
    if unknown:
        raise UserError(
            f"{results} has captions of {len(unknown)} of {count(len(captions), 'image')} without references in "
            f"{annotations}, such as image {unknown[0]}; use the annotations of the same images."
        )
    of_images = [references[number].captions for number in captions]
    bleu, rouge, cider = BLEU(), ROUGE(), CIDEr()
    for metric in (bleu, rouge, cider):
        metric.update(list(captions.values()), of_images)
    scores = {f"bleu{n}": float(value) for n, value in enumerate(bleu.compute(), start=1)}
    return scores | {"rouge_l": float(rouge.compute()), "cider": float(cider.compute()), "images": len(captions)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; a user's mistake ends with one sentence and exit status 2."""
    run_command(usage, _work, arguments)


def _work(arguments: list[str]) -> None:
    parser = OptionParser(prog="python -m pipelines.score_captions", add_help=False, allow_abbrev=False)
    parser.add_argument("results", type=Path)
    parser.add_argument("annotations", type=Path)
    given = parser.parse_args(arguments)
    for name, value in score(given.results, given.annotations).items():
        print(f"{name:<8} {value:.4f}" if name != "images" else f"{name:<8} {value:,}")


if __name__ == "__main__":
    main()
