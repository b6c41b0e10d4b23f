"""Metrics and outcomes against plain references, ties included."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearshot.evaluation.metrics import auroc, closed_set_accuracy, fpr_at_95_tpr, macro_f1, oscr, risk_coverage
from nearshot.evaluation.outcomes import AMBIGUOUS, REFUSED, Outcomes, count_outcomes, predict
from nearshot.evaluation.standing import Standings
from nearshot.retriever.decision import decide
from nearshot.retriever.policy import Policy
from nearshot.retriever.rank import Candidate, Hit
from nearshot.schema.images import Shown
from nearshot.schema.vocabulary import Role

LEVELS = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9])


@st.composite
def judged(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores of some queries with three labels, and the true ones; both known and unknown queries are there."""
    queries = draw(st.integers(2, 25))
    rows = draw(st.lists(st.lists(LEVELS, min_size=3, max_size=3), min_size=queries, max_size=queries))
    truth = [0, -1, *draw(st.lists(st.integers(-1, 2), min_size=queries - 2, max_size=queries - 2))]
    return np.array(rows), np.array(truth)


@given(judged())
def test_auroc_is_the_chance_of_the_right_order(case: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    scores, truth = case
    top = scores.max(axis=1)
    pairs = [(a > b) + (a == b) / 2 for a in top[truth >= 0] for b in top[truth < 0]]
    assert auroc(Standings.of(scores, truth), truth) == pytest.approx(np.mean(pairs))


@given(judged())
def test_fpr95_is_taken_at_the_highest_threshold_that_95_percent_of_the_known_reach(
    case: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> None:
    scores, truth = case
    top = scores.max(axis=1)
    known, unknown = top[truth >= 0], top[truth < 0]
    threshold = max(level for level in set(top) if (known >= level).mean() >= 0.95)
    assert fpr_at_95_tpr(Standings.of(scores, truth), truth) == pytest.approx((unknown >= threshold).mean())


@given(judged())
def test_oscr_is_the_area_under_the_steps(case: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    scores, truth = case
    top, best = scores.max(axis=1), scores.argmax(axis=1)
    points = [(0.0, 0.0)]
    for level in sorted(set(top), reverse=True):
        right = ((truth >= 0) & (best == truth) & (top >= level)).sum() / (truth >= 0).sum()
        points.append((((truth < 0) & (top >= level)).sum() / (truth < 0).sum(), right))
    area = sum((x - w) * (y + v) / 2 for (w, v), (x, y) in pairwise(points))
    assert oscr(Standings.of(scores, truth), truth) == pytest.approx(area)


@given(judged())
def test_risk_is_the_share_of_wrong_answers_at_each_threshold(
    case: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> None:
    scores, truth = case
    top, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    coverage, risk = risk_coverage(top, right)
    levels = sorted(set(top), reverse=True)
    assert coverage == pytest.approx([np.mean(top >= level) for level in levels])
    assert risk == pytest.approx([np.mean(~right[top >= level]) for level in levels])


@given(judged())
def test_macro_f1_is_the_mean_over_labels_and_unknown(case: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    scores, truth = case
    predicted = predict(Standings.of(scores, truth), Policy(0.2, 0.1))
    f1_scores = []
    for label in (0, 1, 2, -1):
        hit = ((predicted == label) & (truth == label)).sum()
        total = (predicted == label).sum() + (truth == label).sum()
        f1_scores.append(2 * hit / total if total else 0.0)
    assert macro_f1(predicted, truth, 3) == pytest.approx(np.mean(f1_scores))


def test_metrics_without_known_or_without_unknown_queries_have_no_value() -> None:
    def standing(truth: list[int]) -> tuple[Standings, NDArray[np.int64]]:
        return Standings.of(np.array([[0.9, 0.1], [0.2, 0.3]]), np.array(truth)), np.array(truth)

    for metric in (auroc, fpr_at_95_tpr, oscr):
        for truth in ([0, 1], [-1, -1]):
            assert metric(*standing(truth)) is None
    assert closed_set_accuracy(*standing([0, 0])) == 0.5
    assert closed_set_accuracy(*standing([-1, -1])) is None
    assert macro_f1(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), 2) is None


@given(judged(), LEVELS, st.sampled_from([0.0, 0.1, 0.3]))
def test_predicting_many_is_deciding_one_by_one(
    case: tuple[NDArray[np.float64], NDArray[np.int64]], threshold: float, floor: float
) -> None:
    scores, truth = case
    policy = Policy(threshold, floor)
    expected = []
    for row in scores:
        order = sorted(range(3), key=lambda label: (-row[label], label))
        shown = [Hit(Shown(label, str(label), "c", Role.SUPPORT, str(label), "shot1"), row[label]) for label in order]
        decision = decide([Candidate("c", str(hit.image.label), hit, hit.score) for hit in shown], policy)
        expected.append({"unknown": REFUSED, "ambiguous": AMBIGUOUS}.get(decision.verdict, int(decision.label or 0)))
    predicted = predict(Standings.of(scores, truth), policy)
    assert predicted.tolist() == expected
    counted = count_outcomes(predicted, truth)
    assert counted.queries == len(truth)
    assert counted + Outcomes() == counted


def test_outcomes_are_what_their_names_say() -> None:
    truth = np.array([0, 0, 0, 0, -1, -1, -1])
    predicted = np.array([0, 1, AMBIGUOUS, REFUSED, REFUSED, 1, AMBIGUOUS])
    assert count_outcomes(predicted, truth) == Outcomes(1, 1, 2, 1, 1, 1)
    assert count_outcomes(predicted, truth).accuracy == pytest.approx(2 / 7)
    assert Outcomes().accuracy is None
    assert predict(Standings.of(np.zeros((2, 0)), np.array([0, -1])), Policy(0.5, 0.0)).tolist() == [REFUSED, REFUSED]
