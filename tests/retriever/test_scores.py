"""Scores against a plain reference, ties and gaps included."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearshot.retriever import discriminant, scores
from nearshot.retriever.scores import (
    AT_ONCE,
    Labelled,
    Scores,
    cosines,
    fit,
    label_numbers,
    nearer_to_negatives,
    nearer_to_rejected,
    nearest_cosines,
    nearest_numbers,
    neighbour_scores,
)
from nearshot.schema.vocabulary import Score
from nearshot.vectors.normalise import normalise

COSINES = st.sampled_from([-1.0, -0.25, 0.0, 0.5, 0.75, 1.0, math.nan])
NEIGHBOURLY = st.sampled_from([Score.MAX_SIM, Score.KNN_VOTE])


def reference(score: Score, row: list[float], labels: list[int], count: int) -> list[float]:
    """The definitions, written out."""
    there = [(similarity, label) for similarity, label in zip(row, labels, strict=True) if not math.isnan(similarity)]
    least = sorted((similarity for similarity, _ in there), reverse=True)[:20][-1] if there else 0.0
    voters = [(similarity, label) for similarity, label in there if similarity >= least]
    total = sum(math.exp(similarity / 0.07) for similarity, _ in voters)
    scores = []
    for label in range(count):
        own = [similarity for similarity, other in there if other == label]
        if not own:
            scores.append(-math.inf)
        elif score == Score.MAX_SIM:
            scores.append(max(own))
        else:
            scores.append(sum(math.exp(similarity / 0.07) for similarity, other in voters if other == label) / total)
    return scores


@given(st.data(), st.integers(1, 4), st.integers(1, 30), NEIGHBOURLY)
def test_scores_by_images_are_their_definition(data: st.DataObject, queries: int, images: int, score: Score) -> None:
    labels = data.draw(st.lists(st.integers(0, 3), min_size=images, max_size=images))
    rows = data.draw(st.lists(st.lists(COSINES, min_size=images, max_size=images), min_size=queries, max_size=queries))
    scores = neighbour_scores(score, np.array(rows), np.array(labels), 4)
    assert scores == pytest.approx(np.array([reference(score, row, labels, 4) for row in rows]), abs=2e-6)


def random_vectors(count: int, seed: int) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(seed).normal(size=(count, 8)))


@given(st.integers(0, 1000), st.integers(2, 12))
def test_a_prototype_is_the_cosine_with_the_normalised_mean(seed: int, images: int) -> None:
    shots, queries = random_vectors(images, seed), random_vectors(3, seed + 1)
    labelled = Labelled.of(["b", "a", *["a", "b"] * images][:images], shots)
    scores = fit(Score.PROTOTYPE, labelled).scores(queries)
    for label in range(len(labelled.names)):
        mean = shots[labelled.numbers == label].astype(np.float64).mean(axis=0)
        assert scores[:, label] == pytest.approx(queries @ (mean / np.linalg.norm(mean)), abs=2e-6)


@given(st.integers(0, 1000), st.integers(3, 25))
def test_votes_are_shares(seed: int, images: int) -> None:
    labelled = Labelled(("a", "b", "c"), np.arange(images) % 3, random_vectors(images, seed), random_vectors(0, 0))
    scores = fit(Score.KNN_VOTE, labelled).scores(random_vectors(4, seed + 1))
    assert scores.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


@given(st.integers(0, 1000))
def test_another_image_never_lowers_its_labels_best(seed: int) -> None:
    similarities = np.random.default_rng(seed).uniform(-1, 1, size=(5, 9))
    numbers = np.arange(9) % 2
    fewer = neighbour_scores(Score.MAX_SIM, similarities[:, :8], numbers[:8], 2)
    more = neighbour_scores(Score.MAX_SIM, similarities, numbers, 2)
    assert (more >= fewer).all()


@pytest.mark.parametrize("score", list(Score))
def test_many_queries_score_as_each_does_alone(score: Score) -> None:
    labelled = Labelled.of(["a", "b", "c"] * 4, random_vectors(12, 0), random_vectors(5, 1))
    queries = random_vectors(AT_ONCE + 3, 2)
    scorer = fit(score, labelled)
    together = scorer.scores(queries)
    for row in (0, AT_ONCE - 1, AT_ONCE, AT_ONCE + 2):
        np.testing.assert_allclose(scorer.scores(queries[row : row + 1])[0], together[row], atol=1e-6)
    assert scorer.scores(queries[:0]).shape == (0, 3)


def test_lda_alone_looks_at_strangers() -> None:
    shots, strangers, queries = random_vectors(12, 0), random_vectors(5, 1), random_vectors(4, 2)
    for score in Score:
        with_them, without = (
            fit(score, Labelled.of(["a", "b", "c"] * 4, shots, those)).scores(queries) for those in (strangers, None)
        )
        assert (with_them == without).all() == (score != Score.LDA)


def test_more_images_than_a_block_have_the_same_means(monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = Labelled.of(["a", "b", "c"] * 7, random_vectors(21, 0))
    queries = random_vectors(4, 1)
    whole = fit(Score.PROTOTYPE, labelled).scores(queries)
    monkeypatch.setattr(discriminant, "BLOCK", 4)
    assert fit(Score.PROTOTYPE, labelled).scores(queries).tolist() == whole.tolist()


@given(st.data(), st.integers(1, 5), st.integers(1, 40), NEIGHBOURLY)
def test_images_by_blocks_score_as_all_at_once(data: st.DataObject, queries: int, images: int, score: Score) -> None:
    """Of few directions, so that many tie; also where more tie than votes are held."""
    drawn = [data.draw(st.lists(st.integers(0, 5), min_size=count, max_size=count)) for count in (queries, images)]
    asked, shots = (random_vectors(6, 3)[numbers] for numbers in drawn)
    labelled = Labelled.of(data.draw(st.lists(st.sampled_from("abc"), min_size=images, max_size=images)), shots)
    wanted = neighbour_scores(score, cosines(asked, shots), labelled.numbers, len(labelled.names))
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in (
            ("AT_ONCE", 2),
            ("BLOCK", 7),
            ("WIDE", 3),
            ("VOTERS", data.draw(st.sampled_from([1, 9, 999]))),
        ):
            monkeypatch.setattr(scores, name, value)
        np.testing.assert_allclose(fit(score, labelled).scores(asked), wanted, atol=2e-6)
        near = cosines(asked, shots)
        among = np.array(sorted(data.draw(st.sets(st.integers(0, images - 1), min_size=1))))
        assert nearest_cosines(asked, shots).tolist() == near.max(axis=1).tolist()
        assert nearest_numbers(asked, shots, among).tolist() == among[near[:, among].argmax(axis=1)].tolist()
        rejected = shots[among]
        wanted_refusals = nearer_to_negatives(near, cosines(asked, rejected)).tolist()
        assert nearer_to_rejected(asked, shots, rejected).tolist() == wanted_refusals
        assert nearer_to_rejected(asked, rejected, shots).tolist() == nearer_to_negatives(near[:, among], near).tolist()
    assert np.isneginf(nearest_cosines(asked, shots[:0])).all()


@pytest.mark.parametrize("score", [Score.MAX_SIM, Score.KNN_VOTE])
def test_tables_that_are_worked_on_in_parts_are_the_same(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled, queries = Labelled.of(["a", "b", "c"] * 10, random_vectors(30, 0)), random_vectors(9, 1)
    near = cosines(queries, labelled.vectors)
    whole = neighbour_scores(score, near, labelled.numbers, 3)
    parts = Counter[str]()

    def counted(*given: Any) -> Scores:
        parts["worked on"] += 1
        return real(*given)

    real = scores._of_labels
    monkeypatch.setattr(scores, "_of_labels", counted)
    monkeypatch.setattr(scores, "WORKED", 65)
    np.testing.assert_allclose(neighbour_scores(score, near, labelled.numbers, 3), whole, atol=1e-6)
    assert parts["worked on"] == 5, "two queries at a time"


@pytest.mark.parametrize("score", [Score.MAX_SIM, Score.KNN_VOTE])
def test_memory_of_scoring_does_not_follow_the_number_of_images(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("AT_ONCE", 20), ("BLOCK", 100), ("WIDE", 100)):
        monkeypatch.setattr(scores, name, value)
    queries, peaks = random_vectors(40, 0), []
    for count in (500, 5000):
        labelled = Labelled(("a", "b"), np.arange(count) % 2, random_vectors(count, 1), random_vectors(0, 0))
        tracemalloc.start()
        fit(score, labelled).scores(queries)
        nearer_to_rejected(queries, labelled.vectors, labelled.vectors)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0], "a table of cosines would be ten times as large"


def test_labels_are_numbered_by_name_and_opposite_images_have_a_mean_without_direction() -> None:
    shots = np.array([[1, 0], [-1, 0], [0, 1]], dtype=np.float32)
    names, numbers = label_numbers(["b", "b", "a"])
    assert (names, numbers.tolist()) == (("a", "b"), [1, 1, 0])
    scores = fit(Score.PROTOTYPE, Labelled.of(["b", "b", "a"], shots)).scores(shots)
    assert scores.tolist() == [[0, 0], [0, 0], [1, 0]]
    nothing = neighbour_scores(Score.MAX_SIM, np.zeros((2, 0)), np.zeros(0, dtype=np.int64), 3)
    assert np.isneginf(nothing).all()
    assert cosines(shots, shots).tolist() == [[1, -1, 0], [-1, 1, 0], [0, 0, 1]]
