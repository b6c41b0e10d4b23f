"""Calibration keeps what it promises, and refuses what it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from retriever.calibrate import BOTH, LEAVE_ONE_OUT, NEGATIVES, OTHER_LABELS, find_policy, leave_one_shot_out
from retriever.calibration import (
    Aim,
    Rate,
    Samples,
    Target,
    false_accepts,
    false_rejects,
    margin_floor_for,
    refusing_threshold,
    threshold_for,
)
from retriever.decision import prior_policy
from retriever.scores import Score
from schema.labelled import LabelledVectors
from vectors.normalise import normalise

NONE = np.zeros(0)


def samples(genuine: object = NONE, impostors: object = NONE, margins: object = None) -> Samples:
    own = np.array(genuine, dtype=np.float64)
    leads = np.ones(len(own)) if margins is None else np.array(margins, dtype=np.float64)
    return Samples(own, leads, np.array(impostors, dtype=np.float64))


@pytest.mark.parametrize(("rate", "needed"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.3, 3), (0.5, 1)])
def test_a_bound_needs_so_many_samples_and_is_refused_below(rate: float, needed: int) -> None:
    for aim in Aim:
        target = Target(aim, rate)
        assert target.samples_needed == needed
        scores = np.linspace(0, 1, needed)
        assert threshold_for(target, samples(scores, scores)) is not None
        assert threshold_for(target, samples(scores[1:], scores[1:])) is None


def test_the_threshold_is_the_score_at_its_place() -> None:
    scores = np.arange(1, 40) / 100
    assert threshold_for(Target(Aim.FALSE_REJECT, 0.05), samples(genuine=scores)) == 0.02
    assert threshold_for(Target(Aim.FALSE_ACCEPT, 0.05), samples(impostors=scores)) == pytest.approx(0.380001)


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=9, max_size=60))
def test_on_the_samples_themselves_the_rate_is_kept_with_ties(scores: list[float]) -> None:
    for aim, count in ((Aim.FALSE_REJECT, false_rejects), (Aim.FALSE_ACCEPT, false_accepts)):
        threshold = threshold_for(Target(aim, 0.1), samples(scores, scores))
        assert threshold is not None
        assert (count(samples(scores, scores), threshold).value or 0) <= 0.1


@pytest.mark.parametrize("aim", list(Aim))
def test_the_promised_rate_is_kept_on_new_queries(aim: Aim) -> None:
    """200 times: 40 calibration scores, 200 new ones of the same kind. The mean error lies within its binomial bounds.

    Split conformal promises at most 0.1, and at least 0.1 - 1/41, on average. The bounds of the mean over 200 x 200 new
    queries take in that those of one repetition share a threshold: its own rate is Beta(place, n + 1 - place).
    """
    chance = np.random.default_rng(0)
    target, n, new = Target(aim, 0.1), 40, 200
    place = 4
    rates = []
    for _ in range(200):
        drawn = np.round(chance.normal(0.6, 0.1, size=n + new), 6)
        threshold = threshold_for(target, samples(drawn[:n], drawn[:n]))
        assert threshold is not None
        fresh = samples(drawn[n:], drawn[n:])
        rates.append((false_rejects if aim == Aim.FALSE_REJECT else false_accepts)(fresh, threshold).value or 0.0)
    expected = place / (n + 1)
    spread = np.sqrt(expected * (1 - expected) / (n + 2) + expected * (1 - expected) / new) / np.sqrt(200)
    assert abs(np.mean(rates) - expected) < 3 * spread, f"{np.mean(rates):.4f}, expected {expected:.4f} +- {spread:.4f}"
    assert np.mean(rates) <= 0.1 + 3 * spread


def test_on_unit_vectors_the_false_reject_rate_lies_within_its_binomial_bounds() -> None:
    """200 times: a label of 25 shots in 16 dimensions; the threshold by leave-one-shot-out, judged on 100 new images."""
    chance = np.random.default_rng(1)
    rejected = judged = 0
    for _ in range(200):
        centres = normalise(chance.normal(size=(2, 16)))
        images = normalise(np.repeat(centres, 125, axis=0) + 0.15 * chance.normal(size=(250, 16)))
        labels = np.repeat(["a", "b"], 125)
        shots = np.r_[0:25, 125:150]
        support = LabelledVectors(
            tuple(map(str, shots)),
            tuple(labels[shots].tolist()),
            tuple(f"shot{index}" for index in shots),
            tuple(map(str, shots)),
            images[shots],
        )
        threshold = threshold_for(Target(Aim.FALSE_REJECT, 0.1), leave_one_shot_out(support, Score.MAX_SIM))
        assert threshold is not None
        best = (images[25:125] @ images[:25].T).max(axis=1)
        rejected += int((best < threshold).sum())
        judged += 100
    # New images have one shot more to be near to than each shot had when it was left out: the rate may only be lower.
    low, high = binom.interval(0.999, judged, 0.1)
    assert rejected <= high, f"{rejected} of {judged}"
    assert rejected >= low * 0.5, f"{rejected} of {judged}: the threshold is needlessly low"


def test_the_margin_floor_lets_no_more_than_the_rate_through() -> None:
    genuine = np.full(20, 0.8)
    margins = np.full(20, 0.2)
    assert margin_floor_for(0.05, samples(genuine, margins=margins), 0.5) == 0.0
    margins[:3] = [-0.01, -0.05, -0.02]
    assert margin_floor_for(0.05, samples(genuine, margins=margins), 0.5) == pytest.approx(0.020001)
    assert margin_floor_for(0.2, samples(genuine, margins=margins), 0.5) == 0.0
    assert margin_floor_for(0.05, samples(genuine, margins=margins), 0.9) == 0.0, "they are refused for their score"


@given(st.integers(0, 40), st.integers(0, 40))
def test_intervals_are_exact(count: int, more: int) -> None:
    rate = Rate(count, count + more)
    if rate.n:
        exact = binomtest(count, rate.n).proportion_ci(0.95, method="exact")
        assert rate.interval == pytest.approx((exact.low, exact.high), abs=1e-9)
    else:
        assert (rate.value, rate.interval) == (None, (0.0, 1.0))


def test_queries_are_preferred_shots_are_next_and_the_prior_is_last_and_says_so() -> None:
    target = Target(Aim.FALSE_REJECT, 0.3)
    few, enough, other = samples([0.5, 0.6]), samples([0.5, 0.6, 0.7]), samples([0.8, 0.9, 0.95])
    by_queries = find_policy("hog", "c", Score.MAX_SIM, target, other, enough)
    assert (by_queries.policy.threshold, by_queries.method, by_queries.n) == (0.5, "labelled queries", 3)
    by_shots = find_policy("hog", "c", Score.MAX_SIM, target, other, few)
    assert (by_shots.policy.threshold, by_shots.method, by_shots.margin_method) == (0.8, LEAVE_ONE_OUT, LEAVE_ONE_OUT)
    refused = find_policy("hog", "c", Score.MAX_SIM, target, few, few)
    assert refused.policy == prior_policy("hog")
    assert refused.missing == (
        "false-reject 0.3 needs 3 samples: there are 2 (labelled queries) and 2 (leave-one-shot-out)"
    )


def test_known_strangers_too_few_for_a_promise_are_refused_all_the_same() -> None:
    target = Target(Aim.FALSE_ACCEPT, 0.25)
    shots = samples([0.9] * 9, np.linspace(0.1, 0.5, 9))
    alone = find_policy("hog", "c", Score.MAX_SIM, target, shots, samples())
    assert alone.method == OTHER_LABELS
    assert alone.policy.threshold == threshold_for(target, shots)
    near = find_policy("hog", "c", Score.MAX_SIM, target, shots, samples(impostors=[0.8, 0.3]))
    assert (near.method, near.policy.threshold) == (BOTH, 0.800001)
    assert (near.false_accept.count, near.false_accept.n) == (0, 2)
    far = find_policy("hog", "c", Score.MAX_SIM, target, shots, samples(impostors=[0.2]))
    assert (far.method, far.policy.threshold) == (BOTH, alone.policy.threshold)
    enough = find_policy("hog", "c", Score.MAX_SIM, target, shots, samples(impostors=[0.8, 0.3, 0.2]))
    assert (enough.method, enough.policy.threshold) == (NEGATIVES, 0.800001)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_a_refusing_threshold_is_reached_by_no_more_than_the_rate(scores: list[float], rate: float) -> None:
    impostors = np.round(np.array(scores), 6)
    assert np.mean(impostors >= refusing_threshold(rate, impostors)) <= rate


def vectors_of(*rows: tuple[str, str, str, list[float]]) -> LabelledVectors:
    labels, shots, hashes, vectors = zip(*rows, strict=True)
    return LabelledVectors(tuple(map(str, range(len(rows)))), labels, shots, hashes, normalise(np.array(vectors)))


@pytest.mark.parametrize("score", [Score.MAX_SIM, Score.PROTOTYPE])
def test_a_shot_is_left_out_with_all_its_images_and_its_copies(score: Score) -> None:
    support = vectors_of(
        ("a", "shot1", "1", [1, 0, 0]),
        ("a", "shot1", "2", [1, 0.01, 0]),
        ("a", "shot2", "3", [0.8, 0.6, 0]),
        ("a", "shot3", "1", [1, 0, 0]),
        ("b", "shot1", "4", [0, 0, 1]),
    )
    found = leave_one_shot_out(support, score)
    assert len(found.genuine) == 3, "b has one shot only"
    assert found.genuine[0] == pytest.approx(0.8), "shot1's other image and its copy in shot3 are left out"
    assert len(found.impostors) == 5 - 1, "one a shot"
    assert found.impostors[0] == pytest.approx(0.0)


def test_without_shots_and_with_one_label_there_is_nothing_to_go_by() -> None:
    one = leave_one_shot_out(vectors_of(("a", "shot1", "1", [1, 0]), ("a", "shot2", "2", [0.6, 0.8])), Score.MAX_SIM)
    assert (one.genuine.tolist(), one.impostors.tolist()) == ([0.6, 0.6], [])
    assert np.isposinf(one.margins).all()
    empty = LabelledVectors((), (), (), (), np.zeros((0, 2), dtype=np.float32))
    assert len(leave_one_shot_out(empty, Score.MAX_SIM).impostors) == 0
