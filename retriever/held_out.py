"""Held-out scores: what each shot scores where it, or its whole label, had never been there. Pure.

The first answers how known images score by the rest of the support set, the second how images of a label score that the support
set does not have: strangers, as far as the support set can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest

import numpy as np

from nearshot.retriever.discriminant import Samples
from nearshot.retriever.scores import (
    DECIMALS,
    Labelled,
    Numbers,
    Scores,
    cosines,
    directions,
    label_sums,
    neighbour_scores,
    queries_together,
    rounded,
)
from nearshot.schema.labelled import LabelledVectors
from nearshot.schema.vocabulary import Score

MOST = 2000
"""Shots that are held out at most: of more, an even choice by their SHA-256."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The s shots of a support set, by the images (numbers in it) that belong to each.

    `asked` (s,) is the image that each shot asks with, its first; `truth` (s,) its label by number; `with_it` holds the images
    that leave with it: those of the same shot, and those of the same bytes.
    """

    asked: Numbers
    truth: Numbers
    with_it: tuple[Numbers, ...]

    @classmethod
    def of(cls, support: LabelledVectors, numbers: Numbers) -> HeldOut:
        """The shots of a support set whose images have labels by number (n,)."""
        first_of: dict[str | None, dict[str | None, int]] = {}  # of each label, of each shot
        for index, (label, shot) in enumerate(zip(support.labels, support.shots, strict=True)):
            first_of.setdefault(label, {}).setdefault(shot, index)
        every = (index for shots in first_of.values() for index in shots.values())
        firsts = sorted(nsmallest(MOST, every, key=lambda index: (support.hashes[index], index)))
        by_shot: dict[tuple[str | None, str | None], set[int]] = {}
        by_bytes: dict[str, set[int]] = {}
        for first in firsts:
            by_shot[support.labels[first], support.shots[first]] = set()
            by_bytes[support.hashes[first]] = set()
        for index, (sha256, label, shot) in enumerate(zip(support.hashes, support.labels, support.shots, strict=True)):
            for leaving in (by_shot.get((label, shot)), by_bytes.get(sha256)):
                if leaving is not None:
                    leaving.add(index)
        with_it = tuple(
            np.array(
                sorted(by_shot[support.labels[first], support.shots[first]] | by_bytes[support.hashes[first]]),
                dtype=np.int64,
            )
            for first in firsts
        )
        asked = np.array(firsts, dtype=np.int64)
        return cls(asked, numbers[asked], with_it)


def without_the_shot(score: Score, labelled: Labelled, held_out: HeldOut) -> Scores:
    """The scores (s, m) of each shot by all others; -inf for a label that has no other."""
    return _without(score, labelled, held_out.asked, held_out.with_it)


def without_the_label(score: Score, labelled: Labelled, held_out: HeldOut) -> Scores:
    """The scores (s, m) of each shot where its whole label is left out everywhere, votes and covariance included."""
    order = np.argsort(labelled.numbers, kind="stable")
    labels = np.split(order, np.cumsum(np.bincount(labelled.numbers, minlength=len(labelled.names)))[:-1])
    out = [np.union1d(labels[label], same) for label, same in zip(held_out.truth, held_out.with_it, strict=True)]
    return _without(score, labelled, held_out.asked, out)


def _without(score: Score, labelled: Labelled, asked: Numbers, out: Sequence[Numbers]) -> Scores:
    scored = np.full((len(asked), len(labelled.names)), -np.inf)
    if not len(asked):
        return scored
    if score == Score.LDA:
        samples = Samples.of(labelled.vectors, labelled.numbers, len(labelled.names), labelled.strangers)
        for rows in _alike(out):
            scored[rows] = rounded(samples.scores_without(out[rows[0]], asked[rows]))
        return scored
    if score == Score.PROTOTYPE:
        return _by_means(labelled, asked, out)
    together = queries_together(len(labelled.vectors))
    for start in range(0, len(asked), together):
        part = slice(start, start + together)
        similarities = cosines(labelled.vectors[asked[part]], labelled.vectors)
        for row, left in zip(similarities, out[part], strict=True):
            row[left] = np.nan
        scored[part] = neighbour_scores(score, similarities, labelled.numbers, len(labelled.names))
    return scored


def _alike(out: Sequence[Numbers]) -> list[list[int]]:
    """The rows that leave the same images out, together."""
    groups: dict[bytes, list[int]] = {}
    for row, left in enumerate(out):
        groups.setdefault(left.tobytes(), []).append(row)
    return list(groups.values())


def _by_means(labelled: Labelled, asked: Numbers, out: Sequence[Numbers]) -> Scores:
    count = len(labelled.names)
    sizes = np.bincount(labelled.numbers, minlength=count)
    sums = label_sums(labelled)
    wide = labelled.vectors[asked].astype(np.float64)
    scored: Scores = wide @ directions(sums / np.maximum(sizes, 1)[:, None]).T
    np.clip(scored, -1.0, 1.0, out=scored)  # with many labels this is a large table, which is not copied
    for row, left in enumerate(out):
        for label in np.unique(labelled.numbers[left]):
            mine = left[labelled.numbers[left] == label]
            rest = sizes[label] - len(mine)
            mean = (sums[label] - labelled.vectors[mine].astype(np.float64).sum(axis=0)) / max(rest, 1)
            scored[row, label] = np.clip(wide[row] @ directions(mean[None])[0], -1.0, 1.0) if rest else -np.inf
    np.round(scored, DECIMALS, out=scored)
    scored += 0.0  # no negative zeros
    return scored
