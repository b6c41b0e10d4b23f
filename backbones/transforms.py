"""Torchvision transforms as a function from a picture to an array, with their last steps looked up instead of computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms

LEVELS = 256
"""Values that a channel of an 8-bit picture has."""


def as_function(transform: Any) -> Callable[[Image.Image], NDArray[np.float32]]:
    """Return a function that maps an RGB picture to float32 (3, H, W), bit for bit as the transform does.

    Where it ends by scaling to [0, 1] and normalising, each level of each channel has one value, which the transform's own
    steps give once for all: looking them up takes half the time (benchmarks/README.md).
    """
    steps = list(transform.transforms) if isinstance(transform, transforms.Compose) else []
    if [type(step).__name__ for step in steps[-2:]] not in (["ToTensor", "Normalize"], ["MaybeToTensor", "Normalize"]):
        return lambda picture: _array(transform(picture))
    first, last = transforms.Compose(steps[:-2]), transforms.Compose(steps[-2:])
    levels = np.repeat(np.arange(LEVELS, dtype=np.uint8)[None, :, None], 3, axis=2)
    table = _array(last(Image.fromarray(levels)))[:, 0]

    def prepare(picture: Image.Image) -> NDArray[np.float32]:
        pixels = np.asarray(first(picture))
        prepared = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
        for channel, values in enumerate(table):
            np.take(values, pixels[:, :, channel], out=prepared[channel])
        return prepared

    return prepare


def _array(tensor: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.numpy()
    return array
