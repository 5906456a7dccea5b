"""`fooling`: changes images slightly until the network predicts another class, as adversarial examples."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from callbacks.attribution_pictures import fooling_picture
from common.errors import UserError
from datamodules.files.given_images import GivenImages
from modules.interpretation.fooling_images import Fooled, fool
from pipelines.console.formatting import count
from pipelines.console.outputs import path_cell, printable
from pipelines.console.png import write_png
from pipelines.interpretation.class_names import short
from pipelines.interpretation.inspected_model import InspectedModel, to_uint8
from pipelines.interpretation.results import ImageBatch, image_batches, picture_side, write_table


def show_fooling(
    inspected: InspectedModel,
    given: GivenImages,
    target: int,
    out: Path,
    step: float,
    steps: int,
    bound: float | None,
) -> bool:
    """Writes for each image NAME.png (before, after, change) and NAME_fooled.png, and figures.csv; prints a line each.

    Args:
        inspected: Network.
        given: Image files; those already classified as the target are reported and not changed.
        target: Class that the network should predict.
        out: Folder to write to.
        step: Root mean square of the change in one step.
        steps: Largest number of steps for an image.
        bound: Largest change of a value; None does not limit it.

    Returns:
        Whether every image that was not classified as the target from the start now is.

    Raises:
        ValueError: If no file can be read as an image, all images are already classified as the target, or the network
            has no gradients.
    """
    rows, all_fooled = [], True
    target_name = short(inspected.class_names[target])
    for batch in image_batches(inspected, given, ("", "_fooled")):
        targets = torch.full_like(batch.predicted, target)
        with tqdm(total=steps, unit="step", disable=None, leave=False) as bar:

            def report(number: int, left: int, bar: tqdm = bar) -> None:
                bar.set_postfix_str(f"{count(left, 'image')} left")
                bar.update()

            result = fool(inspected.model, batch.images, targets, step, steps, bound, report)
        with torch.no_grad():
            after = inspected.model(result.images).float().softmax(1)
        for i, (file, name) in enumerate(zip(batch.files, batch.names, strict=True)):
            before = int(batch.predicted[i])
            if before == target:
                print(f"{printable(file)}  is already classified as {target_name}: not changed", flush=True)
                continue
            reached = int(after[i].argmax())
            good = bool(result.succeeded[i])
            all_fooled &= good
            write_png(_picture(inspected, batch, result, after, i), out / f"{name}.png")
            write_png(to_uint8(result.images[i : i + 1])[0], out / f"{name}_fooled.png")
            rows.append(
                {
                    "image": path_cell(file),
                    "class": inspected.class_names[before],
                    "probability": float(batch.probabilities[i, before]),
                    "target": inspected.class_names[target],
                    "fooled": good,
                    "steps": int(result.steps[i]),
                    "target_probability_before": float(batch.probabilities[i, target]),
                    "target_probability": float(after[i, target]),
                    "class_after": inspected.class_names[reached],
                    "l2": float(result.l2[i]),
                    "l_infinity": float(result.largest[i]),
                }
            )
            size = f"L2 {float(result.l2[i]):.3f}, L∞ {float(result.largest[i]):.4f} ({_levels(result, i)} of 255)"
            if good:
                outcome = f"{target_name} {float(after[i, target]):.1%} after {count(int(result.steps[i]), 'step')}"
            else:
                outcome = (
                    f"not fooled within {count(steps, 'step')}: {short(inspected.class_names[reached])} "
                    f"{float(after[i, reached]):.1%}, {target_name} {float(after[i, target]):.1%}"
                )
            original = f"{short(inspected.class_names[before])} {float(batch.probabilities[i, before]):.1%}"
            print(f"{printable(file)}  {original} → {outcome}, change {size}", flush=True)
    if not rows:
        raise UserError(f"All images are already classified as {target_name}; use another class or other images.")
    write_table(rows, out / "figures.csv")
    return all_fooled


def _levels(result: Fooled, i: int) -> int:
    return round(255 * float(result.largest[i]))


def _picture(inspected: InspectedModel, batch: ImageBatch, result: Fooled, after: Tensor, i: int) -> np.ndarray:
    before, reached = int(batch.predicted[i]), int(after[i].argmax())
    titles = (
        f"{short(inspected.class_names[before])} {float(batch.probabilities[i, before]):.0%}",
        f"{short(inspected.class_names[reached])} {float(after[i, reached]):.0%}",
    )
    original = result.images[i : i + 1] - result.change[i : i + 1]
    return fooling_picture(original, result.images[i : i + 1], [titles], side=picture_side(inspected))
