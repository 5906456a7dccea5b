"""Pictures of the best runs, small enough to travel within the page."""

import base64
import io
from collections import Counter
from dataclasses import dataclass

from pipelines.comparison.runs import Run

MOST_RUNS = 12
_WIDTH = 560  # pixels, of which the page shows about half: sharp on a dense screen, and enlarged on a click
_QUALITY = 72


@dataclass(frozen=True)
class Picture:
    """One picture as an HTML page holds it.

    Attributes:
        source: a data URI; None if the file can't be read.
        width: pixels.
        height: pixels.
        step: of the run, when it was made.
    """

    source: str | None
    width: int
    height: int
    step: int | None


def newest_pictures(runs: tuple[Run, ...]) -> dict[str, dict[str, Picture]]:
    """The newest picture of each series of each run, by series and run id; series that most runs have come first."""
    having = Counter(name for run in runs for name in run.pictures)
    names = sorted(having, key=lambda name: (-having[name], name))
    return {name: {run.run_id: _embedded(run, name) for run in runs if name in run.pictures} for name in names}


def _embedded(run: Run, name: str) -> Picture:
    from PIL import Image, UnidentifiedImageError

    file = run.pictures[name]
    step = int(file.stem) if file.stem.isdigit() else None
    try:
        with Image.open(file) as image:
            picture = image.convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
        return Picture(None, 0, 0, step)
    picture.thumbnail((_WIDTH, 4 * _WIDTH), Image.Resampling.LANCZOS)
    packed = io.BytesIO()
    picture.save(packed, "WEBP", quality=_QUALITY, method=4)
    source = f"data:image/webp;base64,{base64.b64encode(packed.getvalue()).decode()}"
    return Picture(source, *picture.size, step)
