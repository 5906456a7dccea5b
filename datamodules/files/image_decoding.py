"""Decodes image files of any color model and depth to 8-bit grayscale or RGB, the right way up.

    transparency      composited on white, or on black if everything visible is nearly white and would vanish
    16 bits, 12 bits  scaled to 8 bits, not clipped
    32 bits, floats   scaled from [0, 255], or from [0, 65535] if the image has larger values; floats also from [0, 1]
    LAB               converted through sRGB; CMYK, YCbCr, HSV and palettes as Pillow converts them
    several frames    the first frame of an animation, or the first page of a TIFF
    orientation       applied if the metadata has a valid one; damaged metadata is ignored, since the pixels are intact

Only the formats in `FORMATS` are decoded. Pillow recognizes more: some it can't decode (HDF5, GRIB, MPEG), and EPS it
hands to a PostScript interpreter.
"""

import warnings
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from common.errors import UserError

FORMATS: Final = (
    "AVIF", "BMP", "DDS", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "MSP", "PCX", "PNG", "PPM", "PSD", "QOI",
    "SGI", "SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM",
)  # fmt: skip

_ORIENTATION: Final = 0x0112  # tag of EXIF
_TRANSPOSED: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE: Final = 258  # tag of TIFF
_SMALL: Final = 256  # pixels of a side, enough to tell how light an image is
_NEARLY_WHITE: Final = 240  # of 255: lighter ink is hard to see on white paper


@cache
def decodable_formats() -> tuple[str, ...]:
    """Returns the names of the formats that are decoded: `FORMATS`, and HEIF if pillow-heif is installed."""
    Image.init()
    formats = tuple(name for name in FORMATS if name in Image.OPEN)
    try:
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]  # optional
    except ImportError:
        return formats
    pillow_heif.register_heif_opener()
    return (*formats, "HEIF")


def open_image(file: Path, mode: str, side: int | None = None) -> Image.Image:
    """Decodes a file to Pillow's `mode`, L or RGB, as the module's docstring says.

    Args:
        file: Image file.
        mode: Pillow's mode of the result.
        side: Shortest side in pixels that is enough: a JPEG of at least twice that is decoded at ½, ¼ or ⅛ of its size,
            which its frequency coefficients give at once (Pillow's draft mode). None decodes at full size.

    Raises:
        ValueError: If the file can't be decoded: empty, truncated, of another format, or so large (about 180
            megapixels) that Pillow takes it for a decompression bomb.
    """
    try:
        # Pillow warns of damaged metadata, and of photographs of 90 to 180 megapixels.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=decodable_formats()) as image:
                if side is not None:
                    image.draft(None, (side, side))  # type: ignore[arg-type, unused-ignore]  # keeps the color model
                image.load()
                return _opaque(_eight_bits(_upright(image))).convert(mode)
    except Exception as error:  # decoders report damage in exceptions of many types
        raise UserError(f"{file} can't be read as an image ({_reason(file, error)}); remove it or give another file.") \
            from error  # fmt: skip


def _reason(file: Path, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        empty = file.stat().st_size == 0
        return "it is empty" if empty else "it is in no image format that can be decoded here"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200].rstrip(".") or type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    """Returns the image as it is meant to be seen: cameras store the sensor's view and record how they were held.

    `ImageOps.exif_transpose` also writes the rest of the metadata anew, which fails if any of it is damaged.
    """
    try:
        orientation = image.getexif().get(_ORIENTATION)
        transpose = _TRANSPOSED.get(orientation)  # type: ignore[arg-type]
    except Exception:  # damaged metadata, in exceptions of many types; an unhashable value among them
        return image
    return image if transpose is None else _with_info(image.transpose(transpose), image)


def _with_info(image: Image.Image, source: Image.Image) -> Image.Image:
    """Keeps what `_eight_bits` and `_opaque` look up."""
    image.info.update(source.info)
    image.format = source.format
    image.tag_v2 = getattr(source, "tag_v2", {})  # type: ignore[attr-defined]
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scales images with more than 8 bits per value, all of which have one channel; Pillow would clip them at 255."""
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    shown = np.ones(values.shape, bool)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        shown = values != transparent
    eight = Image.fromarray(np.rint(_scaled(values, image)).astype(np.uint8))
    if shown.all():
        return eight
    return Image.merge("LA", (eight, Image.fromarray(np.where(shown, 255, 0).astype(np.uint8))))


def _scaled(values: np.ndarray, image: Image.Image) -> np.ndarray:
    """Returns one-channel values (H, W) scaled to [0, 255]."""
    if image.mode.startswith("I;16"):
        bits: Any = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
        return values >> (4 if tuple(bits)[:1] == (12,) else 8)
    values = np.nan_to_num(values.astype(np.float64))
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 65535:
        raise UserError(f"its values lie in [{low:g}, {high:g}], not in [0, 1], [0, 255] or [0, 65535]")
    if high > 255 or image.format == "PPM":  # Pillow scales the 16-bit values of PPM to the whole range
        return values / 257
    return values * 255 if image.mode == "F" and high <= 1 else values


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    assert converted is not None  # it is, unless converted in place
    return converted


def _opaque(image: Image.Image) -> Image.Image:
    """Composites transparent images on white, or on black if everything visible is nearly white."""
    if not image.has_transparency_data:
        return image
    color = image.info.get("transparency")
    if isinstance(color, tuple) and max(color) > 255:  # of a PNG with 16 bits per channel, which Pillow reads as 8
        image.info["transparency"] = tuple(value >> 8 for value in color)
    try:
        layers = image.convert("RGBA")
    except (ValueError, TypeError):  # a transparent color that the color model does not have
        return image
    if layers.getchannel("A").getextrema()[0] == 255:
        return layers.convert("RGB")
    # A small copy, which Pillow averages by visibility: a photograph's pixels as floats take gigabytes.
    size = min(layers.width, _SMALL), min(layers.height, _SMALL)
    small = np.asarray(layers.resize(size, Image.Resampling.BOX)).astype(np.float64)
    visible = float((small[..., :3] * small[..., 3:]).sum() / max(3 * small[..., 3].sum(), 1))
    paper = Image.new("RGBA", layers.size, "black" if visible > _NEARLY_WHITE else "white")
    return Image.alpha_composite(paper, layers).convert("RGB")
