"""Ranking: hits and candidates in an order that depends on scores and paths alone."""

from __future__ import annotations

import random

import pytest

from nearshot.retriever.rank import Hit, rank_candidates, rank_hits
from nearshot.schema.images import Shown
from nearshot.schema.vocabulary import Role, Score


def hit(path: str, score: float, label: str | None = "cat", category: str = "things") -> Hit:
    return Hit(Shown(0, path, category, Role.SUPPORT, label, "shot1"), score)


def test_hits_come_by_score_then_by_path() -> None:
    hits = [hit("b", 0.5), hit("a", 0.5), hit("c", 0.9), hit("d", -1.0)]
    for seed in range(5):
        shuffled = random.Random(seed).sample(hits, len(hits))
        assert [ranked.path for ranked in rank_hits(shuffled)] == ["c", "a", "b", "d"]


def test_a_label_is_as_near_as_its_nearest_hit() -> None:
    hits = [
        hit("a", 0.7, "cat"),
        hit("b", 0.9, "dog"),
        hit("c", 0.95, None),
        hit("d", 0.8, "cat"),
        hit("e", 0.1, "dog"),
    ]
    candidates = rank_candidates(hits)
    assert [(each.label, each.best.path, each.score) for each in candidates] == [("dog", "b", 0.9), ("cat", "d", 0.8)]


def test_the_same_label_in_two_categories_is_two_candidates() -> None:
    candidates = rank_candidates([hit("a", 0.7, "cat", "pets"), hit("b", 0.6, "cat", "toys")])
    assert [(each.category, each.label) for each in candidates] == [("pets", "cat"), ("toys", "cat")]


def test_a_vote_is_shared_among_the_labels_of_a_category() -> None:
    hits = [hit("a", 0.9, "cat"), hit("b", 0.89, "dog"), hit("c", 0.88, "dog")]
    nearest, voted = rank_candidates(hits)[0], rank_candidates(hits, Score.KNN_VOTE)
    assert (nearest.label, voted[0].label) == ("cat", "dog")
    assert sum(each.score for each in voted) == pytest.approx(1, abs=1e-5)


def test_labels_that_tie_come_by_the_path_of_their_best_hit() -> None:
    assert [each.label for each in rank_candidates([hit("b", 0.5, "ant"), hit("a", 0.5, "zebra")])] == ["zebra", "ant"]
    assert rank_candidates([]) == []
