"""Shots: how good a backbone is with 1, 2, 3, 5, ... of them. Pure."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearshot.evaluation.metrics import auroc, closed_set_accuracy, fpr_at_95_tpr, macro_f1, oscr
from nearshot.evaluation.outcomes import predict
from nearshot.evaluation.resampling import resample, sampling_errors
from nearshot.evaluation.samples import CategorySamples
from nearshot.evaluation.standing import standings
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
    least = min((min(_sizes(category_samples), default=0) for category_samples in judged), default=0)
    return [count for count in COUNTS if count <= least]


def draws_differ(samples: Iterable[CategorySamples], count: int) -> bool:
    """Tell whether any label has more shots than `count`: else every draw takes all there are."""
    judged = [category_samples for category_samples in samples if len(category_samples.truth)]
    return any(size > count for category_samples in judged for size in _sizes(category_samples))


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
    truth, labelled = samples.truth, samples.labelled(strangers, _draw(samples, shots, seed))
    queries = standings(fit(score, labelled), samples.queries.vectors, truth, len(samples.names))
    predicted = predict(queries, policy, samples.rejected(labelled.vectors))
    values = {
        "accuracy": closed_set_accuracy(queries, truth),
        "auroc": auroc(queries, truth),
        "fpr95": fpr_at_95_tpr(queries, truth),
        "oscr": oscr(queries, truth),
        "macro_f1": macro_f1(predicted, truth, len(samples.names)),
    }
    return Measured(values, sampling_errors(queries, predicted, truth, resample(truth)) if seed == 0 else {})


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


def _sizes(samples: CategorySamples) -> Iterator[int]:
    """How many shots each label has."""
    return (len(shots) for _, shots in _shots(samples) if shots)


def _shots(samples: CategorySamples) -> Iterator[tuple[int, dict[str | None, list[int]]]]:
    """Each label by number, with the images of each of its shots, by number: of a million shots one label's at a time."""
    order = np.argsort(samples.numbers, kind="stable")
    for number, mine in enumerate(np.split(order, np.cumsum(np.bincount(samples.numbers, minlength=1))[:-1])):
        shots: dict[str | None, list[int]] = {}
        for index in mine.tolist():
            shots.setdefault(samples.support.shots[index], []).append(index)
        yield number, shots


def _draw(samples: CategorySamples, count: int, seed: int) -> NDArray[np.int64]:
    """The images of so many shots of each label, by number and ascending."""
    drawn = array("q")
    for number, shots in _shots(samples):
        key = hashlib.sha256(f"{seed}/{samples.category}/{samples.names[number]}".encode()).digest()
        order = np.random.default_rng(int.from_bytes(key[:8], "big")).permutation(len(shots))
        names = sorted(shots, key=str)
        for index in order[:count]:
            drawn.extend(shots[names[index]])
    return np.sort(np.array(drawn, dtype=np.int64))
