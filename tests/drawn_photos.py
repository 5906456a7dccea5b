"""A folder of drawn photos for tests: shapes as JPEG and PNG files of different sizes, one folder for each class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "cross", "square", "stripes", "triangle")


def draw_photo(kind: str, size: tuple[int, int], seed: int) -> Image.Image:
    """Draws a shape in a random color, position and size on a noisy background."""
    dice = np.random.default_rng(seed)
    width, height = size
    noise = dice.integers(0, 60, (height, width, 3)) + dice.integers(0, 60, 3)
    image = Image.fromarray(noise.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    color = tuple(int(value) for value in dice.integers(140, 256, 3))
    radius = int(min(size) * dice.uniform(0.22, 0.38))
    x, y = (int(side / 2 + dice.uniform(-0.08, 0.08) * min(size)) for side in size)
    box = (x - radius, y - radius, x + radius, y + radius)
    if kind == "circle":
        draw.ellipse(box, fill=color)
    elif kind == "square":
        draw.rectangle(box, fill=color)
    elif kind == "triangle":
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=color)
    elif kind == "cross":
        thick = radius // 3
        draw.rectangle((x - thick, y - radius, x + thick, y + radius), fill=color)
        draw.rectangle((x - radius, y - thick, x + radius, y + thick), fill=color)
    else:
        for offset in range(-radius, radius, max(4, radius // 3)):
            draw.rectangle((x - radius, y + offset, x + radius, y + offset + max(2, radius // 8)), fill=color)
    return image


def draw_photos(
    folder: Path, number: int = 12, classes: Sequence[str] = CLASSES, side: tuple[int, int] = (40, 120), seed: int = 0
) -> Path:
    """Writes `number` photos of each class, of sides in [side[0], side[1]], and returns the folder."""
    dice = np.random.default_rng(seed)
    for kind in classes:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            size = tuple(int(value) for value in dice.integers(side[0], side[1] + 1, 2))
            image = draw_photo(kind, (size[0], size[1]), int(dice.integers(2**31)))
            image.save(folder / kind / f"{i:04}.{'png' if i % 4 == 3 else 'jpg'}", quality=90)
    return folder
