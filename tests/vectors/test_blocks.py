"""Blocks: near pairs are found without comparing all pairs, and how far to look is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearshot.vectors.blocks import Blocks, near_pairs
from nearshot.vectors.normalise import normalise


def clustered(count: int, *, noise: float = 0.4, seed: int = 0) -> NDArray[np.float32]:
    chance = np.random.default_rng(seed)
    centres = chance.standard_normal((40, 24))
    return normalise(centres[np.arange(count) % 40] + noise * chance.standard_normal((count, 24)))


def test_every_query_is_compared_with_as_many_blocks_as_were_asked_for() -> None:
    vectors = clustered(2000)
    seen: dict[int, list[int]] = {}
    for queries, others, scores in Blocks(vectors).compare(3):
        np.testing.assert_allclose(scores, vectors[queries] @ vectors[others].T, atol=1e-5)
        for query in queries.tolist():
            seen.setdefault(query, []).extend(others.tolist())
    assert sorted(seen) == list(range(2000))
    for query, compared_with in seen.items():
        assert query in compared_with, "its own block is among them"
        assert len(compared_with) == len(set(compared_with))


def test_the_reach_is_the_least_that_finds_the_neighbours() -> None:
    vectors = clustered(3000, noise=0.8)
    blocks = Blocks(vectors)
    every = vectors @ vectors.T
    np.fill_diagonal(every, -np.inf)
    nearest = np.argpartition(-every, 9, axis=1)[:, :10]

    def recall(reach: int) -> float:
        compared = blocks.compare(reach)
        return sum(int(np.isin(nearest[queries], others).sum()) for queries, others, _ in compared) / nearest.size

    assert 1 < blocks.reach < 109
    assert recall(blocks.reach) > 0.975, "it is measured by a sample"
    assert recall(blocks.reach) > recall(max(1, blocks.reach // 2))


def test_few_of_all_pairs_are_compared() -> None:
    vectors = clustered(4000)
    blocks = Blocks(vectors)
    pairs = sum(compared.scores.size for compared in blocks.compare(4))
    assert pairs < 0.2 * 4000**2


def test_the_same_vectors_come_to_the_same_blocks() -> None:
    vectors = clustered(1500)
    first, second = ([each.vectors.tolist() for each in Blocks(vectors).compare(1)] for _ in range(2))
    assert first == second


def test_pairs_that_are_nearly_the_same_and_queries_that_are_none_of_them() -> None:
    vectors = clustered(2000)
    copies = normalise(vectors[::40] + 0.002 * np.random.default_rng(1).standard_normal((50, 24)))
    exact = copies @ vectors.T
    pairs = {query: near.tolist() for query, near in near_pairs(vectors, 0.999, copies)}
    assert pairs == {
        query: np.flatnonzero(row >= 0.999).tolist() for query, row in enumerate(exact) if row.max() >= 0.999
    }
    assert len(pairs) == 50
    assert [query for query, _ in near_pairs(vectors, 0.999)] == list(range(2000)), "each is nearly itself"
    assert not list(near_pairs(vectors, 0.999, copies[:0]))


def test_a_single_vector() -> None:
    vectors = clustered(1)
    assert Blocks(vectors).reach == 1
    assert [(query, near.tolist()) for query, near in near_pairs(vectors, 0.9)] == [(0, [0])]
