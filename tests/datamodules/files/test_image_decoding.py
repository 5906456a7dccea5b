"""Decoding image files of every color model and depth, with damaged metadata, transparency and several frames."""

import struct
import sys
import types
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from common.errors import UserError
from datamodules.files import image_decoding
from datamodules.files.image_decoding import decodable_formats, open_image

RED = (200, 30, 30)


def gray(file: Path) -> list[list[int]]:
    values: list[list[int]] = np.asarray(open_image(file, "L")).tolist()
    return values


def color(file: Path) -> tuple[int, ...]:
    """The color of the first pixel."""
    return tuple(np.asarray(open_image(file, "RGB"))[0, 0].tolist())


# ------------------------------------------------------------------------------------------------------- transparency


def stroke(mode: str, clear: Any, ink: Any) -> Image.Image:
    """A vertical stroke in the middle of a clear image."""
    image = Image.new(mode, (9, 9), clear)
    for y in range(1, 8):
        image.putpixel((4, y), ink)
    return image


@pytest.mark.parametrize(
    ("mode", "clear", "ink", "name", "paper", "written"),
    [
        ("RGBA", (0, 0, 0, 0), (0, 0, 0, 255), "a.png", 255, 0),
        ("RGBA", (0, 0, 0, 0), (0, 0, 0, 255), "a.webp", 255, 0),
        ("RGBA", (0, 0, 0, 0), (0, 0, 0, 255), "a.tif", 255, 0),
        ("RGBA", (9, 9, 9, 0), (0, 0, 0, 128), "a.png", 255, 127),
        ("LA", (0, 0), (0, 255), "a.png", 255, 0),
        ("RGBA", (255, 255, 255, 0), (255, 255, 255, 255), "a.png", 0, 255),  # white ink would vanish on white
    ],
)
def test_transparent_images_lie_on_paper_that_shows_them(
    tmp_path: Path, mode: str, clear: Any, ink: Any, name: str, paper: int, written: int
) -> None:
    stroke(mode, clear, ink).save(tmp_path / name, lossless=True)
    for target in ("L", "RGB"):
        pixels = np.asarray(open_image(tmp_path / name, target))
        assert (pixels[0, 0] == paper).all() and (pixels[4, 4] == written).all()


@pytest.mark.parametrize("name", ["p.png", "p.gif"])
def test_transparent_colors_of_palettes(tmp_path: Path, name: str) -> None:
    image = stroke("P", 0, 1)
    image.putpalette([10, 10, 10, 0, 0, 0])
    image.save(tmp_path / name, transparency=0)
    rows = gray(tmp_path / name)
    assert rows[0][0] == 255 and rows[4][4] == 0


def test_transparent_colors_of_one_bit_and_of_grayscale(tmp_path: Path) -> None:
    stroke("1", 0, 1).save(tmp_path / "one.png", transparency=0)
    assert gray(tmp_path / "one.png")[0][0] == 0  # white ink
    stroke("1", 1, 0).save(tmp_path / "one.png", transparency=1)
    assert gray(tmp_path / "one.png")[4][4] == 0 and gray(tmp_path / "one.png")[0][0] == 255
    stroke("L", 5, 40).save(tmp_path / "gray.png", transparency=5)
    assert gray(tmp_path / "gray.png")[0][0] == 255 and gray(tmp_path / "gray.png")[4][4] == 40


def test_opaque_images_keep_their_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(np.dstack([pixels, np.full((5, 6), 255, np.uint8)])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.png", "RGB")), pixels)


# --------------------------------------------------------------------------------------------------------------- depth


def png(width: int, depth: int, kind: int, row: bytes, *chunks: tuple[bytes, bytes], height: int = 1) -> bytes:
    """A PNG file of one row, of any depth and color type."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def test_sixteen_bits_of_every_kind_of_png(tmp_path: Path) -> None:
    file = tmp_path / "deep.png"
    file.write_bytes(png(3, 16, 0, struct.pack(">3H", 0, 0x8000, 0xFFFF)))
    assert gray(file) == [[0, 128, 255]]
    file.write_bytes(png(2, 16, 0, struct.pack(">2H", 5, 0x8000), (b"tRNS", struct.pack(">H", 5))))
    assert gray(file) == [[255, 128]]
    file.write_bytes(png(2, 16, 2, struct.pack(">6H", 0x1234, 0x1234, 0x1234, 0, 0, 0)))
    assert gray(file) == [[0x12, 0]]
    transparent = (b"tRNS", struct.pack(">3H", 0x1234, 0x1234, 0x1234))
    file.write_bytes(png(2, 16, 2, struct.pack(">6H", 0x1234, 0x1234, 0x1234, 0, 0, 0), transparent))
    assert gray(file) == [[255, 0]]
    file.write_bytes(png(2, 16, 4, struct.pack(">4H", 0, 0, 0x8000, 0xFFFF)))
    assert gray(file) == [[255, 128]]
    file.write_bytes(png(2, 16, 6, struct.pack(">8H", 0, 0, 0, 0, 0x8000, 0x8000, 0x8000, 0xFFFF)))
    assert gray(file) == [[255, 128]]


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_sixteen_bits_of_tiff_in_both_byte_orders(tmp_path: Path, dtype: str) -> None:
    Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], dtype)).save(tmp_path / "a.tif")
    assert gray(tmp_path / "a.tif") == [[0, 128, 255]]


def test_twelve_bits_of_tiff(tmp_path: Path) -> None:
    packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x00])  # four values
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 0, 277: 1, 278: 1, 279: len(packed)}.items():
        tags[tag] = value
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0\0\0" + tags.tobytes(8) + packed)
    assert gray(tmp_path / "a.tif") == [[0, 128, 255, 0]]


def test_pgm_of_sixteen_bits_even_if_it_is_dark(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 65535\n" + struct.pack(">3H", 0, 200, 0x8080))
    assert gray(tmp_path / "a.pgm") == [[0, 1, 128]]
    (tmp_path / "dark.pgm").write_bytes(b"P5 2 1 65535\n" + struct.pack(">2H", 0, 200))
    assert gray(tmp_path / "dark.pgm") == [[0, 1]]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.array([[0, 200, 255]], np.int32), [0, 200, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.2, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[0.0, np.nan, 65535.0]], np.float32), [0, 0, 255]),
    ],
)
def test_integers_of_32_bits_and_floats(tmp_path: Path, values: np.ndarray, shown: list[int]) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert gray(tmp_path / "a.tif") == [shown]


def test_values_that_are_no_brightness_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[-3.0, 0.5, 1e6]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"its values lie in \[-3, 1e\+06\], not in \[0, 1\], \[0, 255\] or \[0, 65535"):
        open_image(tmp_path / "a.tif", "L")


# -------------------------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_color_models_of_tiff(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (3, 3), RED).convert(mode).save(tmp_path / "a.tif")
    assert Image.open(tmp_path / "a.tif").mode == mode
    assert np.abs(np.subtract(color(tmp_path / "a.tif"), RED)).max() <= 3


def test_lab(tmp_path: Path) -> None:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab: Any = ImageCms.profileToProfile(Image.new("RGB", (3, 3), RED), *profiles, outputMode="LAB")
    lab.save(tmp_path / "a.tif")
    assert Image.open(tmp_path / "a.tif").mode == "LAB"
    assert np.abs(np.subtract(color(tmp_path / "a.tif"), RED)).max() <= 3


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif", "a.mpo"])
def test_the_first_of_several_frames(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (8, 8), shade) for shade in ("red", "blue", "blue")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
    assert np.abs(np.subtract(color(tmp_path / name), (255, 0, 0))).max() <= 1


# ------------------------------------------------------------------------------------------------------------ metadata


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_that_of_pillow(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.png", "RGB")), np.asarray(expected))


def _damaged(tag: int, value: Any) -> Image.Exif:
    exif = Image.Exif()
    exif[tag], exif[0x0112] = value, 6
    return exif


def test_damaged_metadata_leaves_pixels_and_orientation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewriting the rest of the metadata fails, as it does for photographs of real cameras."""

    def fails(*_: Any, **__: Any) -> bytes:
        raise struct.error("required argument is not an integer")

    held = Image.new("RGB", (6, 3), RED)
    held.save(tmp_path / "a.jpg", exif=_damaged(0x010F, "Cam"))
    monkeypatch.setattr(Image.Exif, "tobytes", fails)
    assert open_image(tmp_path / "a.jpg", "RGB").size == (3, 6)


@pytest.mark.parametrize("error", [struct.error, TypeError, AttributeError, IndexError, ZeroDivisionError, KeyError])
def test_metadata_that_cannot_be_read_at_all_leaves_the_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fails(_: Image.Image) -> Image.Exif:
        raise error("damaged")

    Image.new("RGB", (6, 3), RED).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "getexif", fails)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.getexif", fails)
    assert open_image(tmp_path / "a.png", "RGB").size == (6, 3)


# --------------------------------------------------------------------------------------------------------- unreadable


@pytest.mark.parametrize("error", [RuntimeError, IndexError, struct.error, MemoryError])
def test_any_error_of_a_decoder_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fails(_: Image.Image) -> None:
        raise error("Failed to decode frame 0")

    Image.new("RGB", (6, 3)).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fails)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fails, raising=False)
    with pytest.raises(UserError, match=r"a\.png can't be read as an image \(Failed to decode frame 0\); remove it or"):
        open_image(tmp_path / "a.png", "RGB")


def test_a_decompression_bomb_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(40_000, 8, 0, b"", height=40_000))
    with pytest.raises(UserError, match=r"bomb\.png can't be read as an image \(Image size \(1600000000 pixels\) exc"):
        open_image(tmp_path / "bomb.png", "RGB")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is in no image format that can be decoded here"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "it is in no image format that can be decoded here"),
        (b"SIMPLE  =                    T" + b" " * 50, "it is in no image format that can be decoded here"),
    ],
)
def test_formats_that_pillow_only_recognizes(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.png can't be read as an image \({says}\)"):
        open_image(tmp_path / "a.png", "RGB")


def test_pillow_heif_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = []
    plugin = types.ModuleType("pillow_heif")
    plugin.register_heif_opener = lambda: registered.append(True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    formats = image_decoding.decodable_formats.__wrapped__()
    assert registered == [True] and formats == (*decodable_formats(), "HEIF")
