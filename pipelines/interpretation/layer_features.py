"""`features`: feature maps of layers, and the image patches with the strongest activations of their channels."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from callbacks.attribution_pictures import layers_picture, patches_picture
from common.errors import UserError
from datamodules.files.given_images import GivenImages
from modules.interpretation.feature_extraction import feature_maps, find_layer, stage_layers
from modules.interpretation.receptive_patches import Box, Unit, receptive_fields, strongest_units
from pipelines.console.formatting import count
from pipelines.console.outputs import path_cell
from pipelines.console.png import write_png
from pipelines.interpretation.inspected_model import InspectedModel
from pipelines.interpretation.results import image_batches, picture_side, write_table


def show_features(
    inspected: InspectedModel,
    given: GivenImages,
    layers: Sequence[str],
    out: Path,
    num_maps: int,
    channels: Sequence[int],
    num_patches: int,
) -> None:
    """Writes feature maps as NAME.png for each image, patches as patches_LAYER.png for each layer, and patches.csv.

    Args:
        inspected: Network.
        given: Image files.
        layers: Names of layers; if empty, the last layer of each stage.
        out: Folder to write to.
        num_maps: Number of maps per layer, those with the largest mean, and of channels with patches.
        channels: Channels with patches; if empty, those whose activations differ most between the images.
        num_patches: Number of patches per channel, at most one per image; 0 for none.

    Raises:
        ValueError: If no file can be read as an image, or there is no such layer or channel.
    """
    blank = torch.zeros(1, *inspected.image_shape, device=inspected.device)
    names = list(layers) or stage_layers(inspected.model, blank)
    for name in names:
        find_layer(inspected.model, name, blank)
    width = {name: maps.shape[1] for name, maps in feature_maps(inspected.model, names, blank).items()}
    for name in names:
        if unknown := [channel for channel in channels if not 0 <= channel < width[name]]:
            raise UserError(f"Layer {name} has no channel {unknown[0]}; use one from 0 to {width[name] - 1}.")
    best: dict[str, list[list[Unit]]] = {name: [[] for _ in range(width[name])] for name in names}
    files: list[Path] = []  # the readable ones
    for batch in image_batches(inspected, given, taken=[f"patches_{name}" for name in names]):
        maps_of = feature_maps(inspected.model, names, batch.images)
        for i, name in enumerate(batch.names):
            picture = layers_picture(
                batch.images[i], {layer: maps[i] for layer, maps in maps_of.items()}, num_maps, picture_side(inspected)
            )
            write_png(picture, out / f"{name}.png")
        for layer, maps in maps_of.items():
            for kept, units in zip(best[layer], strongest_units(maps, num_patches), strict=True):
                kept += [unit._replace(image=len(files) + unit.image) for unit in units]
                kept[:] = sorted(kept, key=lambda unit: -unit.value)[:num_patches]
        files += batch.files
    for name in names:
        print(f"layer    {name}, {count(width[name], 'channel')}")
    if not num_patches:
        return
    rows = []
    for name in tqdm(names, unit="layer", disable=None, leave=False):
        shown = list(channels) or _most_selective(best[name], num_maps)
        fields = _fields(inspected, name, [unit for channel in shown for unit in best[name][channel]])
        patches, titles = [], []
        for channel in shown:
            units = best[name][channel]
            boxes = [fields[unit.row, unit.column] for unit in units]
            patches.append([_crop(inspected, files[unit.image], box) for unit, box in zip(units, boxes, strict=True)])
            titles.append([f"#{channel}: {unit.value:.2f}" for unit in units])
            rows += [
                {"layer": name, "channel": channel, "activation": unit.value, "image": path_cell(files[unit.image])}
                | box._asdict()
                for unit, box in zip(units, boxes, strict=True)
            ]
        write_png(patches_picture(patches, titles), out / f"patches_{name}.png")
    write_table(rows, out / "patches.csv")


def _most_selective(units: Sequence[Sequence[Unit]], number: int) -> list[int]:
    """Returns the channels with the largest differences between their strongest and weakest patches."""
    spread = [channel[0].value - channel[-1].value for channel in units]
    return sorted(range(len(units)), key=lambda channel: -spread[channel])[:number]


def _fields(inspected: InspectedModel, layer: str, units: Sequence[Unit]) -> dict[tuple[int, int], Box]:
    positions = sorted({(unit.row, unit.column) for unit in units})
    boxes = receptive_fields(inspected.model, layer, inspected.image_shape, positions)
    return dict(zip(positions, boxes, strict=True))


def _crop(inspected: InspectedModel, file: Path, box: Box) -> Tensor:
    return inspected.read([file])[0, :, box.y0 : box.y1, box.x0 : box.x1]
