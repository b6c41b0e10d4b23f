"""Shots: how good a backbone is with 1, 2, 3, 5, ... of them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import auroc, closed_set_accuracy, fpr_at_95_tpr, macro_f1, oscr
from evaluation.outcomes import predict
from evaluation.samples import CategorySamples
from retriever.policy import Policy
from retriever.scores import Score, fit

COUNTS = (1, 2, 3, 5, 10, 20, 50, 100)
METRICS = ("accuracy", "auroc", "fpr95", "oscr", "macro_f1")


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric over several draws of shots: its mean, and the standard deviation between draws; None where it has no value."""

    mean: float | None
    deviation: float | None


def shot_counts(samples: Iterable[CategorySamples]) -> list[int]:
    """The numbers of shots that every label has, of every category that has queries to judge by."""
    judged = [one for one in samples if len(one.truth)]
    least = min((min(map(len, _shots(one).values()), default=0) for one in judged), default=0)
    return [count for count in COUNTS if count <= least]


def measure(
    samples: CategorySamples,
    similarities: NDArray[np.float64],
    score: Score,
    policy: Policy,
    strangers: NDArray[np.float32],
    shots: int,
    seed: int,
) -> dict[str, float | None]:
    """All metrics of one category with so many shots per label.

    The draws are nested: of one seed, the two shots of a draw are among the three of the next.
    """
    kept = np.array(sorted(_draw(samples, shots, seed)), dtype=np.int64)
    scores = fit(score, samples.labelled(strangers, kept)).scores(samples.queries.vectors)
    truth = samples.truth
    return {
        "accuracy": closed_set_accuracy(scores, truth),
        "auroc": auroc(scores, truth),
        "fpr95": fpr_at_95_tpr(scores, truth),
        "oscr": oscr(scores, truth),
        "macro_f1": macro_f1(
            predict(scores, policy, samples.rejected(similarities[:, kept])), truth, len(samples.names)
        ),
    }


def summarise(draws: Iterable[Iterable[float | None]]) -> Figure:
    """Of each draw the mean over categories that have a value; of these, mean and standard deviation (n - 1)."""
    means = [float(np.mean(values)) for draw in draws if (values := [value for value in draw if value is not None])]
    if not means:
        return Figure(None, None)
    return Figure(float(np.mean(means)), float(np.std(means, ddof=1)) if len(means) > 1 else 0.0)


def _shots(samples: CategorySamples) -> dict[int, dict[str | None, list[int]]]:
    """The images of each shot of each label, by number."""
    found: dict[int, dict[str | None, list[int]]] = {}
    for index, (number, shot) in enumerate(zip(samples.numbers.tolist(), samples.support.shots, strict=True)):
        found.setdefault(number, {}).setdefault(shot, []).append(index)
    return found


def _draw(samples: CategorySamples, count: int, seed: int) -> list[int]:
    drawn = []
    for number, shots in _shots(samples).items():
        key = hashlib.sha256(f"{seed}/{samples.category}/{samples.names[number]}".encode()).digest()
        order = np.random.default_rng(int.from_bytes(key[:8], "big")).permutation(len(shots))
        names = sorted(shots, key=str)
        for place in order[:count]:
            drawn += shots[names[place]]
    return drawn
