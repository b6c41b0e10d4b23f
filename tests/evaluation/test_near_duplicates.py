"""What is found by trees and blocks is what comparing all pairs finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearshot.evaluation import misplaced as module
from nearshot.evaluation.misplaced import Misplaced, misplaced
from nearshot.evaluation.near_duplicates import near_duplicates
from nearshot.retriever.scores import cosines, label_numbers
from nearshot.schema.labelled import LabelledVectors
from nearshot.vectors.normalise import normalise


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    number=st.integers(0, 60),
    dimension=st.sampled_from([2, 5, 40]),
    noise=st.sampled_from([1e-3, 0.02, 0.05, 0.3]),
    least=st.sampled_from([0.9, 0.999]),
)
def test_no_near_duplicate_is_missed(seed: int, number: int, dimension: int, noise: float, least: float) -> None:
    chance = np.random.default_rng(seed)
    centres = chance.standard_normal((4, dimension))
    vectors = normalise(centres[chance.integers(0, 4, number)] + noise * chance.standard_normal((number, dimension)))
    queries = normalise(centres + noise * chance.standard_normal(centres.shape))
    every = cosines(queries, vectors)
    expected = {
        query: (np.flatnonzero(row >= least).tolist(), row[row >= least].tolist())
        for query, row in enumerate(every)
        if (row >= least).any()
    }
    said = {query: (near.tolist(), scores.tolist()) for query, near, scores in near_duplicates(queries, vectors, least)}
    assert said == expected


def by_all_pairs(support: LabelledVectors) -> list[Misplaced]:
    _, numbers = label_numbers(support.labels)
    similarities = cosines(support.vectors, support.vectors)
    shots = np.array([f"{label}/{shot}" for label, shot in zip(support.labels, support.shots, strict=True)])
    hashes = np.array(support.hashes)
    said = []
    for index in range(len(numbers)):
        own = (numbers == numbers[index]) & (shots != shots[index])
        others = (numbers != numbers[index]) & (hashes != hashes[index])
        if own.any() and others.any():
            best_own = float(similarities[index][own].max())
            best = int(np.where(others, similarities[index], -np.inf).argmax())
            if similarities[index, best] > best_own:
                said.append(Misplaced(index, best, float(similarities[index, best]), best_own))
    return said


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10_000), number=st.integers(1, 50), labels=st.integers(1, 5), distinct=st.integers(1, 40))
def test_misplaced_images_are_those_that_all_pairs_tell(seed: int, number: int, labels: int, distinct: int) -> None:
    chance = np.random.default_rng(seed)
    pool = normalise(chance.standard_normal((distinct, 3)))  # few directions: copies and ties
    which = chance.integers(0, distinct, number)
    support = LabelledVectors(
        tuple(f"{i}.png" for i in range(number)),
        tuple(f"label{i}" for i in chance.integers(0, labels, number)),
        tuple(f"shot{i}" for i in chance.integers(0, 6, number)),
        tuple(f"{i}{chance.integers(0, 2)}" for i in which),
        pool[which],
    )
    assert list(misplaced(support)) == by_all_pairs(support)


def test_blocks_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCORES", 1)
    chance = np.random.default_rng(1)
    names = tuple(map(str, range(30)))
    labels = tuple(f"label{i}" for i in chance.integers(0, 3, 30))
    support = LabelledVectors(names, labels, names, names, normalise(chance.standard_normal((30, 3))))
    assert len(list(misplaced(support))) > 3
    assert list(misplaced(support)) == by_all_pairs(support)


def test_of_many_images_those_of_neighbouring_blocks_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(2)
    numbers = np.arange(3000) % 40
    shown = numbers.copy()
    shown[chance.choice(3000, 60, replace=False)] = chance.integers(0, 40, 60)  # these lie under a wrong label
    vectors = normalise(chance.standard_normal((40, 24))[shown] + 0.25 * chance.standard_normal((3000, 24)))
    vectors[:300] = vectors[:6].repeat(50, axis=0)  # copies of a picture alone in its block
    names = tuple(map(str, range(3000)))
    hashes = tuple(f"copy {i // 50}" if i < 300 else str(i) for i in range(3000))
    support = LabelledVectors(names, tuple(f"label{i}" for i in numbers), names, hashes, vectors)
    exact = list(misplaced(support))
    monkeypatch.setattr(module, "MANY", 100)
    assert list(misplaced(support)) == exact
    assert len(exact) > 50


def test_of_many_vectors_those_of_neighbouring_blocks_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(3)
    vectors = normalise(chance.standard_normal((2000, 30)))
    copies = normalise(vectors[::20] + 0.002 * chance.standard_normal((100, 30)))
    exact = [(query, near.tolist()) for query, near, _ in near_duplicates(copies, vectors, 0.999)]
    monkeypatch.setattr("nearshot.evaluation.near_duplicates.MANY", 1000)
    assert [(query, near.tolist()) for query, near, _ in near_duplicates(copies, vectors, 0.999)] == exact
    assert len(exact) == 100
