"""Embedding: one picture, or some words, as a unit vector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backbones.preparation import prepare_safely
from backbones.protocol import Backbone, TextEncoder
from schema.errors import ImageError, UsageError
from vectors.normalise import find_faults, normalise


def embed_picture(backbone: Backbone, picture: Image.Image) -> NDArray[np.float32]:
    """A picture as a unit vector (1, dimension) float32; ImageError where the backbone gives none."""
    encoded = backbone.encode([prepare_safely(backbone, picture)])
    for reason in find_faults(encoded).values():
        raise ImageError(f"{backbone.description.name} gave no usable vector: {reason}")
    return normalise(encoded)


def encode_words(backbone: Backbone, words: str) -> NDArray[np.float32]:
    """Words as a unit vector (1, dimension) float32; UsageError for a backbone without a text encoder."""
    if not isinstance(backbone, TextEncoder):
        raise UsageError(f"{backbone.description.name} cannot compare images with words; take clip")
    return normalise(backbone.encode_text([words]))
