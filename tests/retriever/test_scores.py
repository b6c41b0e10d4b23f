"""Scores against a plain reference, ties and gaps included."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from retriever.scores import Score, cosines, label_numbers, label_scores, mean_lengths
from vectors.normalise import normalise

COSINES = st.sampled_from([-1.0, -0.25, 0.0, 0.5, 0.75, 1.0, math.nan])


def reference(score: Score, row: list[float], labels: list[int], lengths: list[float]) -> list[float]:
    """The definitions, written out."""
    there = [(similarity, label) for similarity, label in zip(row, labels, strict=True) if not math.isnan(similarity)]
    least = sorted((similarity for similarity, _ in there), reverse=True)[:20][-1] if there else 0.0
    voters = [(similarity, label) for similarity, label in there if similarity >= least]
    total = sum(math.exp(similarity / 0.07) for similarity, _ in voters)
    found = []
    for label, length in enumerate(lengths):
        own = [similarity for similarity, other in there if other == label]
        if not own:
            found.append(-math.inf)
        elif score == Score.MAX_SIM:
            found.append(max(own))
        elif score == Score.PROTOTYPE:
            found.append(sum(own) / len(own) / length)
        else:
            found.append(sum(math.exp(similarity / 0.07) for similarity, other in voters if other == label) / total)
    return found


@given(st.data(), st.integers(1, 4), st.integers(1, 30), st.sampled_from(list(Score)))
def test_every_score_is_its_definition(data: st.DataObject, queries: int, images: int, score: Score) -> None:
    labels = data.draw(st.lists(st.integers(0, 3), min_size=images, max_size=images))
    rows = data.draw(st.lists(st.lists(COSINES, min_size=images, max_size=images), min_size=queries, max_size=queries))
    lengths = [1.0, 0.5, 0.25, 1.0]
    found = label_scores(score, np.array(rows), np.array(labels), np.array(lengths))
    expected = [reference(score, row, labels, lengths) for row in rows]
    assert found == pytest.approx(np.array(expected), abs=2e-6)


def random_vectors(count: int, seed: int) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(seed).normal(size=(count, 8)))


@given(st.integers(0, 1000), st.integers(2, 12))
def test_a_prototype_is_the_cosine_with_the_normalised_mean(seed: int, images: int) -> None:
    shots, queries = random_vectors(images, seed), random_vectors(3, seed + 1)
    names, numbers, lengths = label_numbers(["b", "a", *["a", "b"] * images][:images], shots)
    found = label_scores(Score.PROTOTYPE, cosines(queries, shots), numbers, lengths)
    for label in range(len(names)):
        mean = shots[numbers == label].astype(np.float64).mean(axis=0)
        assert lengths[label] == pytest.approx(np.linalg.norm(mean))
        assert found[:, label] == pytest.approx(queries @ (mean / np.linalg.norm(mean)), abs=5e-6 / lengths[label])


@given(st.integers(0, 1000), st.integers(1, 25))
def test_votes_are_shares(seed: int, images: int) -> None:
    shots = random_vectors(images, seed)
    numbers = np.arange(images) % 3
    found = label_scores(Score.KNN_VOTE, cosines(random_vectors(4, seed + 1), shots), numbers, np.ones(3))
    assert np.where(np.isfinite(found), found, 0.0).sum(axis=1) == pytest.approx(1.0, abs=1e-5)


@given(st.integers(0, 1000))
def test_another_image_never_lowers_its_labels_best(seed: int) -> None:
    similarities = np.random.default_rng(seed).uniform(-1, 1, size=(5, 9))
    numbers = np.arange(9) % 2
    fewer = label_scores(Score.MAX_SIM, similarities[:, :8], numbers[:8], np.ones(2))
    more = label_scores(Score.MAX_SIM, similarities, numbers, np.ones(2))
    assert (more >= fewer).all()


def test_labels_are_numbered_by_name_and_opposite_images_have_a_mean_without_direction() -> None:
    shots = np.array([[1, 0], [-1, 0], [0, 1]], dtype=np.float32)
    names, numbers, lengths = label_numbers(["b", "b", "a"], shots)
    assert (names, numbers.tolist(), lengths.tolist()) == (["a", "b"], [1, 1, 0], [1.0, 0.0])
    assert label_scores(Score.PROTOTYPE, cosines(shots, shots), numbers, lengths).tolist() == [[0, 0], [0, 0], [1, 0]]
    assert mean_lengths(shots[:0], np.zeros(0, dtype=np.int64), 2).tolist() == [0.0, 0.0]
    assert np.isneginf(label_scores(Score.MAX_SIM, np.zeros((2, 0)), np.zeros(0, dtype=np.int64), np.ones(3))).all()
