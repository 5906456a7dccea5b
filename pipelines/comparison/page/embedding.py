"""Embeds pictures of runs in the page, scaled down, as data URIs."""

import base64
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipelines.comparison.runs import Run

MAX_RUNS = 12
_WIDTH = 560  # pixels, about twice the displayed width: sharp on high-resolution screens and when enlarged
_LARGE_WIDTH = 960  # of pictures that are displayed twice as wide, such as captions, whose words are to be read
_QUALITY = 72  # of WebP, in [0, 100]


@dataclass(frozen=True)
class Picture:
    """One picture as a data URI.

    Attributes:
        source: Data URI; None if the file can't be read.
        width: Width in pixels.
        height: Height in pixels.
        step: Step of the run at which it was drawn; None if the file's name is not a step.
    """

    source: str | None
    width: int
    height: int
    step: int | None


def newest_picture(run: Run, name: str, large: bool = False) -> Picture:
    """Returns the newest picture of one of a run's series."""
    return _embedded(run.pictures[name], large)


def pictures_over_steps(run: Run, name: str, most: int, large: bool = False) -> list[Picture]:
    """Returns at most `most` (≥ 2) pictures of a series, evenly spaced from the first to the newest."""
    files = sorted(run.pictures[name].parent.glob("*.png")) or [run.pictures[name]]
    if len(files) > most:
        files = [files[round(i * (len(files) - 1) / (most - 1))] for i in range(most)]
    return [_embedded(file, large) for file in files]


def _embedded(file: Path, large: bool) -> Picture:
    try:
        return _encoded(file, file.stat().st_mtime_ns, _LARGE_WIDTH if large else _WIDTH)
    except OSError:  # removed meanwhile
        return Picture(None, 0, 0, None)


@lru_cache(256)  # a page that is watched shows most pictures again
def _encoded(file: Path, written: int, width: int) -> Picture:
    """Reads a picture that was written at a time in nanoseconds, and scales it to a width if it is wider."""
    from PIL import Image, UnidentifiedImageError

    step = int(file.stem) if file.stem.isdigit() else None
    try:
        with Image.open(file) as image:
            picture = image.convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
        return Picture(None, 0, 0, step)
    picture.thumbnail((width, 4 * width), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", quality=_QUALITY, method=4)
    source = f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode()}"
    return Picture(source, *picture.size, step)
