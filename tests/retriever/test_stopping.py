"""Lists that end: on average at most the share that was asked for is false, whatever the lists are like."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nearshot.retriever.stopping import MarkedList, Stop, find_stop


def marked(*hits: tuple[float, bool]) -> MarkedList:
    return MarkedList(np.array([score for score, _ in hits]), np.array([right for _, right in hits], dtype=bool))


def drawn(chance: np.random.Generator, lists: int) -> list[MarkedList]:
    """Lists of 20 hits, right with a chance that grows with the score; one query in twelve shows nothing known."""
    marked_lists = []
    for _ in range(lists):
        scores = np.sort(chance.beta(4, 2, 20))[::-1]
        right = (chance.random(20) < scores**1.5) & (chance.random() > 1 / 12)
        marked_lists.append(MarkedList(scores, right))
    return marked_lists


def false_share(marked_list: MarkedList, stop: Stop) -> float:
    listed = np.array([stop.keeps(score) for score in marked_list.scores])
    return float(np.mean(~marked_list.right[listed])) if listed.any() else 0.0


@pytest.mark.parametrize(("rate", "lists"), [(0.2, 10), (0.2, 60), (0.3, 40), (0.1, 100)])
def test_the_share_of_false_hits_is_kept_on_average(rate: float, lists: int) -> None:
    chance = np.random.default_rng(lists)
    shares = []
    for _ in range(400):
        stop = find_stop(drawn(chance, lists), rate, limit=20)
        assert stop.least is not None
        shares.append(np.mean([false_share(marked_list, stop) for marked_list in drawn(chance, 20)]))
    mean, error = np.mean(shares), np.std(shares) / math.sqrt(len(shares))
    assert mean <= rate + 3 * error
    assert lists < 60 or mean > 0.3 * rate, "a bound that lists next to nothing helps nobody"


def test_a_list_ends_where_one_more_hit_would_be_too_much() -> None:
    lists = [marked((0.9, True), (0.7, True), (0.5, False))] * 9
    stop = find_stop(lists, 0.1, limit=20)
    assert (stop.lists, stop.least) == (9, 0.7), "a third of each list would be false below"
    assert find_stop(lists, 0.5, limit=20).least == 0.5, "(9 / 3 + 1) / 10 = 0.4"
    assert find_stop(lists, 0.1, limit=2).least == 0.7, "no list goes further, so nothing is known below"


def test_too_few_marks_are_said_and_nothing_is_left_out() -> None:
    stop = find_stop([marked((0.9, True))] * 8, 0.1, limit=20)
    assert (stop.needed, stop.lists, stop.least) == (9, 8, None)
    assert stop.keeps(-1.0)
    assert stop.in_words() == (
        "too few marks to keep the share of false hits within 0.1: 8 marked queries, 9 needed; nothing is left out"
    )
    assert find_stop([], 0.5, limit=20).needed == 1


def test_where_first_hits_are_false_nothing_is_listed() -> None:
    stop = find_stop([marked((0.9, False), (0.2, True))] * 20, 0.1, limit=20)
    assert stop.least == math.inf
    assert not stop.keeps(1.0)
    assert "none is listed" in stop.in_words()
    assert Stop.from_json(stop.as_json()).least == math.inf


def test_a_score_that_several_hits_have_is_reached_with_all_of_them() -> None:
    lists = [marked((0.9, True), (0.8, True), (0.8, False))] * 19
    assert find_stop(lists, 0.1, limit=20).least == 0.9
