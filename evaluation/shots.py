"""Shots: how good a backbone is with 1, 2, 3, 5, ... of them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearshot.evaluation.metrics import auroc, closed_set_accuracy, fpr_at_95_tpr, macro_f1, oscr
from nearshot.evaluation.outcomes import predict
from nearshot.evaluation.resampling import resample, sampling_errors
from nearshot.evaluation.samples import CategorySamples
from nearshot.retriever.policy import Policy
from nearshot.retriever.scores import fit
from nearshot.schema.vocabulary import Score

COUNTS = (1, 2, 3, 5, 10, 20, 50, 100)
METRICS = ("accuracy", "auroc", "fpr95", "oscr", "macro_f1")


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric over several draws of shots: its mean, and the standard deviation between draws; None where it has no value.

    `error` is its standard deviation over resamples of the queries, for the first draw (`evaluation.resampling`).
    """

    mean: float | None
    deviation: float | None
    error: float | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One category's metrics by one draw of shots, and their sampling errors where they were asked for."""

    values: Mapping[str, float | None]
    errors: Mapping[str, float | None]


def shot_counts(samples: Iterable[CategorySamples]) -> list[int]:
    """The numbers of shots that every label has, of every category that has queries to judge by."""
    judged = [category_samples for category_samples in samples if len(category_samples.truth)]
    least = min((min(map(len, _shots(category_samples).values()), default=0) for category_samples in judged), default=0)
    return [count for count in COUNTS if count <= least]


def draws_differ(samples: Iterable[CategorySamples], count: int) -> bool:
    """Tell whether any label has more shots than `count`: else every draw takes all there are."""
    judged = [category_samples for category_samples in samples if len(category_samples.truth)]
    return any(len(shots) > count for category_samples in judged for shots in _shots(category_samples).values())


def measure(
    samples: CategorySamples,
    score: Score,
    policy: Policy,
    strangers: NDArray[np.float32],
    shots: int,
    seed: int,
) -> Measured:
    """All metrics of one category with so many shots per label; for the first seed, their sampling errors as well.

    The draws are nested: of one seed, the two shots of a draw are among the three of the next.
    """
    kept = np.array(sorted(_draw(samples, shots, seed)), dtype=np.int64)
    scores = fit(score, samples.labelled(strangers, kept)).scores(samples.queries.vectors)
    truth = samples.truth
    predicted = predict(scores, policy, samples.rejected(kept))
    values = {
        "accuracy": closed_set_accuracy(scores, truth),
        "auroc": auroc(scores, truth),
        "fpr95": fpr_at_95_tpr(scores, truth),
        "oscr": oscr(scores, truth),
        "macro_f1": macro_f1(predicted, truth, len(samples.names)),
    }
    return Measured(values, sampling_errors(scores, predicted, truth, resample(truth)) if seed == 0 else {})


def summarise(name: str, draws: Sequence[Sequence[Measured]]) -> Figure:
    """Of each draw the mean over categories that have a value; of these, mean and standard deviation (n - 1).

    The error is that of the mean over categories, whose queries are independent of each other.
    """
    means = [float(np.mean(values)) for draw in draws if (values := _values(name, draw))]
    if not means:
        return Figure(None, None)
    errors = [measured.errors.get(name) for measured in draws[0] if measured.values[name] is not None]
    known = [error for error in errors if error is not None]
    error = float(np.sqrt(np.sum(np.square(known))) / len(known)) if known else None
    return Figure(float(np.mean(means)), float(np.std(means, ddof=1)) if len(means) > 1 else 0.0, error)


def _values(name: str, draw: Iterable[Measured]) -> list[float]:
    return [value for measured in draw if (value := measured.values[name]) is not None]


def _shots(samples: CategorySamples) -> dict[int, dict[str | None, list[int]]]:
    """The images of each shot of each label, by number."""
    shots_by_label: dict[int, dict[str | None, list[int]]] = {}
    for index, (number, shot) in enumerate(zip(samples.numbers.tolist(), samples.support.shots, strict=True)):
        shots_by_label.setdefault(number, {}).setdefault(shot, []).append(index)
    return shots_by_label


def _draw(samples: CategorySamples, count: int, seed: int) -> list[int]:
    drawn = []
    for number, shots in _shots(samples).items():
        key = hashlib.sha256(f"{seed}/{samples.category}/{samples.names[number]}".encode()).digest()
        order = np.random.default_rng(int.from_bytes(key[:8], "big")).permutation(len(shots))
        names = sorted(shots, key=str)
        for index in order[:count]:
            drawn += shots[names[index]]
    return drawn
