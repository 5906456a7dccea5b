"""Image files as users have them: one odd or broken file among good ones."""

import struct
import warnings
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from tests.campaign.case import Case, Command, Expect
from tests.campaign.damage import damaged_bytes

_CLASSIFIER, _CAPTIONER = "logs/fc_net/run", "logs/caption_lstm/run"
_COMMANDS = {
    "classifier": [
        Command("train", ("predict", "--ckpt_path", _CLASSIFIER, "--images", "photos", "--out", "p.csv")),
        Command("interpret", ("saliency", "--ckpt", _CLASSIFIER, "--images", "photos", "--out", "maps")),
    ],
    "captioner": [Command("caption", (_CAPTIONER, "photos", "--out", "c.json"))],
}
_MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"]
_FORMATS = ["png", "jpg", "gif", "bmp", "tiff", "webp", "ppm", "ico", "tga", "avif", "jp2", "pcx", "sgi", "im", "dds"]


def case(random: Random) -> Case:
    """Draws one."""
    files = random.choice(sorted(_COMMANDS))
    command = random.choice(_COMMANDS[files])
    mode, form = random.choice(_MODES), random.choice(_FORMATS)
    width, height = random.choice([(8, 8), (32, 32), (1, 1), (1, 300), (300, 1), (33, 17)])
    name = random.choice(
        [f"a.{form}", f"a.{form.upper()}", "a.jpg", "a.png", f"._a.{form}", f"ü .{form}", f"a;b=[1].{form}"]
    )
    words, change = damaged_bytes(random) if random.random() < 0.6 else ("as it is", bytes)
    exif, seed = random.choice([0, 0, 1, 2, 3]), random.getrandbits(32)

    def damage(folder: Path) -> str | None:
        file = folder / "photos" / name
        try:
            _save(folder / f"made.{form}", mode, (width, height), exif, seed)
        except (OSError, ValueError, KeyError, SystemError) as error:  # the format has no such mode
            file.write_bytes(change(b"RIFF" + struct.pack("<I", seed) + b"WEBPVP8 "))
            return f"not saved: {error}"
        made = folder / f"made.{form}"
        file.write_bytes(change(made.read_bytes()))
        made.unlink()
        return None

    label = f"photos/{name}: {form} of {mode}, {width}×{height}, Exif {exif}, {words}"
    return Case(files, label, (command,), damage, Expect.RESULT)


def _save(file: Path, mode: str, size: tuple[int, int], exif: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(pixels, "RGBA")
    image = image.convert("L").convert(mode) if mode in ("I", "I;16", "F", "1") else image.convert("RGB").convert(mode)
    turned = b"\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # by 90°
    begin = b"Exif\0\0MM\0*\0\0\0\x08"
    notes = {1: begin + turned, 2: begin + b"\0\xff", 3: b"Exif\0\0II*\0\xff\xff\xff\xff"}
    with warnings.catch_warnings(action="ignore"):  # Pillow reads the Exif data that it writes
        image.save(file, **({"exif": notes[exif]} if exif else {}))  # type: ignore[arg-type]
