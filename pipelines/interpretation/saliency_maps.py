"""`saliency`: maps of the pixels that matter for a class, by one of four methods, beside and over each image."""

from pathlib import Path

import torch
from torch import Tensor

from callbacks.attribution_pictures import saliency_picture
from datamodules.files.given_images import GivenImages
from modules.interpretation.feature_extraction import find_layer
from modules.interpretation.grad_cam import grad_cam, last_map_layer
from modules.interpretation.saliency import class_scores, integrated_gradients, saliency, smooth_grad
from pipelines.console.outputs import path_cell, printable
from pipelines.console.png import write_png
from pipelines.interpretation.class_names import short
from pipelines.interpretation.inspected_model import InspectedModel
from pipelines.interpretation.results import image_batches, picture_side, write_table

_COMPLETENESS_TOLERANCE = 0.01  # relative to the score difference
_BLACK = 0.0  # baseline of integrated gradients


def show_saliency(
    inspected: InspectedModel,
    given: GivenImages,
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
        inspected: Network.
        given: Image files.
        label: Class y; None for each image's most probable class.
        out: Folder to write to.
        method: One of gradient, smoothgrad, integrated and grad_cam.
        layer: Layer of grad_cam; None for the last one whose output is maps.
        samples: Number of noisy images of smoothgrad.
        noise: Noise of smoothgrad, a fraction of the image's range.
        steps: Number of steps of integrated.

    Raises:
        ValueError: If no file can be read as an image, there is no such layer, a value is out of range, or the network
            has no gradients.
    """
    rows = []
    if method == "grad_cam":
        blank = torch.zeros(1, *inspected.image_shape, device=inspected.device)
        layer = layer or last_map_layer(inspected.model, blank)
        find_layer(inspected.model, layer, blank)
        print(f"layer    {layer}")
    for batch in image_batches(inspected, given):
        labels = batch.predicted if label is None else torch.full_like(batch.predicted, label)
        completeness: list[tuple[float, float]] = []
        if method == "smoothgrad":
            maps = smooth_grad(inspected.model, batch.images, labels, noise, samples)
        elif method == "grad_cam":
            maps = grad_cam(inspected.model, batch.images, labels, layer)
        elif method == "integrated":
            attributions = integrated_gradients(inspected.model, batch.images, labels, _BLACK, steps)
            maps = attributions.sum(1).abs()
            completeness = _completeness(inspected, batch.images, labels, attributions)
        else:
            maps = saliency(inspected.model, batch.images, labels)
        for i, (file, name) in enumerate(zip(batch.files, batch.names, strict=True)):
            probability = float(batch.probabilities[i, labels[i]])
            title = short(inspected.class_names[int(labels[i])])
            method_title = method if method != "grad_cam" else f"grad_cam, {layer}"
            picture = saliency_picture(
                batch.images[i : i + 1],
                maps[i : i + 1],
                [f"{title} {probability:.0%}"],
                method_title,
                side=picture_side(inspected),
            )
            write_png(picture, out / f"{name}.png")
            row = {
                "image": path_cell(file),
                "predicted": inspected.class_names[int(batch.predicted[i])],
                "predicted_probability": float(batch.probabilities[i].max()),
                "class": inspected.class_names[int(labels[i])],
                "probability": probability,
                "method": method,
            }
            line = f"{printable(file)}  {title} {probability:.1%}"
            if completeness:
                row["attributions"], row["score_difference"] = completeness[i]
                line += _report(*completeness[i])
            rows.append(row)
            print(line, flush=True)
    write_table(rows, out / "figures.csv")


@torch.no_grad()
def _completeness(
    inspected: InspectedModel, images: Tensor, labels: Tensor, attributions: Tensor
) -> list[tuple[float, float]]:
    """Returns, for each image, the sum of its attributions and the score difference that it should equal."""
    baseline = torch.full_like(images, _BLACK)
    difference = class_scores(inspected.model, images, labels) - class_scores(inspected.model, baseline, labels)
    return list(zip(attributions.flatten(1).sum(1).tolist(), difference.tolist(), strict=True))


def _report(attributions: float, difference: float) -> str:
    text = f"  attributions sum to {attributions:.3f}, score difference {difference:.3f}"
    if abs(attributions - difference) <= _COMPLETENESS_TOLERANCE * abs(difference):
        return text
    return f"{text}: they differ by more than {_COMPLETENESS_TOLERANCE:.0%}, increase --steps"
