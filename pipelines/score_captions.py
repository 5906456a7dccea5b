"""Scores captions as the field does: BLEU-1 to 4, ROUGE-L and CIDEr-D of a results file, without Java.

python -m pipelines.score_captions captions.json data/coco/annotations/captions_val2017.json

The first file is in COCO's format for results, as `pipelines.caption --out` writes it; the second holds the references,
in COCO's format for annotations. Scored are the images of the results file. How the figures compare with those of
coco-caption is in docs/caption_metrics.md.

Source: https://cocodataset.org/#captions-eval
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from pipelines.console.option_parser import OptionParser
from pipelines.console.run_command import run_command

_FORMAT = "give a list of objects with image_id, a number, and caption, a text"


def usage() -> str:
    """The help."""
    return "\n".join(
        [
            "usage: python -m pipelines.score_captions RESULTS.json ANNOTATIONS.json",
            "",
            "RESULTS.json is what pipelines.caption --out writes; ANNOTATIONS.json has COCO's captions of them,",
            "such as captions_val2017.json.",
        ]
    )


def read_results(file: Path) -> dict[int, str]:
    """Captions by image id, from a file in COCO's format for results.

    Raises:
        ValueError: a file that is missing or built otherwise, or two captions of one image.
    """
    if not file.is_file():
        raise UserError(f"There is no results file at {file}; give one that pipelines.caption --out has written.")
    try:
        rows: Any = json.loads(file.read_text(encoding="utf-8"))
        captions = [(row["image_id"], row["caption"]) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file} is not in COCO's format for results ({error!r}); {_FORMAT}.") from error
    for number, text in captions:
        if not isinstance(number, int) or not isinstance(text, str):
            raise UserError(f"{file} has image_id {number!r} with caption {text!r}; {_FORMAT}.")
    found = dict(captions)
    if not captions or len(found) < len(captions):
        raise UserError(f"{file} has {len(captions)} captions of {len(found)} images; give one for each image.")
    return found


def score(results: Path, annotations: Path) -> dict[str, float]:
    """The figures by name, and `images`, the number of images scored.

    Raises:
        ValueError: a file that can't be used, or captions of images without references.
    """
    captions = read_results(results)
    from datamodules.captions.coco_files import (  # torch: seconds that a typing error need not wait for
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
            f"{results} captions image {unknown[0]}, which has no captions in {annotations}, as {len(unknown)} of its "
            f"{len(captions)} images; give the annotations of the same images."
        )
    known = [references[number].captions for number in captions]
    bleu, rouge, cider = BLEU(), ROUGE(), CIDEr()
    for metric in (bleu, rouge, cider):
        metric.update(list(captions.values()), known)
    figures = {f"bleu{n}": float(value) for n, value in enumerate(bleu.compute(), start=1)}
    return figures | {"rouge_l": float(rouge.compute()), "cider": float(cider.compute()), "images": len(captions)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; ends with status 2 and one sentence if it can't be carried out."""
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
