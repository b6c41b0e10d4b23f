"""A small share of `make promises`: the promises that matter most, by fewer calibrations."""

from __future__ import annotations

import numpy as np
import pytest

from nearshot.evaluation.metrics import oscr
from nearshot.evaluation.standing import standings
from nearshot.retriever.choose_score import ScoreEvidence, best_score
from nearshot.retriever.conformal import answered_right
from nearshot.retriever.evidence import gather
from nearshot.retriever.held_out import HeldOut
from nearshot.retriever.scores import Labelled, fit
from nearshot.schema.vocabulary import Guard, Score
from tests.promises import (
    LABELS,
    Population,
    Setting,
    StopSetting,
    broken,
    broken_stop,
    digits,
    keep,
    keep_stop,
    populations,
    support_of,
    synthetic,
)


@pytest.mark.parametrize("confidence", [None, 0.95])
@pytest.mark.parametrize("score", [Score.PROTOTYPE, Score.LDA])
def test_what_is_promised_of_digits_is_kept(score: Score, confidence: float | None) -> None:
    kept = keep(Setting(digits(), score, 5, 100, confidence), 60)
    assert len(kept.accepted) > 20
    assert broken(kept) == []


def test_confidence_costs_right_answers_and_an_average_is_often_passed() -> None:
    by_average, sure = (keep(Setting(digits(), Score.LDA, 5, 100, confidence), 60) for confidence in (None, 0.95))
    assert (by_average.accepted > 0.05).mean() > 0.15
    assert sure.right.mean() < by_average.right.mean()


def test_strangers_of_other_kinds_are_only_held_off_by_the_guard() -> None:
    """What the output says: of other kinds more may match, and `--strangers any` sets the threshold against them, too."""
    known, anything = (keep(Setting(digits(), Score.LDA, 5, 60, None, guard), 20) for guard in (Guard.KNOWN, Guard.ANY))
    assert known.others.mean() > 0.3
    assert anything.others.mean() < known.others.mean() / 2


def test_a_bound_that_is_not_kept_is_found() -> None:
    from dataclasses import replace

    kept = keep(Setting(synthetic("tight", noise=0.5, modes=1), Score.PROTOTYPE, 5, 60, None), 20)
    worse = replace(kept, accepted=kept.accepted + 0.05, covered=kept.covered - 0.3)
    assert len(broken(worse)) == 2
    assert len(populations()) == 4


@pytest.mark.parametrize("population", populations(), ids=lambda population: population.name)
def test_the_score_that_is_taken_is_hardly_worse_than_the_best_in_hindsight(population: Population) -> None:
    """Five shots, 25 strangers in the model, 25 for the threshold, 20 labelled queries per label: OSCR within a point."""
    draws = [scores_of(population, seed) for seed in range(12)]
    best = max(sum(draw[score][1] for draw in draws) for score in Score) / len(draws)
    taken = sum(draw[best_score({score: each[0] for score, each in draw.items()})][1] for draw in draws) / len(draws)
    assert taken >= best - 0.01


def scores_of(population: Population, seed: int) -> dict[Score, tuple[ScoreEvidence, float]]:
    """Of each score the evidence that a calibration would find, and its OSCR on new images."""
    draw = np.random.default_rng(seed)
    shots = np.concatenate([population.draw_label(draw, label, 5) for label in range(LABELS)])
    numbers, names = np.repeat(np.arange(LABELS), 5), tuple(map(str, range(LABELS)))
    in_model, for_threshold = (population.draw_strangers(draw, 25) for _ in range(2))
    support = support_of(shots, numbers, names)
    labelled = Labelled(names, numbers, shots, in_model)
    queries, fresh = (
        np.concatenate([population.draw_label(draw, label, count) for label in range(LABELS)]) for count in (20, 100)
    )
    images = np.concatenate([fresh, population.draw_strangers(draw, 600)])
    truth = np.concatenate([np.repeat(np.arange(LABELS), 100), np.full(600, -1)])
    scores = {}
    for score in Score:
        evidence = gather(
            score, labelled, HeldOut.of(support, numbers), queries, np.repeat(np.arange(LABELS), 20), for_threshold
        )
        value = ScoreEvidence(answered_right(evidence.queries, evidence.negatives), len(queries), score == Score.LDA)
        curve = oscr(standings(fit(score, labelled), images, truth, LABELS), truth)
        assert curve is not None
        scores[score] = (value, curve)
    return scores


@pytest.mark.parametrize("population", populations(), ids=lambda population: population.name)
def test_lists_end_where_they_were_promised_to(population: Population) -> None:
    setting = StopSetting(population, 0.1, 42)
    kept = keep_stop(setting, 40)
    assert broken_stop(setting, kept) == []
    assert kept[:, 1].mean() > 1, "a bound that lists nothing helps nobody"
    worse = kept + np.array([0.1, 0.0])
    assert len(broken_stop(setting, worse)) == 1
