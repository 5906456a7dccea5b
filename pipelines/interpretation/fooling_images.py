"""`fooling`: changes images as little as it takes until the network sees another class in them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from callbacks.attribution_pictures import fooling_picture
from common.errors import UserError
from modules.interpretation.fooling_images import Fooled, fool
from pipelines.console.png import write_png
from pipelines.interpretation.class_names import short
from pipelines.interpretation.inspected_model import InspectedModel, to_uint8
from pipelines.interpretation.results import Photos, photos, side_of, write_table


def show_fooling(
    subject: InspectedModel, files: Sequence[Path], target: int, out: Path, step: float, steps: int, bound: float | None
) -> bool:
    """Writes for each image NAME.png (before, after, change) and NAME_fooled.png, and figures.csv; prints a line each.

    Args:
        subject: the network.
        files: image files; one that is taken for the target already is named and left as it is.
        target: the class that the images are to be taken for.
        out: folder to write to.
        step: root mean square of a step's change.
        steps: give an image up after so many.
        bound: the most by which a value may change; None leaves it free.

    Returns:
        Whether the network was fooled with every image that it did not take for the target from the start.

    Raises:
        ValueError: a file that is no image, all images taken for the target already, or no gradients.
    """
    rows, fooled = [], True
    wanted = short(subject.class_names[target])
    for batch in photos(subject, files):
        targets = torch.full_like(batch.predicted, target)
        with tqdm(total=steps, unit="step", disable=None, leave=False) as bar:

            def report(number: int, left: int, bar: tqdm = bar) -> None:
                bar.set_postfix_str(f"{left} images left")
                bar.update()

            result = fool(subject.model, batch.images, targets, step, steps, bound, report)
        with torch.no_grad():
            after = subject.model(result.images).float().softmax(1)
        for i, (file, name) in enumerate(zip(batch.files, batch.names, strict=True)):
            before = int(batch.predicted[i])
            if before == target:
                print(f"{file}  is taken for {wanted} already: there is nothing to change", flush=True)
                continue
            reached = int(after[i].argmax())
            good = bool(result.succeeded[i])
            fooled &= good
            write_png(_picture(subject, batch, result, after, i), out / f"{name}.png")
            write_png(to_uint8(result.images[i : i + 1])[0], out / f"{name}_fooled.png")
            rows.append(
                {
                    "image": str(file),
                    "class": subject.class_names[before],
                    "probability": float(batch.probabilities[i, before]),
                    "target": subject.class_names[target],
                    "fooled": good,
                    "steps": int(result.steps[i]),
                    "target_probability_before": float(batch.probabilities[i, target]),
                    "target_probability": float(after[i, target]),
                    "class_after": subject.class_names[reached],
                    "l2": float(result.l2[i]),
                    "l_infinity": float(result.largest[i]),
                }
            )
            size = f"L2 {float(result.l2[i]):.3f}, L∞ {float(result.largest[i]):.4f} ({_levels(result, i)} of 255)"
            if good:
                said = f"{wanted} {float(after[i, target]):.1%} after {int(result.steps[i])} steps"
            else:
                said = (
                    f"not fooled within {steps} steps: {short(subject.class_names[reached])} "
                    f"{float(after[i, reached]):.1%}, {wanted} {float(after[i, target]):.1%}"
                )
            was = f"{short(subject.class_names[before])} {float(batch.probabilities[i, before]):.1%}"
            print(f"{file}  {was} → {said}, change {size}", flush=True)
    if not rows:
        raise UserError(f"All images are taken for {wanted} already; give another --class, or other images.")
    write_table(rows, out / "figures.csv")
    return fooled


def _levels(result: Fooled, i: int) -> int:
    return round(255 * float(result.largest[i]))


def _picture(subject: InspectedModel, batch: Photos, result: Fooled, after: Tensor, i: int) -> np.ndarray:
    before, reached = int(batch.predicted[i]), int(after[i].argmax())
    titles = (
        f"{short(subject.class_names[before])} {float(batch.probabilities[i, before]):.0%}",
        f"{short(subject.class_names[reached])} {float(after[i, reached]):.0%}",
    )
    original = result.images[i : i + 1] - result.change[i : i + 1]
    return fooling_picture(original, result.images[i : i + 1], [titles], side=side_of(subject))
