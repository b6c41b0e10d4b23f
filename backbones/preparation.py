"""Preparations: what prepares pictures in any process; and failing like decoding does, with the picture, not with the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.protocol import Backbone, Prepared, Preparer
from nearshot.schema.errors import ImageError

LEVELS = 256
"""Values that a channel of an 8-bit picture has."""

Values = Callable[[Image.Image], NDArray[np.float32]]
"""A library's preprocessing: an RGB picture to float32 (3, H, W)."""

Pixels = Callable[[Image.Image], NDArray[np.uint8]]
"""Its first steps: an RGB picture to uint8 (H, W, 3)."""


@dataclass(frozen=True, slots=True, eq=False)
class Preparation:
    """What prepares pictures, in this process or, as it can be pickled, in another one.

    With a `table` (3, 256) float32 of what becomes of each level of each channel, it gives uint8 (H, W, 3); without, float32
    (3, H, W).
    """

    steps: Values | Pixels
    table: NDArray[np.float32] | None = None

    def __call__(self, picture: Image.Image) -> NDArray[Any]:
        """Prepare an RGB picture."""
        return self.steps(picture)

    def values(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        """What the library makes of the picture: float32 (3, H, W)."""
        if self.table is None:
            return prepared
        return np.stack([levels[prepared[..., channel]] for channel, levels in enumerate(self.table)])


def prepare_safely(backbone: Backbone, picture: Image.Image) -> Prepared:
    """Preprocess a picture; ImageError where the backbone's library cannot."""
    return prepare_with(backbone.description.name, backbone.prepare, picture)


def prepare_with(name: str, preparer: Preparer, picture: Image.Image) -> Prepared:
    """Preprocess a picture for the backbone of a name; ImageError where its library cannot."""
    try:
        return preparer(picture)
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise ImageError(f"cannot be prepared for {name}: {error}") from error
