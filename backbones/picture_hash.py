"""The picture hash: what a picture shows, in 64 numbers and bits that hardly change when it is scaled or encoded again. Pure.

A perceptual hash by the discrete cosine transform (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions,
2010): of the picture as 32 x 32 grey levels, the 8 x 8 lowest frequencies, each above their median or not. The frequencies
themselves tell apart what the bits cannot: pictures with little in them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

RULES = 1
"""The version of how hashes are made: those of others are not compared."""

SIDE, FREQUENCIES = 32, 8

PLAIN = 2.0
"""Standard deviation of the grey levels, of 256, below which a picture shows nothing that a hash could tell."""


def picture_hash(picture: Image.Image) -> bytes | None:
    """The lowest frequencies (64,) int8 of an upright RGB picture, brightness left out, scaled to 127; None of a plain one."""
    grey = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    if grey.std() < PLAIN:
        return None
    lowest = dctn(grey, norm="ortho")[:FREQUENCIES, :FREQUENCIES].ravel()
    lowest[0] = 0
    scaled: NDArray[np.int8] = np.round(lowest / np.abs(lowest).max() * 127).astype(np.int8)
    return scaled.tobytes()


def hash_bits(hashes: NDArray[np.int8]) -> NDArray[np.uint64]:
    """The bits (n,) of hashes (n, 64): for each frequency whether it is above the median of them all."""
    above = hashes > np.median(hashes[:, 1:], axis=1, keepdims=True)
    return np.packbits(above, axis=1).view(">u8")[:, 0].astype(np.uint64)


def likeness(first: NDArray[np.int8], other: NDArray[np.int8]) -> float:
    """The cosine between the frequencies (64,) of two pictures."""
    left, right = first.astype(np.float64), other.astype(np.float64)
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))
