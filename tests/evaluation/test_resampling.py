"""Resampling: fast figures of weighted queries are those of the queries repeated."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nearshot.evaluation.metrics import auroc, closed_set_accuracy, fpr_at_95_tpr, macro_f1, oscr
from nearshot.evaluation.outcomes import predict
from nearshot.evaluation.resampling import better_in, resample, sampling_errors
from nearshot.evaluation.standing import Standings
from nearshot.retriever.policy import Policy


def drawn(seed: int, count: int = 60, labels: int = 3) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    chance = np.random.default_rng(seed)
    truth = chance.integers(-1, labels, count)
    scores = np.round(chance.uniform(size=(count, labels)), 1)  # with many ties
    scores[np.arange(count)[truth >= 0], truth[truth >= 0]] += 0.3
    return scores, truth


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_query_counts_as_often_as_it_was_drawn(seed: int) -> None:
    scores, truth = drawn(seed)
    predicted = predict(Standings.of(scores, truth), Policy(0.7, 0.05))
    weights = resample(truth, draws=12)
    repeated: dict[str, list[float | None]] = {name: [] for name in ("accuracy", "auroc", "fpr95", "oscr", "macro_f1")}
    for row in weights.astype(int):
        again = np.repeat(np.arange(len(truth)), row)
        by = (Standings.of(scores[again], truth[again]), truth[again])
        repeated["accuracy"].append(closed_set_accuracy(*by))
        repeated["auroc"].append(auroc(*by))
        repeated["fpr95"].append(fpr_at_95_tpr(*by))
        repeated["oscr"].append(oscr(*by))
        repeated["macro_f1"].append(macro_f1(predicted[again], truth[again], 3))
    errors = sampling_errors(Standings.of(scores, truth), predicted, truth, weights)
    for name, values in repeated.items():
        assert errors[name] == pytest.approx(np.std(np.array(values, dtype=float), ddof=1), abs=1e-12), name


def test_each_label_keeps_its_number_of_queries() -> None:
    _, truth = drawn(3)
    weights = resample(truth)
    for label in np.unique(truth):
        assert (weights[:, truth == label].sum(axis=1) == (truth == label).sum()).all()
    assert (resample(truth) == weights).all()


def test_metrics_without_a_value_have_no_error() -> None:
    scores, truth = drawn(4)
    known = truth >= 0
    errors = sampling_errors(
        Standings.of(scores[known], truth[known]), truth[known], truth[known], resample(truth[known])
    )
    assert (errors["auroc"], errors["oscr"], errors["fpr95"]) == (None, None, None)
    assert errors["accuracy"] is not None


def test_better_in_is_a_share_of_resamples() -> None:
    first, second = np.array([True] * 30), np.array([True] * 15 + [False] * 15)
    weights = resample(np.arange(30) % 2)
    assert better_in(first, second, weights) == 1.0
    assert better_in(second, first, weights) == 0.0
    assert better_in(first, first, weights) == 0.5
