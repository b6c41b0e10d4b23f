"""Words as vectors, beside those of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backbones.protocol import Backbone, TextEncoder
from schema.errors import UsageError
from vectors.normalise import normalise


def encode_words(backbone: Backbone, words: str) -> NDArray[np.float32]:
    """Words as a unit vector (1, dimension) float32; UsageError for a backbone without a text encoder."""
    if not isinstance(backbone, TextEncoder):
        raise UsageError(f"{backbone.description.name} cannot compare images with words; take clip")
    return normalise(backbone.encode_text([words]))
