"""Decoding: bytes to one upright 8-bit RGB picture, once for all backbones, the same for every format."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from nearshot.backbones.limits import MAX_ASPECT, MAX_PIXELS, most_bytes
from nearshot.backbones.memory_budget import DECODING
from nearshot.backbones.quiet_tiff import silence_libtiff
from nearshot.schema.errors import ImageError, option

RULES = 2
"""The version of the rules below; part of every fingerprint, since other pixels give other vectors."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "HEIF", "AVIF", "JPEG2000", "PPM", "TGA", "ICO")
"""The formats that are read. Others that Pillow knows are refused: some of them run other programs (EPS: Ghostscript)."""

WHOLE = 12 << 20
"""Pixels up to which a picture keeps its size: a camera's 12 megapixels."""

REDUCED = 4 << 20
"""Pixels that a larger one is reduced to at most: far more than backbones see, and little beside what it was."""

_REFUSED = {
    b"%!PS": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"<svg": "SVG",
    b"<?xml": "SVG",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\xd7\xcd\xc6\x9a": "WMF",
    b"SIMPLE": "FITS",
    b"v/1\x01": "OpenEXR",
}
"""How files of formats begin that people take for images, and that are not read."""

_SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_SCALED = ("JPEG", "MPO")
_HELD = {"1": 1, "L": 1, "P": 1, **dict.fromkeys(_SIXTEEN_BIT, 2)}
_HEAVY = {"WEBP": 17, "HEIF": 10, "AVIF": 10, "JPEG2000": 20}
"""Bytes a pixel that libraries take for their own copies, the picture included; measured."""

_TILE_WIDTH, _TILE_LENGTH, _BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL = 322, 323, 258, 277

_BAND = 1 << 18
"""Pixels that are converted at a time."""


class Decoded(NamedTuple):
    """An RGB picture and the name of the format it came in."""

    picture: Image.Image
    image_format: str


@cache
def decoder_version() -> str:
    """The decoder's rules and libraries. A file that failed is tried again when this changes."""
    return f"{RULES} pillow-{version('pillow')} pillow-heif-{version('pillow-heif')}"


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, whole: bool = False) -> Decoded:
    """Decode an encoded image of one of the formats above into an upright RGB picture.

    The first frame of an animation; EXIF orientation applied; transparency laid over white; 16-bit grey scaled by 1/257;
    CMYK by Pillow's own conversion. Colour profiles are not applied: the backbones were trained without them. A picture of
    more than 12 Mi pixels is reduced to at most 4 Mi, by the least whole number that does it, by the mean of the pixels that
    fall together; a JPEG by its decoder's own scaling to a half, a quarter or an eighth, where that leaves at most 12 Mi.
    `whole` leaves it as it is.

    It waits for its share of the process's memory budget, which it holds for as long as the picture is there. Raises
    ImageError with the reason for anything else, MemoryError where memory fails now. Safe from any thread.
    """
    if not data:
        raise ImageError("the file is empty")
    _prepare_pillow()
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(
                    f"{image.width} x {image.height} pixels are more than the cap of {max_pixels:,}; "
                    f"raise {option('max_pixels')} to read it"
                )
            if max(image.size) > MAX_ASPECT * min(image.size):
                raise ImageError(f"{image.width} x {image.height} is too long a strip: more than {MAX_ASPECT} to 1")
            image_format = image.format or "unknown"
            factor = 1 if whole else reduction(image.width * image.height)
            size = cost(image, factor)
            if size > most_bytes(max_pixels):
                raise ImageError(
                    f"{image.width} x {image.height} pixels as {image_format} take {size >> 20} MiB to decode; "
                    f"raise {option('max_pixels')} to read it"
                )
            with DECODING.share(size) as share:
                picture = _decode(image, factor)
                share.hand_over(picture)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(_unknown(data)) from error
    except Exception as error:  # decoders fail on damaged bytes with exceptions of every kind
        raise ImageError(f"cannot be decoded: {error or type(error).__name__}") from error
    return Decoded(picture, image_format)


def cost(image: Image.Image, factor: int) -> int:
    """The most bytes that decoding an opened image takes, by what its header says, reduced by a factor (a test measures it)."""
    pixels = image.width * image.height
    left = pixels // factor**2
    if image.format in _SCALED:
        scaled = pixels // min(_scaling(factor), 8) ** 2
        coefficients = 6 * pixels if image.info.get("progressive") else 0
        return coefficients + 8 * scaled + _BAND * 16
    if image.format in _HEAVY:
        return _HEAVY[image.format] * pixels + 4 * left
    return _HELD.get(image.mode, 4) * pixels + 8 * left + _BAND * 24 + _tile_bytes(image)


def _tile_bytes(image: Image.Image) -> int:
    """The bytes of a TIFF's tile, which libtiff holds whole, however little of it belongs to the image."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if image.format != "TIFF" or _TILE_WIDTH not in tags:
        return 0
    sides = int(tags[_TILE_WIDTH]) * int(tags.get(_TILE_LENGTH, 1))
    bits: int = max(1, *tags.get(_BITS_PER_SAMPLE, (8,)))
    return sides * int(tags.get(_SAMPLES_PER_PIXEL, 1)) * bits // 8


def reduction(pixels: int) -> int:
    """The whole number by which both sides of a picture of some pixels are divided."""
    return math.ceil(math.sqrt(pixels / REDUCED)) if pixels > WHOLE else 1


def upright(image: Image.Image, *, whole: bool = False) -> Image.Image:
    """An opened image as an upright RGB picture, by the same rules; ImageError where its pixels have no defined range."""
    picture = _turned(_to_rgb(image, 1 if whole else reduction(image.width * image.height)), image)
    if max(picture.size) > MAX_ASPECT * min(picture.size):
        raise ImageError(f"{picture.width} x {picture.height} is too long a strip: more than {MAX_ASPECT} to 1")
    return picture


@cache
def _prepare_pillow() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    silence_libtiff()
    # What is wrong with a file is said once, by its name; Pillow says some of it besides, without.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    Image.MAX_IMAGE_PIXELS = None  # the cap above is the one that holds; Pillow's warns on standard error besides


def _decode(image: Image.Image, factor: int) -> Image.Image:
    if image.format in _SCALED and factor > 1:
        scale = _scaling(factor)
        image.draft(None, (math.ceil(image.width / scale), math.ceil(image.height / scale)))
        factor = reduction(image.width * image.height)
    return _turned(_to_rgb(image, factor), image)


def _scaling(factor: int) -> int:
    """The greatest scaling of a JPEG decoder that is not more than a factor."""
    return next(scale for scale in (8, 4, 2, 1) if scale <= factor)


def _turned(picture: Image.Image, image: Image.Image) -> Image.Image:
    """A picture turned as the EXIF orientation of its image says."""
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation == 1:
        return picture
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(picture)


def _to_rgb(image: Image.Image, factor: int) -> Image.Image:
    """An image as RGB, reduced by a factor; a band after the other, so that no more than the image and the result are held."""
    if image.mode == "F":
        raise ImageError("floating-point pixels have no defined range; convert it to 8 or 16 bits")
    image.load()
    if image.mode == "RGB" and factor == 1 and not image.has_transparency_data:
        return image
    picture = Image.new("RGB", (math.ceil(image.width / factor), math.ceil(image.height / factor)))
    rows = factor * max(1, _BAND // (image.width * factor))
    for top in range(0, image.height, rows):
        band = _band_to_rgb(image.crop((0, top, image.width, min(top + rows, image.height))))
        picture.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
    return picture


def _band_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        return _from_sixteen_bit(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_sixteen_bit(image: Image.Image) -> Image.Image:
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 65535:
        raise ImageError("integer pixels beyond 16 bits have no defined range; convert it to 8 or 16 bits")
    return Image.fromarray(((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")


def _unknown(data: bytes) -> str:
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    refused = next((name for begin, name in _REFUSED.items() if start.startswith(begin)), None)
    if refused is not None:
        return f"{refused} is not read; convert it to PNG or JPEG"
    return "not an image in any known format"
