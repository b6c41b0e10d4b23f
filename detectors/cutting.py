"""Cutting: from a picture and what was detected in it to the crop that is kept. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from nearshot.detectors.protocol import Box
from nearshot.schema.vocabulary import Masked


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutting:
    """How crops are cut: the padding on each side, as a share of the box's longer one; as squares; with masks laid on."""

    padding: float = 0.05
    square: bool = False
    mask: Masked | None = None


def outline(box: Box, size: tuple[int, int], cutting: Cutting) -> Box:
    """The part of a picture of a size (width, height) that a box's crop shows.

    A square is moved to lie inside the picture; where the picture is too narrow for it, it is the picture that is narrower.
    """
    pad = round(cutting.padding * max(box.width, box.height))
    width, height = box.width + 2 * pad, box.height + 2 * pad
    if cutting.square:
        width = height = max(width, height)
    spans = [
        _span(start + end, length, whole, moved=cutting.square)
        for start, end, length, whole in (
            (box.left, box.right, width, size[0]),
            (box.top, box.bottom, height, size[1]),
        )
    ]
    return Box(spans[0][0], spans[1][0], spans[0][1], spans[1][1])


def cut(picture: Image.Image, box: Box, mask: NDArray[np.bool_] | None, cutting: Cutting) -> Image.Image:
    """The crop of a box as an RGB picture; `mask` (H, W) is of the box. White fills what a square lacks."""
    shown = outline(box, picture.size, cutting)
    crop = picture.crop(shown)
    if cutting.mask is not None and mask is not None:
        ground = (
            Image.new("RGB", crop.size, "white")
            if cutting.mask == Masked.WHITE
            else crop.filter(ImageFilter.GaussianBlur(max(4, max(crop.size) / 20)))
        )
        ground.paste(
            picture.crop(box),
            (box.left - shown.left, box.top - shown.top),
            Image.fromarray(mask.astype(np.uint8) * 255),
        )
        crop = ground
    side = max(crop.size)
    if cutting.square and min(crop.size) < side:
        whole = Image.new("RGB", (side, side), "white")
        whole.paste(crop, ((side - crop.width) // 2, (side - crop.height) // 2))
        return whole
    return crop


def _span(twice_middle: int, length: int, whole: int, *, moved: bool) -> tuple[int, int]:
    """A span of a length around a middle, within 0 and `whole`: moved there, or cut."""
    start = (twice_middle - length) // 2
    if moved:
        start = max(0, min(start, whole - length))
    return max(0, start), min(whole, start + length)
