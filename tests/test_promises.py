"""A small share of `make promises`: the promises that matter most, by fewer calibrations."""

from __future__ import annotations

import pytest

from retriever.find_policy import Guard
from retriever.scores import Score
from tests.promises import Setting, broken, digits, keep, populations, synthetic


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
