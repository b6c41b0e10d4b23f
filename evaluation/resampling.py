"""Resampling: how much figures would vary with other queries of the same kinds. Pure.

The queries of each label (and the strangers) are drawn again, with replacement, so many times; a resample is how often each
query was drawn. The spread of draws of shots tells how much the choice of shots matters; this tells what is due to the queries.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from nearshot.evaluation.outcomes import REFUSED
from nearshot.evaluation.standing import Standings

RESAMPLES = 200

Weights = NDArray[np.float64]


def resample(truth: NDArray[np.int64], *, draws: int = RESAMPLES, seed: int = 0) -> Weights:
    """Count how often each of q queries of labels `truth` (q,) was drawn, in each resample: (draws, q), read-only.

    The same labels give the same resamples, so that what is compared is compared on the same ones.
    """
    return _resampled(truth.tobytes(), draws, seed)


@lru_cache(maxsize=16)  # of 10,000 queries, 16 MB each
def _resampled(labels: bytes, draws: int, seed: int) -> Weights:
    truth, chance = np.frombuffer(labels, dtype=np.int64), np.random.default_rng(seed)
    weights = np.zeros((draws, len(truth)))
    for label in np.unique(truth):
        mine = np.flatnonzero(truth == label)
        weights[:, mine] = chance.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=draws)
    weights.flags.writeable = False
    return weights


def sampling_errors(
    queries: Standings, predicted: NDArray[np.int64], truth: NDArray[np.int64], weights: Weights
) -> dict[str, float | None]:
    """The standard deviation over resamples of each metric in `evaluation.metrics`, None where it has no value.

    By standings, predictions (q,) and true labels (q,); a metric of a resample counts each query as often as it was drawn.
    """
    known = truth >= 0
    both = known.any() and not known.all()
    right = known & (queries.best == truth)
    curves = _curves(queries.top, known, right, weights) if both else {}
    figures = {
        "accuracy": weights @ right / known.sum() if known.any() else None,
        "macro_f1": _macro_f1(predicted, truth, queries.labels, weights) if len(truth) else None,
        **{name: curves.get(name) for name in ("auroc", "fpr95", "oscr")},
    }
    return {name: None if values is None else float(np.std(values, ddof=1)) for name, values in figures.items()}


def better_in(first: NDArray[np.bool_], second: NDArray[np.bool_], weights: Weights) -> float:
    """The share of resamples in which the first does better on the same queries (q,); a tie counts half."""
    leads = weights @ (first.astype(np.float64) - second)
    return float(np.mean((leads > 0) + 0.5 * (leads == 0)))


def _curves(
    top: NDArray[np.float64], known: NDArray[np.bool_], right: NDArray[np.bool_], weights: Weights
) -> dict[str, NDArray[np.float64]]:
    """auroc, fpr95 and oscr (draws,): cumulative weights from the highest score down, at each distinct score."""
    order = np.argsort(-top, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(top[order])), len(top) - 1)

    def reached(kind: NDArray[np.bool_], total: int) -> NDArray[np.float64]:
        shares = np.cumsum(weights[:, order] * kind[order], axis=1)[:, ends] / total
        return np.concatenate([np.zeros((len(weights), 1)), shares], axis=1)

    true, strange = reached(known, int(known.sum())), reached(~known, int((~known).sum()))
    correct = reached(right, int(known.sum()))
    first = np.argmax(true >= 0.95 - 1e-12, axis=1)
    return {
        "auroc": np.trapezoid(true, strange, axis=1),
        "oscr": np.trapezoid(correct, strange, axis=1),
        "fpr95": strange[np.arange(len(strange)), first],
    }


def _macro_f1(
    predicted: NDArray[np.int64], truth: NDArray[np.int64], labels: int, weights: Weights
) -> NDArray[np.float64]:
    classes = labels + int((truth < 0).any())

    def drawn(said: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        """How often queries were drawn (draws, classes), by what is said of them (q,): of those that are kept (q,)."""
        column = np.where(said == REFUSED, labels, said)
        kept = kept & (column >= 0) & (column < classes)
        count = int(kept.sum())
        table = csr_array((np.ones(count), column[kept], np.arange(count + 1)), shape=(count, classes))
        return np.asarray(weights[:, kept] @ table)

    every = np.ones(len(truth), dtype=np.bool_)
    hit, real, given = drawn(truth, predicted == truth), drawn(truth, every), drawn(predicted, every)
    scores: NDArray[np.float64] = np.mean(2 * hit / np.maximum(real + given, np.finfo(np.float64).tiny), axis=1)
    return scores
