"""Calibration keeps what it promises, and refuses what it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binom, binomtest

from nearshot.retriever.calibrate import CalibrationOptions, calibrate_all
from nearshot.retriever.conformal import (
    Aim,
    Aims,
    Known,
    Rate,
    Strangers,
    accept_threshold,
    answered_right,
    margin_floor_for,
    matches,
    refusing_threshold,
    reject_threshold,
    resampled_over_labels,
)
from nearshot.retriever.evidence import Evidence, Source
from nearshot.retriever.find_policy import Calibration, find_policy
from nearshot.retriever.policy import prior_policy
from nearshot.retriever.strangers import model_strangers, strangers_in_force
from nearshot.schema.calibrations import stored_calibrations
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Guard, Score

AVERAGE, SURE = None, 0.95
CONFIDENCES = pytest.mark.parametrize("confidence", [AVERAGE, SURE])


def aims(rate: float, aim: Aim = Aim.FALSE_ACCEPT, confidence: float | None = AVERAGE) -> Aims:
    return Aims({aim: rate}, confidence)


def known(best: object = (), margins: object = None, right: object = None) -> Known:
    scores = np.array(best, dtype=np.float64)
    leads = np.ones(len(scores)) if margins is None else np.array(margins, dtype=np.float64)
    kept = np.ones(len(scores), dtype=np.bool_) if right is None else np.array(right, dtype=np.bool_)
    return Known(scores, leads, kept, scores, np.arange(len(scores)) % 3)


def strangers(best: object = ()) -> Strangers:
    scores = np.array(best, dtype=np.float64)
    return Strangers(scores, np.ones(len(scores)))


@pytest.mark.parametrize(
    ("rate", "confidence", "needed"),
    [(0.05, AVERAGE, 19), (0.01, AVERAGE, 99), (0.3, AVERAGE, 3), (0.5, AVERAGE, 1), (0.05, SURE, 59), (0.1, SURE, 29)],
)
def test_a_bound_needs_so_many_samples_and_is_refused_below(rate: float, confidence: float | None, needed: int) -> None:
    """59 for 5 % with 95 % confidence: 0.95^59 < 0.05."""
    scores = np.linspace(0, 1, needed)
    for aim, threshold_for in ((Aim.FALSE_ACCEPT, accept_threshold), (Aim.FALSE_REJECT, reject_threshold)):
        target = aims(rate, aim, confidence)
        assert target.samples_needed(aim) == needed
        assert threshold_for(target, scores) is not None
        assert threshold_for(target, scores[1:]) is None


def test_bounds_that_hold_together_share_the_risk() -> None:
    both = Aims({Aim.FALSE_ACCEPT: 0.05, Aim.FALSE_REJECT: 0.1}, SURE)
    assert both.risk == pytest.approx(0.025)
    assert both.samples_needed(Aim.FALSE_ACCEPT) == 72


def test_the_threshold_is_the_score_at_its_place() -> None:
    scores = np.arange(1, 40) / 100
    assert reject_threshold(aims(0.05, Aim.FALSE_REJECT), scores) == 0.02
    assert accept_threshold(aims(0.05), scores) == pytest.approx(0.380001)


@CONFIDENCES
@given(scores=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=29, max_size=80))
def test_on_the_samples_themselves_the_rate_is_kept_with_ties(confidence: float | None, scores: list[float]) -> None:
    best = np.array(scores)
    accepted, refused = (
        accept_threshold(aims(0.1, confidence=confidence), best),
        reject_threshold(aims(0.1, Aim.FALSE_REJECT, confidence), best),
    )
    assert accepted is not None
    assert refused is not None
    assert np.mean(best >= accepted) <= 0.1
    assert np.mean(best < refused) <= 0.1


def test_on_average_the_promised_rate_is_kept_on_new_images() -> None:
    """1,000 times, 40 samples: the rate at a threshold is Beta(k, n + 1 - k) with k = 4, of mean 4/41, whatever the scores."""
    chance = np.random.default_rng(0)
    rates = []
    for _ in range(1000):
        threshold = accept_threshold(aims(0.1), np.round(chance.uniform(size=40), 6))
        assert threshold is not None
        rates.append(1 - threshold)
    spread = np.sqrt(4 * 37 / (41**2 * 42) / 1000)
    assert abs(np.mean(rates) - 4 / 41) < 3 * spread


def test_with_confidence_the_promised_rate_is_passed_in_one_of_twenty_calibrations_at_most() -> None:
    """1,000 times, 100 samples. On average alone it is passed in more than a third of them."""
    chance = np.random.default_rng(0)
    passed = {AVERAGE: 0, SURE: 0}
    for _ in range(1000):
        scores = np.round(chance.uniform(size=100), 6)
        for confidence in passed:
            threshold = accept_threshold(aims(0.05, confidence=confidence), scores)
            assert threshold is not None
            passed[confidence] += 1 - threshold > 0.05
    assert passed[SURE] <= binom.ppf(0.999, 1000, 0.05)
    assert passed[AVERAGE] > 300


def drawn_matches(chance: np.random.Generator, count: int) -> Known:
    """Known images whose label is the more often right the larger the margin: wrong with a chance of (1 - margin) / 2."""
    margins = np.round(chance.uniform(size=count), 6)
    return known(np.ones(count), margins, chance.random(count) >= (1 - margins) / 2)


@pytest.mark.parametrize(("confidence", "allowed"), [(AVERAGE, None), (SURE, 0.05)])
def test_wrong_labels_stay_under_their_rate(confidence: float | None, allowed: float | None) -> None:
    """Above a floor f the share of wrong ones among the matches is (1 - f) / 4."""
    chance = np.random.default_rng(1)
    shares = []
    for _ in range(1000):
        floor = margin_floor_for(
            aims(0.1, Aim.WRONG, confidence), drawn_matches(chance, 200 if confidence is None else 1000), 0.5
        )
        if floor is not None:
            shares.append((1 - floor) / 4)
    assert len(shares) > 700
    if allowed is None:
        assert np.mean(shares) <= 0.1
    else:
        assert np.sum(np.array(shares) > 0.1) <= binom.ppf(0.999, 1000, allowed)


def test_the_margin_floor_is_none_where_it_is_not_needed_and_refused_where_none_helps() -> None:
    aim = aims(0.05, Aim.WRONG)
    assert margin_floor_for(aim, known(np.ones(40)), 0.5) == 0.0
    assert margin_floor_for(aim, known(np.ones(18)), 0.5) is None, "too few match"
    assert margin_floor_for(aim, known(np.ones(40)), 1.5) is None, "none matches"
    assert margin_floor_for(aim, known(np.ones(40), right=np.zeros(40)), 0.5) is None
    margins = np.r_[np.full(30, 0.4), np.full(10, 0.01)]
    assert margin_floor_for(aim, known(np.ones(40), margins, margins > 0.1), 0.5) == pytest.approx(0.4)


@given(st.integers(0, 40), st.integers(0, 40))
def test_intervals_are_exact(count: int, more: int) -> None:
    rate = Rate(count, count + more)
    if rate.n:
        exact = binomtest(count, rate.n).proportion_ci(0.95, method="exact")
        assert rate.interval == pytest.approx((exact.low, exact.high), abs=1e-9)
    else:
        assert (rate.value, rate.interval) == (None, (0.0, 1.0))


def test_shots_that_are_alike_tell_less_than_their_number_says() -> None:
    """Four labels of 25 shots, one label's all wrong: a share of 25 of 100, known no better than one of four."""
    labels = np.repeat(np.arange(4), 25)
    low, high = resampled_over_labels(labels == 0, labels)
    exact = Rate(25, 100).interval
    assert low == 0.0
    assert high >= 0.5 > exact[1]
    assert resampled_over_labels(labels == 0, labels) == (low, high)


@pytest.mark.parametrize("hit", [True, False])
def test_labels_that_all_came_out_alike_are_no_certainty(hit: bool) -> None:
    """Four labels of 25 shots, all right: four samples, not a hundred, and never an interval without width."""
    labels = np.repeat(np.arange(4), 25)
    interval = resampled_over_labels(np.full(100, hit), labels)
    assert interval == Rate(4 if hit else 0, 4).interval
    assert interval[1] - interval[0] > 0.5


def test_the_evidence_is_the_share_answered_right_over_strict_thresholds() -> None:
    apart = answered_right(known([0.9, 0.8], right=[True, False]), strangers([0.1, 0.2]))
    assert apart == 0.5
    assert answered_right(known([0.1, 0.1]), strangers([0.8, 0.9])) == 0.0
    assert answered_right(known([0.1, 0.1]), strangers()) == 1.0
    assert answered_right(known(), strangers([0.1])) == 0.0


LEFT_OUT = np.linspace(0.1, 0.5, 9)


def evidence(
    *, shots: Known | None = None, queries: Known | None = None, negatives: object = (), left_out: object = LEFT_OUT
) -> Evidence:
    own = known([0.9] * 9) if shots is None else shots
    others = strangers(left_out)
    return Evidence(
        shots=own,
        left_out=others,
        left_out_labels=np.arange(len(others)) % 3,
        queries=known() if queries is None else queries,
        negatives=strangers(negatives),
    )


def find(
    given: Evidence, rates: dict[Aim, float], *, confidence: float | None = None, guard: Guard = Guard.KNOWN
) -> Calibration:
    return find_policy("hog", "c", Score.MAX_SIM, Aims(rates, confidence), guard, given, strangers=0)


def test_labelled_queries_are_preferred_shots_are_next_and_the_prior_is_last_and_says_so() -> None:
    rates = {Aim.FALSE_REJECT: 0.3}
    few, enough, other = known([0.5, 0.6]), known([0.5, 0.6, 0.7]), known([0.8, 0.9, 0.95])
    by_queries = find(evidence(shots=other, queries=enough), rates)
    assert (by_queries.policy.threshold, by_queries.method, by_queries.n) == (0.5, Source.QUERIES, 3)
    by_shots = find(evidence(shots=other, queries=few), rates)
    assert (by_shots.policy.threshold, by_shots.method) == (0.8, Source.SHOTS)
    refused = find(evidence(shots=few, queries=few), rates)
    assert refused.policy == prior_policy("hog", Score.MAX_SIM)
    assert refused.missing == (
        "false-reject 0.3 needs 3 samples: there are 2 (labelled queries) and 2 (shots, each left out in turn)"
    )
    sure = find(evidence(shots=known([0.9] * 500), queries=few), rates, confidence=0.95)
    assert "shots are alike, and bear no bound with confidence" in (sure.missing or "")


def test_known_strangers_too_few_for_a_promise_are_refused_all_the_same() -> None:
    rates = {Aim.FALSE_ACCEPT: 0.25}
    alone = find(evidence(), rates)
    assert (alone.method, alone.guarded) == (Source.OTHER_LABELS, True)
    assert alone.policy.threshold == accept_threshold(Aims(rates), LEFT_OUT)
    near = find(evidence(negatives=[0.8, 0.3]), rates)
    assert (near.method, near.policy.threshold) == (Source.BOTH, 0.800001)
    assert (near.shares.accepted.count, near.shares.accepted.n) == (0, 2)
    far = find(evidence(negatives=[0.2]), rates)
    assert (far.method, far.policy.threshold) == (Source.BOTH, alone.policy.threshold)
    enough = find(evidence(negatives=[0.8, 0.3, 0.2]), rates)
    assert (enough.method, enough.policy.threshold) == (Source.NEGATIVES, 0.800001)


def test_strangers_of_other_kinds_are_held_off_where_that_costs_little() -> None:
    rates, kind = {Aim.FALSE_ACCEPT: 0.25}, [0.3, 0.25, 0.2]
    dear = evidence(negatives=kind, left_out=[0.85] * 9, queries=known([0.8] * 5 + [0.9] * 5))
    free = replace(dear, queries=known([0.9] * 10))
    assert find(dear, rates, guard=Guard.AUTO).policy.threshold == 0.300001
    assert find(dear, rates, guard=Guard.ANY).policy.threshold == 0.850001
    assert find(free, rates, guard=Guard.AUTO).policy.threshold == 0.850001
    assert find(free, rates, guard=Guard.KNOWN).policy.threshold == 0.300001
    assert find(dear, rates, guard=Guard.AUTO).shares.other_kinds.value == 1.0, "and this is said"


def test_false_reject_counts_what_is_ambiguous_and_does_not_bound_wrong_labels_unasked() -> None:
    """Half of the known are near-ties: bounding wrong labels makes them ambiguous, and false-reject then says that it fails."""
    half = known([0.9] * 60, [0.5] * 30 + [0.01] * 30, [True] * 30 + [True, False] * 15)
    alone = find(evidence(queries=half), {Aim.FALSE_REJECT: 0.1})
    assert alone.policy.margin_floor == 0.0
    assert (alone.shares.right.count, alone.shares.wrong.count, alone.shares.ambiguous.count) == (45, 15, 0)
    wrong = find(evidence(queries=half), {Aim.FALSE_ACCEPT: 0.1, Aim.WRONG: 0.05})
    assert wrong.policy.margin_floor == 0.5
    assert (wrong.shares.right.count, wrong.shares.wrong.count, wrong.shares.ambiguous.count) == (30, 0, 30)
    both = find(evidence(queries=half), {Aim.FALSE_ACCEPT: 0.1, Aim.WRONG: 0.05, Aim.FALSE_REJECT: 0.1})
    assert both.missing == (
        "false-reject 0.1 cannot hold together with the rest: 30 of 60 known images would not match"
    )
    assert not both.policy.calibrated
    hopeless = find(evidence(queries=replace(half, right=~half.right)), {Aim.FALSE_ACCEPT: 0.1, Aim.WRONG: 0.05})
    assert "no margin keeps wrong 0.05 on 60 known images" in (hopeless.missing or "")


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_a_refusing_threshold_is_reached_by_no_more_than_the_rate(scores: list[float], rate: float) -> None:
    impostors = np.round(np.array(scores), 6)
    assert np.mean(impostors >= refusing_threshold(rate, impostors)) <= rate


def test_a_match_needs_score_and_lead() -> None:
    samples = known([0.5, 0.5, 0.4], [0.1, 0.2, 0.2])
    assert matches(samples, 0.5, 0.2).tolist() == [False, True, False]


def test_strangers_are_shared_out_so_that_the_bound_can_be_had(store: Store, tmp_path: Path) -> None:
    """Of 23 strangers that calibration may see, 19 set the threshold for 5 %, and 4 are in the model; of 20, half and half."""
    from tests.conftest import run_index, save_crop

    root = tmp_path / "data/things"
    for number in range(2):
        save_crop(root / f"2.support-set/cat/shot{number}.png", f"chelsea:{number}")
    chance = np.random.default_rng(0)
    (root / "6.preprocessed/Unknown").mkdir(parents=True)
    for number in range(23):
        pixels = chance.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"6.preprocessed/Unknown/{number:02}.png")
    run_index(store, tmp_path / "data")
    with store.reading() as catalog:
        row = catalog.backbones()[0]
        known = [model_strangers(catalog, row, "things", needed=needed, every=True) for needed in (19, 0, 22)]
    assert [len(stranger_set.hashes) for stranger_set in known] == [4, 11, 11]
    options = CalibrationOptions(scores=(Score.LDA,), every=True)
    [outcome] = calibrate_all(store, options)
    assert isinstance(outcome, Calibration)
    assert (outcome.method, outcome.n, outcome.strangers) == (Source.NEGATIVES, 19, 4)
    with store.reading() as catalog:
        calibration = stored_calibrations(catalog, row.id, Score.LDA)["things"]
        pinned = strangers_in_force(catalog, row, "things", Score.LDA, calibration)
    assert pinned.hashes == known[0].hashes, "queries are judged by the model that the threshold was set for"
