"""Protocol of a backbone: an RGB picture in, a vector out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.decode import RULES
from nearshot.schema.vocabulary import Precision

Prepared = NDArray[Any]
"""One picture as a backbone wants it: an array whose shape and dtype are the backbone's own affair."""


Preparer = Callable[[Image.Image], Prepared]
"""What maps an RGB picture to a prepared one."""


@dataclass(frozen=True, slots=True)
class Description:
    """Identity of a backbone. Vectors of different fingerprints are never compared."""

    name: str
    dimension: int
    precision: Precision
    fingerprint: str


class Backbone(Protocol):
    """A picture encoder.

    `prepare` may be called from any number of threads at once and touches no device; `encode` from one thread at a time.
    Neither keeps anything of what it was given: memory does not grow with the number of pictures.
    """

    @property
    def description(self) -> Description:
        """Identity of the backbone."""

    @property
    def batch_size(self) -> int:
        """Number of pictures it encodes at once with ease, on the device that it is on."""

    def prepare(self, picture: Image.Image) -> Prepared:
        """Preprocess an upright RGB picture exactly as the library that the weights come from does."""

    def encode(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """The vectors (n, dimension), not normalised, of n >= 1 prepared pictures, in host memory."""


@runtime_checkable
class PreparedElsewhere(Protocol):
    """A backbone whose pictures other processes can prepare, which pays where it leaves the cores to them."""

    @property
    def preparation(self) -> Preparer:
        """What prepares pictures: `prepare`, without the model. It may be one that cannot be pickled."""

    @property
    def is_on_gpu(self) -> bool:
        """Tell whether it encodes on another device than the CPU."""


@runtime_checkable
class Packable(Protocol):
    """A backbone that can be made ready for many images, whose vectors differ in the last bits from then on."""

    def pack(self) -> None:
        """Make it ready: from then on a vector is the same to the bit, however many are encoded, and with what."""


@runtime_checkable
class TextEncoder(Protocol):
    """A backbone's other half: words in, vectors beside those of its images out. One thread at a time.

    Cosines between words and images are far lower than those between images, and share no threshold with them.
    """

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors (n, dimension), not normalised, of n >= 1 texts; what is longer than the model's context is cut off."""


def fingerprint(*, weights: str, preprocessing: Any, precision: Precision) -> str:
    """SHA-256 over all that decides a vector: a digest of the weights, the preprocessing, precision and decoder rules."""
    identity = {"weights": weights, "preprocessing": preprocessing, "precision": precision, "decoder": RULES}
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
