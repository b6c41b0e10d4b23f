"""L2 normalisation, and the check that keeps unusable vectors out of every index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def find_faults(vectors: NDArray[np.floating]) -> dict[int, str]:
    """The rows of (n, dimension) vectors that cannot be normalised, with the reason: non-finite values, or length zero.

    FAISS takes both in silence; a zero vector scores 0 against everything, a NaN poisons every comparison.
    """
    finite = np.isfinite(vectors).all(axis=1)
    zero = ~vectors.any(axis=1)
    faults = {int(row): "the vector has values that are not finite" for row in np.flatnonzero(~finite)}
    return faults | {int(row): "the vector is zero" for row in np.flatnonzero(zero)}


def normalise(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scale the rows of (n, dimension) vectors to length 1, as float32, so that an inner product is a cosine.

    Lengths are taken in float64, where squares of float32 values neither overflow nor vanish. Raises ValueError naming
    the first row that cannot be normalised.
    """
    for row, reason in find_faults(vectors).items():
        raise ValueError(f"row {row}: {reason}")
    wide = vectors.astype(np.float64)
    unit: NDArray[np.float32] = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    return unit
