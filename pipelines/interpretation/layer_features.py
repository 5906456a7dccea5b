"""`features`: what layers make of an image, and the patches of all images that excite a layer's channels most."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from callbacks.attribution_pictures import layers_picture, patches_picture
from common.errors import UserError
from modules.interpretation.feature_extraction import feature_maps, find_layer, stage_layers
from modules.interpretation.receptive_patches import Box, Unit, receptive_fields, strongest_units
from pipelines.console.png import write_png
from pipelines.interpretation.inspected_model import InspectedModel
from pipelines.interpretation.results import photos, side_of, write_table


def show_features(
    subject: InspectedModel,
    files: Sequence[Path],
    layers: Sequence[str],
    out: Path,
    num_maps: int,
    channels: Sequence[int],
    num_patches: int,
) -> None:
    """Writes for each image NAME.png (maps), for each layer patches_LAYER.png, and patches.csv.

    Args:
        subject: the network.
        files: image files.
        layers: names; none for what each stage of the network ends with.
        out: folder to write to.
        num_maps: maps of each layer to show, those with the largest mean; with patches as many channels.
        channels: of which to show patches, one layer alone; none for those that are choosiest among the images.
        num_patches: for each channel, at most one of each image; 0 for none.

    Raises:
        ValueError: a file that is no image, a layer or a channel that does not exist.
    """
    blank = torch.zeros(1, *subject.image_shape, device=subject.device)
    names = list(layers) or stage_layers(subject.model, blank)
    for name in names:
        find_layer(subject.model, name, blank)
    width = {name: maps.shape[1] for name, maps in feature_maps(subject.model, names, blank).items()}
    for name in names:
        if unknown := [channel for channel in channels if not 0 <= channel < width[name]]:
            raise UserError(f"Layer {name} has no channel {unknown[0]}; give one from 0 to {width[name] - 1}.")
    best: dict[str, list[list[Unit]]] = {name: [[] for _ in range(width[name])] for name in names}
    seen = 0
    for batch in photos(subject, files):
        found = feature_maps(subject.model, names, batch.images)
        for i, name in enumerate(batch.names):
            picture = layers_picture(
                batch.images[i], {layer: maps[i] for layer, maps in found.items()}, num_maps, side_of(subject)
            )
            write_png(picture, out / f"{name}.png")
        for layer, maps in found.items():
            for kept, units in zip(best[layer], strongest_units(maps, num_patches), strict=True):
                kept += [unit._replace(image=seen + unit.image) for unit in units]
                kept[:] = sorted(kept, key=lambda unit: -unit.value)[:num_patches]
        seen += len(batch.images)
    for name in names:
        print(f"layer    {name}, {width[name]} channels")
    if not num_patches:
        return
    rows = []
    for name in tqdm(names, unit="layer", disable=None, leave=False):
        shown = list(channels) or _outstanding(best[name], num_maps)
        fields = _fields(subject, name, [unit for channel in shown for unit in best[name][channel]])
        patches, titles = [], []
        for channel in shown:
            units = best[name][channel]
            boxes = [fields[unit.row, unit.column] for unit in units]
            patches.append([_cut(subject, files[unit.image], box) for unit, box in zip(units, boxes, strict=True)])
            titles.append([f"#{channel}: {unit.value:.2f}" for unit in units])
            rows += [
                {"layer": name, "channel": channel, "activation": unit.value, "image": str(files[unit.image])}
                | box._asdict()
                for unit, box in zip(units, boxes, strict=True)
            ]
        write_png(patches_picture(patches, titles), out / f"patches_{name}.png")
    write_table(rows, out / "patches.csv")


def _outstanding(units: Sequence[Sequence[Unit]], count: int) -> list[int]:
    """The channels that one patch excites most compared with the weakest patch shown: those that are choosy."""
    spread = [channel[0].value - channel[-1].value for channel in units]
    return sorted(range(len(units)), key=lambda channel: -spread[channel])[:count]


def _fields(subject: InspectedModel, layer: str, units: Sequence[Unit]) -> dict[tuple[int, int], Box]:
    places = sorted({(unit.row, unit.column) for unit in units})
    return dict(zip(places, receptive_fields(subject.model, layer, subject.image_shape, places), strict=True))


def _cut(subject: InspectedModel, file: Path, box: Box) -> Tensor:
    return subject.read([file])[0, :, box.y0 : box.y1, box.x0 : box.x1]
