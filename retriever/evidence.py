"""Evidence: how known images and strangers score by models that have not seen them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever.conformal import Known, Strangers
from nearshot.retriever.held_out import HeldOut, without_the_label, without_the_shot
from nearshot.retriever.prediction_set import SetSamples
from nearshot.retriever.scores import DECIMALS, WORKED, Labelled, Numbers, Scores, fit
from nearshot.schema.vocabulary import Score


class Source(StrEnum):
    """Kind of samples that stand for known images, or for strangers."""

    QUERIES = "labelled queries"
    SHOTS = "shots, each left out in turn"
    NEGATIVES = "known strangers"
    OTHER_LABELS = "shots whose label is left out"
    BOTH = "shots whose label is left out, and known strangers"


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Evidence that a calibration rests on: scores by models that have not seen what they score.

    From the support set alone: `shots` as known images, `left_out` as strangers, with their labels by number (n,), which
    resampling draws whole. From labelled queries: `queries` and `negatives`.
    """

    shots: Known
    left_out: Strangers
    left_out_labels: Numbers
    queries: Known
    negatives: Strangers


def gather(
    score: Score,
    labelled: Labelled,
    held_out: HeldOut,
    queries: NDArray[np.float32],
    truth: Numbers,
    strangers: NDArray[np.float32],
) -> Evidence:
    """Score everything by a model that has not seen it: shots, queries (q, d) of labels `truth` (q,), strangers (u, d)."""
    model = fit(score, labelled)
    by_others = without_the_shot(score, labelled, held_out)
    own = np.isfinite(by_others[np.arange(len(held_out.truth)), held_out.truth])
    shots = _known(_rows(by_others, own), held_out.truth[own])
    del by_others  # with many labels these are large tables, of which there is one at a time
    no_label = without_the_label(score, labelled, held_out)
    others = np.asarray(np.isfinite(no_label).any(axis=1))
    left_out = _strangers(_rows(no_label, others))
    del no_label
    return Evidence(
        shots=shots,
        left_out=left_out,
        left_out_labels=held_out.truth[others],
        queries=_known(model.scores(queries), truth),
        negatives=_strangers(model.scores(strangers)),
    )


def set_samples(known: Known, against: Strangers, names: Sequence[str]) -> SetSamples:
    """Build samples for prediction sets: how known images score their own labels (by name), and how strangers score at best."""
    own = {name: np.sort(known.own[known.truth == label]).tolist() for label, name in enumerate(names)}
    return SetSamples({name: scores for name, scores in own.items() if scores}, np.sort(against.best).tolist())


def stream_samples(evidence: Evidence, known_method: Source) -> list[float]:
    """List the scores to compare later queries with (`retriever.drift`): best scores of labelled queries, strangers included.

    Shots score as queries do not: where they stand for known images, there is nothing to compare with.
    """
    if known_method != Source.QUERIES:
        return []
    best: list[float] = np.sort(np.concatenate([evidence.queries.best, evidence.negatives.best])).tolist()
    return best


def _known(scores: Scores, truth: Numbers) -> Known:
    best, margins = _best_and_margin(scores)
    if not scores.size:
        return Known(best, margins, np.zeros(0, dtype=np.bool_), np.zeros(0), truth[:0])
    return Known(best, margins, scores.argmax(axis=1) == truth, scores[np.arange(len(truth)), truth], truth)


def _strangers(scores: Scores) -> Strangers:
    return Strangers(*_best_and_margin(scores))


def _best_and_margin(scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best scores (n,) of (n, m) and their lead over the second, +inf where there is none."""
    if not scores.size:
        return np.zeros(0), np.zeros(0)
    if scores.shape[1] == 1:
        return scores[:, 0], np.full(len(scores), np.inf)
    together = max(1, WORKED // scores.shape[1])
    parts = [scores[start : start + together] for start in range(0, len(scores), together)]
    leading: Scores = np.concatenate([np.partition(part, -2, axis=1)[:, -2:] for part in parts])
    second, best = leading.T
    return best, np.round(best - second, DECIMALS)


def _rows(scores: Scores, kept: NDArray[np.bool_]) -> Scores:
    """The scores (n, m) of the rows that are kept; where all are, no copy of them."""
    return scores if kept.all() else scores[kept]
