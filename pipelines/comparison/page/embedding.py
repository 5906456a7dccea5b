"""Embeds the newest pictures of the best runs in the page, scaled down, as data URIs."""

import base64
import io
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipelines.comparison.runs import Run

MAX_RUNS = 12
_WIDTH = 560  # pixels, about twice the displayed width: sharp on high-resolution screens and when enlarged
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


def newest_pictures(runs: tuple[Run, ...]) -> dict[str, dict[str, Picture]]:
    """Returns the newest picture of each run by series and run id; the series that most runs have come first."""
    num_runs = Counter(name for run in runs for name in run.pictures)
    names = sorted(num_runs, key=lambda name: (-num_runs[name], name))
    return {name: {run.run_id: _embedded(run.pictures[name]) for run in runs if name in run.pictures} for name in names}


def pictures_over_steps(run: Run, name: str, most: int) -> list[Picture]:
    """Returns at most `most` (≥ 2) pictures of a series, evenly spaced from the first to the newest."""
    files = sorted(run.pictures[name].parent.glob("*.png"))
    if len(files) > most:
        files = [files[round(i * (len(files) - 1) / (most - 1))] for i in range(most)]
    return [_embedded(file) for file in files]


def _embedded(file: Path) -> Picture:
    try:
        return _encoded(file, file.stat().st_mtime_ns)
    except OSError:  # removed meanwhile
        return Picture(None, 0, 0, None)


@lru_cache(256)  # a page that is watched shows most pictures again
def _encoded(file: Path, written: int) -> Picture:
    """Reads and scales a picture that was written at a time in nanoseconds."""
    from PIL import Image, UnidentifiedImageError

    step = int(file.stem) if file.stem.isdigit() else None
    try:
        with Image.open(file) as image:
            picture = image.convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
        return Picture(None, 0, 0, step)
    picture.thumbnail((_WIDTH, 4 * _WIDTH), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", quality=_QUALITY, method=4)
    source = f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode()}"
    return Picture(source, *picture.size, step)
