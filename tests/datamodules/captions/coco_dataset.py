"""Writes a small COCO in its official formats: annotation files, image folders and Karpathy's splits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NOUNS = ("dog", "cat", "car", "tree", "boat", "horse", "kite", "train")


def captions_of(number: int) -> list[str]:
    """Five captions of an image, the first of them 4 words long and the last 8."""
    noun, other = NOUNS[number % 8], NOUNS[(number // 8) % 8]
    return [
        f"A {noun} stands here.",
        f"One {noun} near a {other}",
        f"The {noun} and the {other} .",
        f"There is a {noun} on a road.",
        f"A photo of a {noun} and one {other}",
    ]


def annotations(numbers: list[int], part: str) -> dict[str, Any]:
    """The content of captions_PART.json."""
    sentences = [(number, text) for number in numbers for text in captions_of(number)]
    return {
        "info": {"year": int(part[-4:])},
        "licenses": [],
        "images": [{"id": n, "file_name": file_name(n, part), "height": 40, "width": 60} for n in numbers],
        "annotations": [{"image_id": n, "id": i, "caption": text} for i, (n, text) in enumerate(sentences)],
    }


def file_name(number: int, part: str) -> str:
    return f"COCO_{part}_{number:012d}.jpg" if part.endswith("2014") else f"{number:012d}.jpg"


def write_image(file: Path, number: int, size: tuple[int, int] = (60, 40)) -> None:
    """A JPEG of one color that tells the number: 8 × number in red, 255 − that in green."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (8 * number % 256, 255 - 8 * number % 256, 40)).save(file, quality=95)


def write_coco(root: Path, num_train: int = 12, num_val: int = 5, year: int = 2017) -> Path:
    """Both parts, images 1 to num_train and the ones after them; returns the folder coco."""
    folder = root / "coco"
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    everyone = list(range(1, num_train + num_val + 1))
    for part, numbers in ((f"train{year}", everyone[:num_train]), (f"val{year}", everyone[num_train:])):
        write_json(folder / "annotations" / f"captions_{part}.json", annotations(numbers, part))
        for number in numbers:
            write_image(folder / part / file_name(number, part), number)
    return folder


def write_karpathy(folder: Path, splits: dict[int, str], num_train: int = 12) -> None:
    """dataset_coco.json with the splits of images by number; the first `num_train` lie in train2014."""
    images = []
    for i, (number, split) in enumerate(splits.items()):
        part = "train2014" if number <= num_train else "val2014"
        sentences = [
            {"tokens": text.lower().rstrip(". ").split(), "raw": text, "imgid": i, "sentid": 5 * i + j}
            for j, text in enumerate(captions_of(number))
        ]
        images.append(
            {
                "filepath": part,
                "filename": file_name(number, part),
                "imgid": i,
                "cocoid": number,
                "split": split,
                "sentids": [sentence["sentid"] for sentence in sentences],
                "sentences": sentences,
            }
        )
    write_json(folder / "dataset_coco.json", {"images": images, "dataset": "coco"})


def write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def number_of(image: np.ndarray) -> int:
    """The number that the color of an image (…, 3 first) in [0, 1] tells."""
    return round(float(image[0].mean()) * 255 / 8)
