"""Fused: several loaded backbones as one, which makes of a picture what the store has made of their vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.protocol import Backbone, Description, Prepared
from nearshot.schema.vocabulary import Precision
from nearshot.vectors.fused import fused_fingerprint, join
from nearshot.vectors.normalise import find_faults, normalise


class FusedBackbone:
    """Encodes a picture by each of its parts, and joins what they give."""

    def __init__(self, name: str, parts: Sequence[Backbone], weights: Sequence[float]) -> None:
        """Take over the parts, in the order of the store's; `weights` are their shares of a cosine."""
        self.parts, self._weights = tuple(parts), tuple(weights)
        described = [part.description for part in self.parts]
        self._description = Description(
            name,
            sum(each.dimension for each in described),
            Precision.FP32,
            fused_fingerprint([each.fingerprint for each in described], self._weights),
        )

    @property
    def description(self) -> Description:
        """Identity of the backbone."""
        return self._description

    @property
    def batch_size(self) -> int:
        """Number of pictures that all of its parts encode at once with ease."""
        return min(part.batch_size for part in self.parts)

    def prepare(self, picture: Image.Image) -> Prepared:
        """Preprocess a picture for each part: an array (parts,) of objects."""
        prepared = np.empty(len(self.parts), dtype=object)
        prepared[:] = [part.prepare(picture) for part in self.parts]
        return prepared

    def encode(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """The vectors (n, dimension) of n >= 1 prepared pictures, at length 1; NaN where a part gives no usable vector."""
        encoded = [part.encode([prepared[at] for prepared in batch]) for at, part in enumerate(self.parts)]
        bad = sorted({row for vectors in encoded for row in find_faults(vectors)})
        good = [row for row in range(len(batch)) if row not in bad]
        fused = np.full((len(batch), self.description.dimension), np.nan, dtype=np.float32)
        if good:
            fused[good] = join([normalise(vectors[good]) for vectors in encoded], self._weights)
        return fused
