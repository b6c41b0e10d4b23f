"""Preparation by Pillow and NumPy alone: the shorter side to a length, then the centre. No model's library need be imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TRIALS = ((311, 277), (277, 311), (500, 375), (100, 640), (300, 200), (225, 301), (333, 111), (30, 41))
"""Widths and heights that are tried, whatever comes out: larger and smaller, both ways up, at exact ratios and between."""


@dataclass(frozen=True, slots=True)
class PillowPixels:
    """Resizes a picture's shorter side to `short` pixels by a filter of Pillow's, and cuts out the centre.

    Where the centre lies between pixels, libraries differ: `floor` rounds it down, else to the nearest even number.
    """

    short: int
    resample: int
    height: int
    width: int
    floor: bool

    def __call__(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Uint8 (height, width, 3)."""
        shorter, longer = min(picture.size), max(picture.size)
        long = int(self.short * longer / shorter)
        size = (self.short, long) if picture.width <= picture.height else (long, self.short)
        resized = picture if picture.size == size else picture.resize(size, self.resample)
        left, top = self._half(size[0] - self.width), self._half(size[1] - self.height)
        return np.asarray(resized.crop((left, top, left + self.width, top + self.height)))

    def _half(self, room: int) -> int:
        return room // 2 if self.floor else round(room / 2)


def pillow_pixels(
    pixels: Callable[[Image.Image], NDArray[np.uint8]], *, short: int, resample: int, height: int, width: int
) -> PillowPixels | None:
    """The same as a library's own steps, where it gives the same bits on all trials; else None."""
    if short < max(height, width):  # then the library pads, each in its own way
        return None
    candidates = (PillowPixels(short, int(resample), height, width, floor) for floor in (False, True))
    return next((each for each in candidates if all(_agree(each, pixels, picture) for picture in _trials(short))), None)


def _agree(plain: PillowPixels, library: Callable[[Image.Image], NDArray[np.uint8]], picture: Image.Image) -> bool:
    return np.array_equal(plain(picture), library(picture))


def _trials(short: int) -> Iterator[Image.Image]:
    """Pictures of all kinds; and such as need no resizing, a pixel longer each, so that half a pixel is rounded each way."""
    chance = np.random.default_rng(0)
    as_long = [(short, short + more) for more in range(4)]
    for width, height in (*as_long, *((long, wide) for wide, long in as_long), *TRIALS):
        yield Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8))
