"""The picture hash: 64 bits of what a picture shows, few of which change when it is scaled or encoded again. Pure.

A perceptual hash by the discrete cosine transform (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions,
2010): of the picture as 32 x 32 grey levels, the 8 x 8 lowest frequencies, each above their median or not.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.fft import dctn

RULES = 1
"""The version of how hashes are made: those of others are not compared."""

SIDE, FREQUENCIES = 32, 8

PLAIN = 2.0
"""Standard deviation of the grey levels, of 256, below which a picture shows nothing that a hash could tell."""


def picture_hash(picture: Image.Image) -> int | None:
    """The hash of an upright RGB picture, from 0 to 2^64 - 1; None of a plain one."""
    grey = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    if grey.std() < PLAIN:
        return None
    lowest = dctn(grey)[:FREQUENCIES, :FREQUENCIES].ravel()
    return int.from_bytes(np.packbits(lowest > np.median(lowest[1:])).tobytes(), "big")
