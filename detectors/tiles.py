"""Tiles: a large picture is looked at whole, and in overlapping parts in which small things are large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from nearshot.detectors.protocol import Box, Detection, Detector

OVERLAP = 0.25
"""The share of a tile's side by which neighbours overlap: what is smaller lies whole in one of them."""

EDGE = 2
"""Pixels from the inner edge of a tile within which a box counts as cut off."""


def tiles_of(size: tuple[int, int], side: int) -> list[Box]:
    """The tiles of a picture of a size (width, height), row by row; none where it is no larger than one."""
    if max(size) <= side:
        return []
    columns, rows = (_starts(length, side) for length in size)
    return [Box(left, top, min(left + side, size[0]), min(top + side, size[1])) for top in rows for left in columns]


def detect_in_tiles(
    detector: Detector, picture: Image.Image, words: Sequence[str], *, side: int, masks: bool
) -> list[Detection]:
    """The detections in a picture as a whole and in its tiles; what a tile's inner edge cuts off is left to its neighbour."""
    [detections] = detector.detect([picture], words, masks=masks)
    tiles = tiles_of(picture.size, side)
    for start in range(0, len(tiles), detector.batch_size):
        batch = tiles[start : start + detector.batch_size]
        answers = detector.detect([picture.crop(tile) for tile in batch], words, masks=masks)
        for tile, inside in zip(batch, answers, strict=True):
            detections += [
                replace(each, box=_moved(each.box, tile))
                for each in inside
                if not _is_cut_off(each.box, tile, picture.size)
            ]
    return detections


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    step = max(1, round(side * (1 - OVERLAP)))
    return [*range(0, length - side, step), length - side]


def _moved(box: tuple[float, float, float, float], tile: Box) -> tuple[float, float, float, float]:
    return box[0] + tile.left, box[1] + tile.top, box[2] + tile.left, box[3] + tile.top


def _is_cut_off(box: Sequence[float], tile: Box, size: tuple[int, int]) -> bool:
    return (
        (tile.left > 0 and box[0] <= EDGE)
        or (tile.top > 0 and box[1] <= EDGE)
        or (tile.right < size[0] and box[2] >= tile.width - EDGE)
        or (tile.bottom < size[1] and box[3] >= tile.height - EDGE)
    )
