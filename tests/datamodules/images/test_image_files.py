"""Image files of all kinds: found in order, decoded to the right pixels, other files refused in one sentence."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.images.image_files import read_images

RED, GREEN = (255, 0, 0), (0, 255, 0)


def halves(mode: str, size: tuple[int, int] = (20, 12)) -> Image.Image:
    """Red on the left, green on the right; in grayscale with the usual weights 0.299 and 0.587."""
    image = Image.new("RGB", size, RED)
    image.paste(GREEN, (size[0] // 2, 0, *size))
    return image.convert(mode)


def check_halves(pixels: torch.Tensor, tolerance: int) -> None:
    """Checks the colors of `halves` in the middle of its two sides, in (C, H, W)."""
    channels, height, width = pixels.shape
    expected = (RED, GREEN) if channels == 3 else ((76,), (150,))
    for column, color in zip((width // 4, 3 * width // 4), expected, strict=True):
        found = pixels[:, height // 2, column].int()
        assert (found - torch.tensor(color)).abs().max() <= tolerance


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 8, 16)])
@pytest.mark.parametrize(
    ("name", "mode", "options", "tolerance"),
    [
        ("rgb.png", "RGB", {}, 0),
        ("alpha.png", "RGBA", {}, 0),
        ("palette.png", "P", {}, 0),
        ("palette.gif", "P", {}, 0),
        ("rgb.bmp", "RGB", {}, 0),
        ("rgb.jpg", "RGB", {"quality": 95}, 4),
        ("cmyk.jpg", "CMYK", {"quality": 95}, 6),
        ("rgb.webp", "RGB", {"lossless": True}, 0),
        ("cmyk.tif", "CMYK", {}, 0),
    ],
)
def test_color_models_and_formats(
    tmp_path: Path, name: str, mode: str, options: dict[str, Any], tolerance: int, shape: tuple[int, int, int]
) -> None:
    halves(mode).save(tmp_path / name, **options)
    images = read_images([tmp_path / name], shape)
    assert images.dtype == torch.uint8
    assert images.shape == (1, *shape)
    check_halves(images[0], tolerance + 1)


@pytest.mark.parametrize("name", ["gray.png", "gray.jpg"])
def test_gray_images_have_three_equal_channels(tmp_path: Path, name: str) -> None:
    ramp = np.tile(np.arange(0, 240, 30, dtype=np.uint8), (8, 1))
    Image.fromarray(ramp).save(tmp_path / name, quality=95)
    images = read_images([tmp_path / name], (3, 8, 8))
    assert (images[0, 0] == images[0, 1]).all()
    assert (images[0, 0] == images[0, 2]).all()
    assert np.abs(images[0, 0].numpy().astype(int) - ramp).max() <= (0 if name.endswith("png") else 8)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, channels: int) -> None:
    values = np.array([[0, 255, 256, 0x7F80, 0xFFFF]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    images = read_images([tmp_path / "deep.png"], (channels, 1, 5))
    assert images[0, 0, 0].tolist() == [0, 0, 1, 127, 255]


def test_one_bit_images(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False], [False, True]])).save(tmp_path / "bits.png")
    assert read_images([tmp_path / "bits.png"], (1, 2, 2))[0, 0].tolist() == [[255, 0], [0, 255]]


def test_photographs_stand_upright(tmp_path: Path) -> None:
    """A camera held on its side stores the sensor's rows and the orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row of pixels is the picture's right side
    halves("RGB", (20, 20)).rotate(90).save(tmp_path / "held.png", exif=exif)
    check_halves(read_images([tmp_path / "held.png"], (3, 20, 20))[0], 0)


def test_files_of_the_right_size_keep_their_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), dtype=np.uint8)
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, array in zip(files, pixels, strict=True):
        Image.fromarray(array).save(file)
    np.testing.assert_array_equal(read_images(files, (3, 9, 7)), pixels.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (640, 480), (31, 33)])
def test_any_size_becomes_the_data_sets_size(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (10, 120, 240)).save(tmp_path / "plain.png")
    images = read_images([tmp_path / "plain.png"], (3, 32, 32))
    assert images.shape == (1, 3, 32, 32)
    assert images.flatten(2).unique(dim=2)[0, :, 0].tolist() == [10, 120, 240]
    assert images.flatten(2).unique(dim=2).shape[2] == 1


# ------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_truncated_file_is_named(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"cut.{ending}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    content = file.read_bytes()
    for end in (0, 1, 10, 60, len(content) // 2, len(content) - 200):
        file.write_bytes(content[:end])
        with pytest.raises(ValueError, match=rf"^{file} can't be read as an image \([^\n]*\); remove it or give"):
            read_images([file], (3, 32, 32))


def test_text_named_png_is_no_image(tmp_path: Path) -> None:
    file = tmp_path / "text.png"
    file.write_text("This is not an image.")
    with pytest.raises(ValueError, match=rf"^{file} can't be read as an image .* give another file\.$"):
        read_images([file], (3, 32, 32))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "webp"])
def test_damage_anywhere_gives_pixels_or_a_sentence(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"damaged.{ending}"
    halves("RGB", (9, 7)).save(file)
    content = file.read_bytes()
    dice = random.Random(ending)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(dice.choice([1, 2, 5])):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        file.write_bytes(damaged)
        try:
            assert read_images([file], (3, 8, 8)).shape == (1, 3, 8, 8)
        except ValueError as error:
            assert str(error).startswith(f"{file} can't be read as an image")  # noqa: PT017  # or it may be read
