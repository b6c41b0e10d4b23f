"""Misplaced images: those nearer to another label than to the other shots of their own. Pure; a block of images at a time.

Of many images not all pairs are compared, but those of neighbouring blocks (`vectors.blocks`). Where the nearest image of
another label lies in none of them, it is missed: of the neighbours that this was measured by, one in a hundred does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever.scores import cosines, label_numbers
from nearshot.schema.labelled import LabelledVectors
from nearshot.vectors.blocks import Blocks
from nearshot.vectors.protocol import ROUNDING
from nearshot.vectors.segmented import SCORES

MANY = 50_000
"""Images above which not all pairs are compared: of these it takes half a minute on two cores, of a million three hours."""

Numbers = NDArray[np.int64]
Codes = NDArray[np.int32]


LEAST_REACH = 4
"""Blocks that an image is compared with at least: its own label's images may all be in one, and others in the next."""


class Misplaced(NamedTuple):
    """An image, the image of another label that is nearest to it, and the cosines of that and of its own label's nearest."""

    image: int
    other: int
    score: float
    own_score: float


def misplaced(support: LabelledVectors) -> Iterator[Misplaced]:
    """The images whose nearest image of another label, by other bytes, is nearer than any of their own label's other shots."""
    images = _Images.of(support)
    if images.labels < 2:
        return
    suspects = _by_blocks(images) if len(images.numbers) > MANY else _by_all(images)
    yield from sorted(each for image in suspects if (each := images.compared(image)) is not None)


@dataclass(frozen=True, slots=True, eq=False)
class _Images:
    """Images by number: vectors (n, d), and the numbers (n,) of their labels, of their shots and of their bytes.

    `order` has the images of a label together, those of each label from one of `bounds` (labels + 1,) on.
    """

    vectors: NDArray[np.float32]
    labels: int
    numbers: Codes
    shots: Codes
    hashes: Codes
    order: Numbers
    bounds: Numbers

    @classmethod
    def of(cls, support: LabelledVectors) -> _Images:
        names, numbers = label_numbers(support.labels)
        shots = _codes(zip(support.labels, support.shots, strict=True))
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], np.arange(len(names) + 1))
        return cls(support.vectors, len(names), numbers.astype(np.int32), shots, _codes(support.hashes), order, bounds)

    def own(self, image: int) -> Numbers:
        """The images of the label's other shots."""
        label = self.numbers[image]
        same = self.order[self.bounds[label] : self.bounds[label + 1]]
        others: Numbers = same[self.shots[same] != self.shots[image]]
        return others

    def is_other(self, image: int | Numbers, among: Numbers) -> NDArray[np.bool_]:
        """Tell which images show another label, by other bytes."""
        is_other: NDArray[np.bool_] = (self.numbers[among] != self.numbers[image]) & (
            self.hashes[among] != self.hashes[image]
        )
        return is_other

    def compared(self, suspect: tuple[int, Numbers]) -> Misplaced | None:
        """What there is to say of an image and those of other labels that may be nearest to it, by exact cosines."""
        image, others = suspect
        own = self.own(image)
        if not len(own) or not len(others):
            return None
        vector = self.vectors[image][None]
        own_score = float(cosines(vector, self.vectors[own]).max())
        exact = cosines(vector, self.vectors[others])[0]
        if exact.max() <= own_score:
            return None
        return Misplaced(image, int(others[exact == exact.max()].min()), float(exact.max()), own_score)


def _by_all(images: _Images, asked: Numbers | None = None) -> Iterator[tuple[int, Numbers]]:
    """The images that may be misplaced, of all or of some, with those of other labels that may be nearest: all are compared."""
    every = np.arange(len(images.numbers))
    asked = every if asked is None else asked
    together = max(1, SCORES // len(every))
    for start in range(0, len(asked), together):
        few = asked[start : start + together]
        for image, scores in zip(few.tolist(), images.vectors[few] @ images.vectors.T, strict=True):
            own = scores[images.own(image)].max(initial=-np.inf)
            scores[~images.is_other(image, every)] = -np.inf
            best = scores.max()
            if np.isfinite(own) and np.isfinite(best) and best > own - 2 * ROUNDING:
                yield image, np.flatnonzero(scores >= best - 2 * ROUNDING)


def _by_blocks(images: _Images) -> Iterator[tuple[int, Numbers]]:
    """The same, where each is compared with the images of neighbouring blocks only; of others that tie, one."""
    blocks = Blocks(images.vectors)
    best, best_own = (np.full(len(images.numbers), -np.inf, dtype=np.float32) for _ in range(2))
    nearest = np.full(len(images.numbers), -1, dtype=np.int64)
    for asked, named, scores in blocks.compare(max(LEAST_REACH, blocks.reach)):
        column = asked[:, None]
        is_other = images.numbers[named] != images.numbers[column]
        own = np.where(is_other | (images.shots[named] == images.shots[column]), -np.inf, scores).max(axis=1)
        best_own[asked] = np.maximum(best_own[asked], own)
        scores[~(is_other & (images.hashes[named] != images.hashes[column]))] = -np.inf
        number = scores.argmax(axis=1)
        score = scores[np.arange(len(asked)), number]
        nearer = score > best[asked]
        best[asked[nearer]], nearest[asked[nearer]] = score[nearer], named[number[nearer]]
    for image in np.flatnonzero(np.isfinite(best) & (best > best_own - 2 * ROUNDING)).tolist():
        yield image, nearest[image : image + 1]
    # Near what is compared there may be copies alone, and images of the same shot.
    yield from _by_all(images, np.flatnonzero(~np.isfinite(best) & ~np.isfinite(best_own)))


def _codes(names: Iterable[object]) -> Codes:
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int32)
