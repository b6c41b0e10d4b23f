"""A sequential test: when a thing that is looked at again and again may be called by a label. Pure.

A stranger that is looked at often enough scores high once. The verdict of a single image is promised to be a match for at most
a share alpha of strangers; tested at every frame, a track of a stranger would match far more often. So a track is tested at J
looks only, each at the level alpha / J: whatever the frames of one track have to do with each other, at most alpha of the
strangers' tracks ever match, however long they are watched (Bonferroni's inequality; as a spending of alpha over looks: Lan
and DeMets, Biometrika 1983). A frame's p-value is the conformal one of being a stranger, (1 + strangers that score as high) /
(n + 1), which is never below 1 / (n + 1): more looks than alpha (n + 1) could never end in a match.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

MOST_LOOKS = 8
"""Looks at frames 1, 2, 3, 5, 8, 13, 21 and 34 of a track."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a track is tested, by the number of the frame, and at which level. No looks where nothing can be promised."""

    alpha: float
    looks: tuple[int, ...]

    @classmethod
    def of(cls, alpha: float, strangers: int) -> Schedule:
        """The schedule for a share of strangers' tracks that may match, with so many strangers known."""
        useful = int(Fraction(str(alpha)) * (strangers + 1))
        return cls(alpha, tuple(islice(_fibonacci(), min(useful, MOST_LOOKS))))

    @property
    def level(self) -> float:
        """The p-value up to which a look ends in a match."""
        return self.alpha / len(self.looks) if self.looks else 0.0

    def accepts(self, frame: int, p: float | None) -> bool:
        """Tell whether a track's frame, counted from 1, ends in a match by its p-value."""
        return p is not None and frame in self.looks and p <= self.level * (1 + 1e-9)


def _fibonacci() -> Iterator[int]:
    first, second = 1, 2
    while True:
        yield first
        first, second = second, first + second
