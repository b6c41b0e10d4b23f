"""Standings: what is said of queries part by part is what the whole table of scores says."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from nearshot.evaluation import standing
from nearshot.evaluation.standing import UNRANKED, Standings, standings
from nearshot.retriever.scores import Labelled, Scorer, fit
from nearshot.schema.vocabulary import Score
from nearshot.vectors.normalise import normalise


def case(queries: int, labels: int = 7) -> tuple[Labelled, NDArray[np.float32], NDArray[np.int64]]:
    chance = np.random.default_rng(0)
    numbers = np.arange(5 * labels) % labels
    vectors = normalise(chance.standard_normal((len(numbers), 12)))
    vectors[labels : 2 * labels] = vectors[0]  # of which many tie
    labelled = Labelled(tuple(f"{label:03}" for label in range(labels)), numbers, vectors, vectors[:0])
    asked = np.concatenate([vectors[:3], normalise(chance.standard_normal((queries - 3, 12)))])
    return labelled, asked, chance.integers(-1, labels, queries)


@pytest.mark.parametrize("score", list(Score))
@pytest.mark.parametrize("labels", [1, 7])
def test_parts_are_the_whole(score: Score, labels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled, queries, truth = case(23, labels)
    scorer = fit(score, labelled)
    table = scorer.scores(queries)
    monkeypatch.setattr(standing, "TABLE", 4 * labels)
    by_parts = standings(scorer, queries, truth, labels)
    assert by_parts.labels == labels
    assert by_parts.best.tolist() == table.argmax(axis=1).tolist()
    ordered = np.sort(table, axis=1)
    assert by_parts.top.tolist() == ordered[:, -1].tolist()
    assert by_parts.second.tolist() == (ordered[:, -2].tolist() if labels > 1 else [-np.inf] * 23)
    assert by_parts.own[truth >= 0].tolist() == table[truth >= 0, truth[truth >= 0]].tolist()
    assert np.isnan(by_parts.own[truth < 0]).all()


def test_without_labels_and_without_queries() -> None:
    nobody = Standings.of(np.zeros((2, 0)), np.array([0, -1]))
    assert nobody.best.tolist() == [UNRANKED, UNRANKED]
    assert np.isneginf(nobody.top).all()
    labelled, queries, truth = case(3)
    assert len(standings(fit(Score.MAX_SIM, labelled), queries[:0], truth[:0], 7).best) == 0


class Even(Scorer):
    """Scores all labels alike."""

    def __init__(self, labels: int) -> None:
        self.labels = labels

    def scores(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.zeros((len(queries), self.labels))


def test_memory_does_not_follow_queries_times_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = 500
    monkeypatch.setattr(standing, "TABLE", 10 * labels)
    peaks = []
    for count in (200, 2000):
        queries, truth = np.zeros((count, 1), dtype=np.float32), np.zeros(count, dtype=np.int64)
        tracemalloc.start()
        standings(Even(labels), queries, truth, labels)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1800 * 200, "bytes a query: a table would take 8 a label, 4,000 in all"
