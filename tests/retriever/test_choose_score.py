"""The choice of a score: asked for, calibrated, or what suits the shots; and it says why."""

from __future__ import annotations

import json

from nearshot.retriever.choose_score import ChosenScore, ScoreEvidence, best_score, choose_score
from nearshot.schema.calibrations import CalibrationRow
from nearshot.schema.vocabulary import Score

TWO = {"c": {"a": 2, "b": 3}}


def calibrated(score: Score, evidence: float, category: str = "c", strangers: int = 0) -> CalibrationRow:
    details = {"evidence": evidence, "right": {"n": 100}, "strangers_in_model": strangers}
    return CalibrationRow(1, category, score.value, 0.5, 0.0, json.dumps(details), "", "")


def test_what_is_asked_for_is_taken() -> None:
    assert choose_score(Score.LDA, "hog", TWO, []) == ChosenScore(Score.LDA, "as asked")


def test_uncalibrated_the_mean_of_learned_features_is_taken_where_there_is_one() -> None:
    assert choose_score(None, "lite0", TWO, []) == ChosenScore(Score.PROTOTYPE, "uncalibrated")
    assert choose_score(None, "lite0", {"c": {"a": 1, "b": 3}}, []).score == Score.MAX_SIM
    assert choose_score(None, "hog", TWO, []) == ChosenScore(Score.MAX_SIM, "uncalibrated, and hog is not learned")
    assert choose_score(None, "lite0", {}, []).score == Score.MAX_SIM


def test_calibrated_the_best_is_taken_and_the_others_are_told() -> None:
    rows = [calibrated(Score.MAX_SIM, 0.9), calibrated(Score.PROTOTYPE, 0.6), calibrated(Score.LDA, 0.7)]
    chosen = choose_score(None, "hog", TWO, rows)
    assert chosen == ChosenScore(Score.MAX_SIM, "best when calibrated: 0.900 (prototype 0.600, lda 0.700)")


def test_a_score_that_is_better_by_chance_only_does_not_displace_the_expected_one() -> None:
    """Half a standard error of 0.8 from 100 images is 0.02."""
    scores = {Score.PROTOTYPE: ScoreEvidence(0.80, 100, False), Score.MAX_SIM: ScoreEvidence(0.815, 100, False)}
    assert best_score(scores) == Score.PROTOTYPE
    assert best_score({**scores, Score.MAX_SIM: ScoreEvidence(0.83, 100, False)}) == Score.MAX_SIM
    assert best_score({**scores, Score.LDA: ScoreEvidence(0.80, 100, True)}) == Score.LDA
    assert (
        best_score({Score.KNN_VOTE: ScoreEvidence(0.1, 100, False), Score.LDA: ScoreEvidence(0.2, 100, False)})
        == Score.LDA
    )


def test_several_categories_are_searched_by_a_score_that_compares_them() -> None:
    both = {"c": {"a": 2}, "d": {"a": 2}}
    rows = [calibrated(score, 0.9 if score == Score.LDA else 0.5, category) for score in Score for category in "cd"]
    assert choose_score(None, "lite0", both, rows).score == Score.PROTOTYPE
    assert choose_score(None, "lite0", {"c": both["c"]}, rows).score == Score.LDA
    one_lacks = [row for row in rows if row.category == "c"]
    assert choose_score(None, "lite0", both, one_lacks) == ChosenScore(Score.PROTOTYPE, "uncalibrated")
