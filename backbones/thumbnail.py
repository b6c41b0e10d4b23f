"""Thumbnails: small pictures of images, for pages that people look at."""

from __future__ import annotations

import io

from nearshot.backbones.decode import decode
from nearshot.backbones.limits import MAX_PIXELS


def thumbnail(data: bytes, side: int, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """An encoded image of any format as a JPEG of at most `side` x `side` pixels, upright, without metadata.

    Raises ImageError where it cannot be decoded. The same bytes give the same thumbnail.
    """
    picture = decode(data, max_pixels=max_pixels).picture
    picture.thumbnail((side, side))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=85)
    return written.getvalue()
