"""Pictures are written in the format that their name says."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from pipelines.console.png import is_picture, write_png


@pytest.mark.parametrize(
    ("name", "form"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.jpeg", "JPEG"), ("a.webp", "WEBP"), ("a", "PNG")]
)
def test_the_format_is_that_of_the_name(tmp_path: Path, name: str, form: str) -> None:
    write_png(np.full((8, 8, 3), 200, dtype=np.uint8), tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.format == form and image.size == (8, 8)
        assert abs(int(np.asarray(image.convert("RGB")).mean()) - 200) <= 2


def test_what_is_a_picture_and_what_a_folder() -> None:
    assert is_picture(Path("samples.jpg")) and not is_picture(Path("samples")) and not is_picture(Path("run.v2"))
    with pytest.raises(UserError, match=r"^--out is samples\.pdf, but pictures are not written as \.pdf; give a name"):
        is_picture(Path("samples.pdf"))
