"""The learning curve: how many more shots a label is likely to need, and where more shots will not do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearshot.evaluation.rules import rules_in_force
from nearshot.retriever.choose_backbone import choose_rows
from nearshot.retriever.held_out import HeldOut, without_the_shot
from nearshot.retriever.scores import Labelled
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.labelled import LabelledVectors, labelled_vectors
from nearshot.schema.vocabulary import Role, Score

GOAL = 0.95
DRAWS = 20
RESAMPLES = 200

LEAST_SHOTS = 8
"""With fewer, one shot more or less that comes out right decides everything: nothing is estimated."""

MOST_SHOTS = 100_000
"""Shots of a category up to which needs are estimated: each shot is held against each label, again and again."""

LEAST_SLOPE = 0.1
"""A curve that falls more slowly halves the error with a thousand times the shots: more shots will not do."""


Curve = dict[int, NDArray[np.float64]]
"""By number of shots: whether each of a label's shots came out right in each draw (draws, shots); NaN where not drawn."""


@dataclass(frozen=True, slots=True)
class Need:
    """Number of further shots a label is likely to need until 95 % of its images come out nearest to it.

    `now` is that share today, each shot left out in turn. `tells` is whether there are shots enough to estimate by. `more` is
    the estimate from the learning curve, None where it says that more shots will not do; `low` and `high` bound it in 90 % of
    resamples of the shots (None: without bound). `other` is a backbone that reaches more with the same shots, where there is
    one.
    """

    category: str
    label: str
    shots: int
    now: float
    tells: bool
    more: int | None
    low: int | None
    high: int | None
    other: str | None

    def as_json(self) -> dict[str, Any]:
        """The object that `next --json` prints."""
        names = ("category", "label", "shots", "tells", "more", "low", "high", "other")
        return {**{name: getattr(self, name) for name in names}, "now": round(self.now, 4)}


def is_beyond(catalog: Catalog, category: str) -> bool:
    """Tell whether a category has more shots than needs are estimated for."""
    return sum(catalog.support_labels(category).values()) > MOST_SHOTS


def needs_of(catalog: Catalog, row: BackboneRow, category: str) -> list[Need]:
    """Estimate what each label of two or more shots needs, as a backbone sees it by the score in force; none of very many."""
    if is_beyond(catalog, category):
        return []
    support = labelled_vectors(catalog, row, category, Role.SUPPORT)
    labelled = Labelled.of(support.labels, support.vectors)
    if len(labelled.names) < 2:
        return []
    score = rules_in_force(catalog, row, None, category).score
    own = recalls(support, labelled, score)
    others: dict[str, NDArray[np.float64]] = {}
    for other in choose_rows(catalog, ()):
        theirs = labelled_vectors(catalog, other, category, Role.SUPPORT)
        if other.name != row.name and theirs.hashes == support.hashes:
            known = Labelled.of(theirs.labels, theirs.vectors)
            by = rules_in_force(catalog, other, None, category).score
            others[other.name] = recalls(theirs, known, by).now
    needs = []
    for label, name in enumerate(labelled.names):
        if own.shots[label] < 2:
            continue
        more, low, high = more_shots(own.curves[label], int(own.shots[label]))
        better = {other: now[label] for other, now in others.items() if now[label] > own.now[label] + 1e-9}
        needs.append(
            Need(
                *(category, name, int(own.shots[label]), float(own.now[label])),
                bool(own.shots[label] >= LEAST_SHOTS),
                *(more, low, high, max(better, key=lambda other: better[other], default=None)),
            )
        )
    return needs


@dataclass(frozen=True, slots=True, eq=False)
class Recalls:
    """Per label: its number of shots (m,), the share of its shots that come out nearest to it, each left out in turn (m,), and
    its learning curve: by number of shots k, whether each of its shots was right in each draw of k of the others.
    """

    shots: NDArray[np.int64]
    now: NDArray[np.float64]
    curves: list[Curve]


def recalls(support: LabelledVectors, labelled: Labelled, score: Score) -> Recalls:
    """Leave each shot out, with all the others and with draws of 1, 2, 4, ... others of each label."""
    held_out = HeldOut.of(support, labelled.numbers)
    count = len(labelled.names)
    shots = np.bincount(held_out.truth, minlength=count)
    right = without_the_shot(score, labelled, held_out).argmax(axis=1) == held_out.truth
    now = np.bincount(held_out.truth, weights=right, minlength=count) / np.maximum(shots, 1)
    curves: list[Curve] = [{} for _ in range(count)]
    asked = labelled.vectors[held_out.asked]
    chance = np.random.default_rng(0)
    size = 1
    while size < shots.max(initial=0):
        hits = np.zeros((DRAWS, len(held_out.asked)))
        for draw in range(DRAWS):
            kept = np.concatenate(
                [chance.permutation(np.flatnonzero(held_out.truth == label))[: size + 1] for label in range(count)]
            )
            numbers = held_out.truth[kept]
            part = Labelled(labelled.names, numbers, asked[kept], labelled.strangers)
            alone = HeldOut(np.arange(len(kept)), numbers, tuple(np.array([position]) for position in range(len(kept))))
            inside = without_the_shot(score, part, alone).argmax(axis=1) == numbers
            hits[draw] = np.nan
            hits[draw, kept] = inside
        for label in range(count):
            if shots[label] > size:
                curves[label][size] = hits[:, held_out.truth == label]
        size *= 2
    return Recalls(shots, now, curves)


def more_shots(curve: Curve, shots: int) -> tuple[int | None, int | None, int | None]:
    """Estimate how many more shots bring the error to 0.05, by a power law through the curve; and the 5 % and 95 % quantiles
    over resamples of the shots. None for an estimate: the curve does not fall.

    Error falls as a k^-b with the number of shots k (Hestness et al., 2017, "Deep learning scaling is predictable,
    empirically"), fitted by least squares of the logarithms; an error of 0 counts as half of the least that could be seen.
    """
    sizes = sorted(curve)
    if not sizes:
        return None, None, None
    asked = curve[sizes[0]].shape[1]
    everyone, chance = np.arange(asked, dtype=np.int64), np.random.default_rng(0)
    estimates = [_needed(curve, sizes, everyone)]
    estimates += [_needed(curve, sizes, chance.choice(everyone, asked)) for _ in range(RESAMPLES)]
    more = [math.inf if estimate is None else max(0.0, estimate - shots) for estimate in estimates]
    ordered = sorted(more[1:])
    low, high = ordered[round(0.05 * (RESAMPLES - 1))], ordered[round(0.95 * (RESAMPLES - 1))]
    return _whole(more[0]), _whole(low), _whole(high)


def _whole(more: float) -> int | None:
    return None if math.isinf(more) else math.ceil(more)


def _needed(curve: Curve, sizes: Sequence[int], chosen: NDArray[np.int64]) -> float | None:
    """The number of shots at which the fitted error is 0.05; None where it does not fall."""
    errors = []
    for size in sizes:
        hits = curve[size][:, chosen]
        seen = np.sum(~np.isnan(hits))
        errors.append(max(1 - float(np.nansum(hits)) / max(int(seen), 1), 0.5 / max(int(seen), 1)))
    if min(errors) <= 1 - GOAL:
        return float(next(size for size, error in zip(sizes, errors, strict=True) if error <= 1 - GOAL))
    if len(sizes) < 2:
        return None
    slope, intercept = np.polyfit(np.log(sizes), np.log(errors), 1)
    if slope > -LEAST_SLOPE:
        return None
    return float(min(np.exp((np.log(1 - GOAL) - intercept) / slope), 1e6))
