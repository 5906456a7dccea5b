"""`saliency`: which pixels matter for a class, by one of four methods, as a map beside each image and over it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from callbacks.attribution_pictures import saliency_picture
from modules.interpretation.feature_extraction import find_layer
from modules.interpretation.grad_cam import grad_cam, last_map_layer
from modules.interpretation.saliency import class_scores, integrated_gradients, saliency, smooth_grad
from pipelines.console.png import write_png
from pipelines.interpretation.class_names import short
from pipelines.interpretation.inspected_model import InspectedModel
from pipelines.interpretation.results import photos, side_of, write_table

_INCOMPLETE = 0.01  # share of the score difference by which the attributions may miss it
_BLACK = 0.0  # the baseline of integrated gradients: an image without content


def show_saliency(
    subject: InspectedModel,
    files: Sequence[Path],
    label: int | None,
    out: Path,
    method: str,
    layer: str | None,
    samples: int,
    noise: float,
    steps: int,
) -> None:
    """Writes NAME.png for each image and figures.csv, and prints a line for each.

    Args:
        subject: the network.
        files: image files.
        label: the class y; None takes each image's most probable one.
        out: folder to write to.
        method: gradient, smoothgrad, integrated or grad_cam.
        layer: of grad_cam; None for the last one that gives maps.
        samples: of smoothgrad.
        noise: of smoothgrad.
        steps: of integrated.

    Raises:
        ValueError: a file that is no image, a layer that does not exist, a value out of range, or no gradients.
    """
    rows = []
    if method == "grad_cam":
        blank = torch.zeros(1, *subject.image_shape, device=subject.device)
        layer = layer or last_map_layer(subject.model, blank)
        find_layer(subject.model, layer, blank)
        print(f"layer    {layer}")
    for batch in photos(subject, files):
        labels = batch.predicted if label is None else torch.full_like(batch.predicted, label)
        completeness: list[tuple[float, float]] = []
        if method == "smoothgrad":
            maps = smooth_grad(subject.model, batch.images, labels, noise, samples)
        elif method == "grad_cam":
            maps = grad_cam(subject.model, batch.images, labels, layer)
        elif method == "integrated":
            attributions = integrated_gradients(subject.model, batch.images, labels, _BLACK, steps)
            maps = attributions.sum(1).abs()
            completeness = _completeness(subject, batch.images, labels, attributions)
        else:
            maps = saliency(subject.model, batch.images, labels)
        for i, (file, name) in enumerate(zip(batch.files, batch.names, strict=True)):
            share = float(batch.probabilities[i, labels[i]])
            title = short(subject.class_names[int(labels[i])])
            words = method if method != "grad_cam" else f"grad_cam, {layer}"
            picture = saliency_picture(
                batch.images[i : i + 1], maps[i : i + 1], [f"{title} {share:.0%}"], words, side=side_of(subject)
            )
            write_png(picture, out / f"{name}.png")
            row = {
                "image": str(file),
                "predicted": subject.class_names[int(batch.predicted[i])],
                "predicted_probability": float(batch.probabilities[i].max()),
                "class": subject.class_names[int(labels[i])],
                "probability": share,
                "method": method,
            }
            line = f"{file}  {title} {share:.1%}"
            if completeness:
                row["attributions"], row["score_difference"] = completeness[i]
                line += _said(*completeness[i])
            rows.append(row)
            print(line, flush=True)
    write_table(rows, out / "figures.csv")


@torch.no_grad()
def _completeness(
    subject: InspectedModel, images: Tensor, labels: Tensor, attributions: Tensor
) -> list[tuple[float, float]]:
    """For each image the sum of its attributions and the difference of scores that it should be."""
    empty = torch.full_like(images, _BLACK)
    difference = class_scores(subject.model, images, labels) - class_scores(subject.model, empty, labels)
    return list(zip(attributions.flatten(1).sum(1).tolist(), difference.tolist(), strict=True))


def _said(attributions: float, difference: float) -> str:
    said = f"  attributions sum to {attributions:.3f}, score difference {difference:.3f}"
    complete = abs(attributions - difference) <= _INCOMPLETE * abs(difference)
    return said if complete else f"{said}: more than {_INCOMPLETE:.0%} off, raise --steps"
