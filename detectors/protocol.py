"""Protocol of a detector: upright RGB pictures in, boxes (and masks, labels, scores, where it has them) out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Box(NamedTuple):
    """A rectangle of whole pixels in an upright picture; right and bottom are the first column and row outside it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """Something that was detected: its box (left, top, right, bottom) in pixels of the upright picture, as the model gave it.

    `label` is what the model calls it, None where it has no words; `score` within [0, 1], None where it gives none; `mask`
    (H, W) bool tells the pixels of `enclosing(box)` that show it, None where there is none.
    """

    box: tuple[float, float, float, float]
    label: str | None = None
    score: float | None = None
    mask: NDArray[np.bool_] | None = None


class Detector(Protocol):
    """A detector on a device, from one thread at a time. It keeps nothing of what it was given."""

    @property
    def name(self) -> str:
        """What it is called by."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides what it detects: weights, preprocessing, precision and rules."""

    @property
    def batch_size(self) -> int:
        """Number of pictures it looks at at once with ease, on the device that it is on."""

    @property
    def usual_score(self) -> float | None:
        """The least score that is taken where nothing else is asked for; None where its detections have no scores."""

    def check_words(self, words: Sequence[str]) -> None:
        """Raise UsageError where it cannot look for these words, or cannot do without."""

    def prepare(self, picture: Image.Image) -> Any:
        """What of its preprocessing can be done ahead, from any number of threads at once, None for nothing."""

    def detect(
        self,
        pictures: Sequence[Image.Image],
        words: Sequence[str],
        *,
        masks: bool = False,
        prepared: Sequence[Any] | None = None,
    ) -> list[list[Detection]]:
        """The detections in each of n >= 1 pictures, best first where they have scores; of all words at once, where given.

        With `masks`, each has one. `prepared` is what `prepare` gave of each. UsageError where it cannot give masks.
        """


def enclosing(box: Sequence[float], size: tuple[int, int]) -> Box | None:
    """The whole pixels of a picture of a size (width, height) that a box touches; None where it is none, or lies outside."""
    if len(box) != 4 or not all(map(math.isfinite, box)):
        return None
    width, height = size
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    right, bottom = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    return (
        Box(left, top, right, bottom) if left < right and top < bottom and box[0] < box[2] and box[1] < box[3] else None
    )
