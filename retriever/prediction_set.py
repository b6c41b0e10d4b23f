"""Prediction sets: the labels that cannot be ruled out, with a promise of how often the true one is among them. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever import shapes


@dataclass(frozen=True, slots=True)
class SetSamples:
    """Samples that p-values rest on, from a calibration: scores by a model that had not seen the images.

    `own` has, per label, how its images score their own label, ascending; `strangers` the best scores of images that show
    none, ascending.
    """

    own: Mapping[str, Sequence[float]]
    strangers: Sequence[float]

    def as_json(self) -> dict[str, Any]:
        """Return what is kept beside a calibration."""
        return {"own": {label: list(scores) for label, scores in self.own.items()}, "strangers": list(self.strangers)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SetSamples:
        """From what `as_json` gave."""
        return cls(stored["own"], stored["strangers"])


@dataclass(frozen=True, slots=True)
class PredictionSet:
    """The labels that a query may show, with their p-values, most plausible first.

    Of known images that are exchangeable with those of the calibration, the true label is among `labels` in at least
    `coverage` of the cases, on average over calibrations: for every label by itself where it has enough images of its own
    (`SetSamples`), else over all labels together. `none_of_these` is the p-value of the query being a stranger like the known
    ones: small where hardly any stranger scores as high; None without strangers to tell by.
    """

    coverage: float
    labels: Mapping[str, float]
    none_of_these: float | None

    def as_json(self) -> shapes.Possible:
        """The object under `possible` in `query --json`."""
        return {
            "coverage": self.coverage,
            "labels": [{"label": label, "p": round(p, 4)} for label, p in self.labels.items()],
            "none_of_these": None if self.none_of_these is None else round(self.none_of_these, 4),
        }


def prediction_set(scores: Mapping[str, float], samples: SetSamples, coverage: float) -> PredictionSet:
    """The labels of one query that cannot be ruled out, by their scores."""
    values = np.array([list(scores.values())])
    places, held = no_lower(values, list(scores), samples, coverage)
    kept = {
        label: float(rank) / (count + 1)
        for label, rank, count, inside in zip(scores, places[0], held, in_set(places, held, coverage)[0], strict=True)
        if inside
    }
    ordered = dict(sorted(kept.items(), key=lambda item: (-item[1], -scores[item[0]], item[0])))
    best = max(scores.values(), default=-math.inf)
    as_high = len(samples.strangers) - bisect_left(samples.strangers, best)
    none = (1 + as_high) / (len(samples.strangers) + 1) if samples.strangers else None
    return PredictionSet(coverage, ordered, none)


def no_lower(
    scores: NDArray[np.float64], names: Sequence[str], samples: SetSamples, coverage: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of q queries by m labels, 1 + how many of the n images that a label is judged by score no higher (q, m); and n (m,).

    Their quotient by n + 1 is the p-value of the label: split conformal prediction, one class at a time (Mondrian: Vovk et
    al., "Algorithmic Learning in a Random World", 2005). A label with fewer than `samples_needed` images borrows those of all.
    """
    everyone = np.sort(np.concatenate([np.zeros(0), *map(np.asarray, samples.own.values())]))
    needed = samples_needed(coverage)
    places, held = np.empty(scores.shape, dtype=np.int64), np.empty(len(names), dtype=np.int64)
    for label, name in enumerate(names):
        own = np.asarray(samples.own.get(name, ()))
        judged_by = own if len(own) >= needed else everyone
        places[:, label] = 1 + np.searchsorted(judged_by, scores[:, label], side="right")
        held[label] = len(judged_by)
    return places, held


def in_set(places: NDArray[np.int64], held: NDArray[np.int64], coverage: float) -> NDArray[np.bool_]:
    """Tell which labels (q, m) have a p-value above 1 - coverage; in whole numbers, where 0.1 is a tenth and not a bit more."""
    risk = 1 - _exactly(coverage)
    least = np.array([math.floor(risk * (int(count) + 1)) for count in held], dtype=np.int64)
    inside: NDArray[np.bool_] = places > least
    return inside


def samples_needed(coverage: float) -> int:
    """The least number of images with which a label can be ruled out at all: (n + 1) (1 - coverage) >= 1."""
    return math.ceil(1 / (1 - _exactly(coverage))) - 1


def _exactly(coverage: float) -> Fraction:
    return Fraction(str(coverage))
