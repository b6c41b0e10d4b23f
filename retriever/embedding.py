"""Embedding: one picture, or some words, as a unit vector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.preparation import prepare_safely
from nearshot.backbones.protocol import Backbone, TextEncoder
from nearshot.schema.errors import ImageError, UsageError, option
from nearshot.vectors.normalise import find_faults, normalise


def embed_picture(backbone: Backbone, picture: Image.Image) -> NDArray[np.float32]:
    """A picture as a unit vector (1, dimension) float32; ImageError where the backbone gives none."""
    encoded = backbone.encode([prepare_safely(backbone, picture)])
    return unit(backbone, encoded)


def unit(backbone: Backbone, encoded: NDArray[np.float32]) -> NDArray[np.float32]:
    """An encoded picture (1, dimension) as a unit vector; ImageError where it has no direction."""
    for reason in find_faults(encoded).values():
        raise ImageError(f"{backbone.description.name} gave no usable vector: {reason}")
    return normalise(encoded)


def mix(image: NDArray[np.float32], words: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """The unit vector (1, dimension) of (1 - weight) times an image's plus weight times the words'; ImageError for none."""
    mixed = (1 - weight) * image + weight * words
    if find_faults(mixed):
        raise ImageError(f"image and text vectors cancel at this {option('text_weight')}; take another")
    return normalise(mixed)


def encode_words(backbone: Backbone, words: str) -> NDArray[np.float32]:
    """Words as a unit vector (1, dimension) float32; UsageError for a backbone without a text encoder."""
    if not isinstance(backbone, TextEncoder):
        raise UsageError(f"{backbone.description.name} cannot compare images with words; take clip")
    return normalise(backbone.encode_text([words]))
