"""Protocol of a captioner: an RGB picture in, words out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from nearshot.backbones.protocol import Prepared
from nearshot.schema.vocabulary import CaptionTask


class Captioner(Protocol):
    """A picture describer.

    `prepare` may be called from any number of threads at once and touches no device; `caption` from one thread at a time.
    Neither keeps anything of what it was given. The same picture gives the same words, whatever batch it comes in.
    """

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides a caption: weights, preprocessing, precision, decoding and the decoder's rules."""

    @property
    def batch_size(self) -> int:
        """Number of pictures it describes at once with ease, on the device that it is on."""

    def prepare(self, picture: Image.Image) -> Prepared:
        """Preprocess an upright RGB picture exactly as the library that the weights come from does."""

    def caption(self, batch: Sequence[Prepared], task: CaptionTask) -> list[str]:
        """The captions of n >= 1 prepared pictures: plain words, one line each, without any of the model's own tokens."""
