"""Decoding: bytes to one upright 8-bit RGB picture, once for all backbones, the same for every format."""

from __future__ import annotations

import io
from functools import cache
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from nearshot.backbones.limits import MAX_ASPECT, MAX_PIXELS
from nearshot.schema.errors import ImageError, option

RULES = 1
"""The version of the rules below; part of every fingerprint, since other pixels give other vectors."""

_SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})


class Decoded(NamedTuple):
    """An RGB picture and the name of the format it came in."""

    picture: Image.Image
    image_format: str


@cache
def decoder_version() -> str:
    """The decoder's rules and libraries. A file that failed is tried again when this changes."""
    return f"{RULES} pillow-{version('pillow')} pillow-heif-{version('pillow-heif')}"


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode an encoded image of any format that Pillow and libheif read into an upright RGB picture.

    The first frame of an animation; EXIF orientation applied; transparency laid over white; 16-bit grey scaled by 1/257;
    CMYK by Pillow's own conversion. Colour profiles are not applied: the backbones were trained without them.
    Raises ImageError with the reason for anything else, MemoryError where memory fails now. Safe from any thread.
    """
    if not data:
        raise ImageError("the file is empty")
    _prepare_pillow()
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(
                    f"{image.width} x {image.height} pixels are more than the cap of {max_pixels:,}; "
                    f"raise {option('max_pixels')} to read it"
                )
            if max(image.size) > MAX_ASPECT * min(image.size):
                raise ImageError(f"{image.width} x {image.height} is too long a strip: more than {MAX_ASPECT} to 1")
            image_format = image.format or "unknown"
            ImageOps.exif_transpose(image, in_place=True)
            picture = _to_rgb(image)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not an image in any known format") from error
    except Exception as error:  # decoders fail on damaged bytes with exceptions of every kind
        raise ImageError(f"cannot be decoded: {error or type(error).__name__}") from error
    return Decoded(picture, image_format)


def upright(image: Image.Image) -> Image.Image:
    """An opened image as an upright RGB picture, by the same rules; ImageError where its pixels have no defined range."""
    turned = ImageOps.exif_transpose(image)
    picture = _to_rgb(turned)
    if max(picture.size) > MAX_ASPECT * min(picture.size):
        raise ImageError(f"{picture.width} x {picture.height} is too long a strip: more than {MAX_ASPECT} to 1")
    return picture


@cache
def _prepare_pillow() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None  # the cap above is the one that holds; Pillow's warns on standard error besides


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        return _from_sixteen_bit(image)
    if image.mode == "F":
        raise ImageError("floating-point pixels have no defined range; convert it to 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_sixteen_bit(image: Image.Image) -> Image.Image:
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 65535:
        raise ImageError("integer pixels beyond 16 bits have no defined range; convert it to 8 or 16 bits")
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
