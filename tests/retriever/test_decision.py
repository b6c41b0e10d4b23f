"""Ranking and deciding: pure functions and their properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearshot.retriever.decision import decide
from nearshot.retriever.policy import FALLBACKS, PRIORS, Policy, prior_policy
from nearshot.retriever.rank import Hit, rank_candidates, rank_hits
from nearshot.schema.images import Shown
from nearshot.schema.vocabulary import Role, Score, Verdict


def hit(score: float, label: str | None, image_id: int = 1, category: str = "c") -> Hit:
    return Hit(Shown(image_id, f"/{image_id}", category, Role.SUPPORT, label, "shot1"), score)


HITS = st.lists(
    st.tuples(st.floats(-1, 1), st.sampled_from(["a", "b", "c", None]), st.integers(1, 1000)),
    unique_by=lambda row: row[2],
).map(lambda rows: [hit(*row) for row in rows])
POLICIES = st.builds(Policy, st.floats(-1, 1), st.floats(0, 1))
STRICTNESS = [Verdict.NO_SUPPORT, Verdict.MATCH, Verdict.AMBIGUOUS, Verdict.UNKNOWN]


def test_the_margin_is_between_labels_not_between_shots() -> None:
    hits = [hit(0.95, "a", 1), hit(0.94, "a", 2), hit(0.60, "b", 3)]
    decision = decide(rank_candidates(hits), Policy(0.5, 0.1))
    assert (decision.verdict, decision.label) == (Verdict.MATCH, "a")
    assert decision.margin == pytest.approx(0.35)
    assert decision.runner_up is not None
    assert decision.runner_up.label == "b"


@pytest.mark.parametrize(
    ("scores", "verdict", "label"),
    [
        ({"a": 0.9, "b": 0.5}, Verdict.MATCH, "a"),
        ({"a": 0.9, "b": 0.85}, Verdict.AMBIGUOUS, None),
        ({"a": 0.7, "b": 0.1}, Verdict.UNKNOWN, None),
        ({"a": 0.8}, Verdict.MATCH, "a"),
        ({"a": 0.8, "b": 0.7}, Verdict.MATCH, "a"),
        ({}, Verdict.NO_SUPPORT, None),
    ],
)
def test_verdicts(scores: dict[str, float], verdict: Verdict, label: str | None) -> None:
    hits = [hit(score, name, number) for number, (name, score) in enumerate(scores.items())]
    decision = decide(rank_candidates(hits), Policy(0.8, 0.0999))
    assert (decision.verdict, decision.label) == (verdict, label)


def test_with_one_label_no_margin_is_asked_for() -> None:
    decision = decide(rank_candidates([hit(0.9, "a"), hit(0.89, "a", 2)]), Policy(0.5, 0.5))
    assert (decision.verdict, decision.margin, decision.runner_up) == (Verdict.MATCH, None, None)


def test_the_same_label_in_two_categories_is_two_candidates() -> None:
    candidates = rank_candidates([hit(0.9, "a", 1, "cats"), hit(0.8, "a", 2, "dogs")])
    assert [(candidate.category, candidate.score) for candidate in candidates] == [("cats", 0.9), ("dogs", 0.8)]


@given(HITS)
def test_hits_rank_the_same_however_they_come(hits: list[Hit]) -> None:
    assert rank_hits(hits) == rank_hits(list(reversed(hits)))
    scores = [hit.score for hit in rank_hits(hits)]
    assert scores == sorted(scores, reverse=True)


@given(HITS)
def test_each_label_is_one_candidate_with_its_best_score(hits: list[Hit]) -> None:
    candidates = rank_candidates(hits)
    best = {
        label: round(max(h.score for h in hits if h.image.label == label), 6) for h in hits if (label := h.image.label)
    }
    assert {candidate.label: candidate.score for candidate in candidates} == best
    assert [candidate.score for candidate in candidates] == sorted(best.values(), reverse=True)


@given(HITS, POLICIES, st.floats(0, 1), st.floats(0, 1))
def test_a_stricter_policy_never_recognises_more(hits: list[Hit], policy: Policy, more: float, wider: float) -> None:
    candidates = rank_candidates(hits)
    strict = decide(candidates, Policy(policy.threshold + more, policy.margin_floor + wider))
    lax = decide(candidates, policy)
    assert STRICTNESS.index(strict.verdict) >= STRICTNESS.index(lax.verdict)
    assert strict.label in (lax.label, None)


@given(HITS, POLICIES)
def test_renaming_the_labels_renames_the_decision(hits: list[Hit], policy: Policy) -> None:
    names = {"a": "x", "b": "y", "c": "z", None: None}
    renamed = [hit(h.score, names[h.image.label], h.image.id) for h in hits]
    before, after = decide(rank_candidates(hits), policy), decide(rank_candidates(renamed), policy)
    assert (before.verdict, names[before.label], before.margin) == (after.verdict, after.label, after.margin)


@given(HITS, POLICIES, st.floats(-1, 1))
def test_another_shot_never_lowers_its_own_labels_score(hits: list[Hit], policy: Policy, score: float) -> None:
    def best(retrieved: list[Hit]) -> float:
        return max(
            (candidate.score for candidate in rank_candidates(retrieved) if candidate.label == "a"), default=-2.0
        )

    assert best([*hits, hit(score, "a", 2000)]) >= best(hits)


def test_priors_are_per_backbone_and_score() -> None:
    assert prior_policy("dinov2", Score.MAX_SIM) == PRIORS["dinov2", Score.MAX_SIM]
    for score in Score:
        assert prior_policy("hf:some/model", score) == FALLBACKS[score]
