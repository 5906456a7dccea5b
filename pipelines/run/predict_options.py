"""Options of `predict`: the image files, the file of predictions, and whether to invert the images."""

from collections.abc import Sequence
from pathlib import Path
from pydoc import locate
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser

from common.errors import UserError
from pipelines.run.predictions import PredictionsCSV
from pipelines.settings.classes import settings_of_class


def add_predict_options(parser: LightningArgumentParser) -> None:
    """Adds the options to the parser of `predict`."""
    parser.add_argument("--images", type=str, nargs="+", default=[], help="Image files or folders.")
    parser.add_argument("--out", type=str, default="predictions.csv", help="CSV file to write.")
    parser.add_argument("--invert", action="store_true", help="Invert the images: dark ink becomes light.")


class PredictOptions:
    """The options of a command line, taken out of its settings; the images become a setting of the data module.

    Args:
        settings: Settings of `predict`.
        kept: Files that the predictions must not replace.

    Attributes:
        predictions: Callback that writes the predictions.

    Raises:
        ValueError: If there are no images, the data module can't read image files, or the file would replace another.
    """

    def __init__(self, settings: Any, kept: Sequence[Path]) -> None:
        if not settings["images"]:
            raise UserError("No images were given; set --images to image files or folders.")
        data = settings["data.class_path"]
        if "images" not in settings_of_class(locate(data)):  # type: ignore[arg-type]
            raise UserError(f"{data} has no setting 'images', so predict can't read files with it; add one to it.")
        settings["data.init_args.images"] = settings.pop("images")
        self._invert = settings.pop("invert")
        self.predictions = PredictionsCSV(Path(settings.pop("out")), *kept)

    def apply(self, data: LightningDataModule) -> None:
        """Makes the data module invert the images, if that was asked for.

        Raises:
            ValueError: If it can't.
        """
        if not self._invert:
            return
        if not hasattr(data, "invert"):
            raise UserError(f"--invert is for classifiers; {type(data).__name__} does not invert images.")
        data.invert = True
