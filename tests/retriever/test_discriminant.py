"""The linear discriminant against scikit-learn, its definition, and itself under what must not matter."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import special_ortho_group
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from nearshot.retriever import discriminant
from nearshot.retriever.discriminant import BLOCK, Samples, closeness, fit

Array = NDArray[np.float64]
SIZES = st.sampled_from([(40, 6), (30, 60), (12, 100), (90, 5)])
"""Vectors and dimensions: more of either."""


def draw(
    seed: int, count: int, dimension: int, labels: int, strangers: int = 0
) -> tuple[Array, NDArray[np.int64], Array]:
    chance = np.random.default_rng(seed)
    numbers = np.arange(count) % labels
    centres = 2 * chance.normal(size=(labels, dimension))
    vectors = centres[numbers] + chance.normal(size=(count, dimension)) * chance.uniform(0.2, 2, size=dimension)
    return vectors, numbers, 3 * chance.normal(size=(strangers, dimension))


def by_definition(vectors: Array, numbers: NDArray[np.int64], count: int, strangers: Array, queries: Array) -> Array:
    """The scores as the docstrings have them, with the covariance written out and inverted."""
    everything = np.concatenate([vectors, strangers])
    labels = np.concatenate([numbers, np.full(len(strangers), count)])
    means = np.stack([everything[labels == label].mean(axis=0) for label in np.unique(labels)])
    deviations = everything - means[labels]
    degrees = len(everything) - len(means)
    inverse = np.eye(vectors.shape[1])
    if degrees and np.abs(deviations).max() > 1e-9:
        scatter = deviations.T @ deviations / degrees
        inverse = np.linalg.inv(scatter / 2 + np.trace(scatter) / vectors.shape[1] / 2 * inverse)
    distances = np.array([[(query - mean) @ inverse @ (query - mean) for mean in means[:count]] for query in queries])
    middle = means.mean(axis=0) if count > 1 else np.zeros(vectors.shape[1])
    reference = means[count] if len(strangers) else middle
    against = np.array([[(query - reference) @ inverse @ (query - reference)] for query in queries])
    return np.asarray(against / (against + distances))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), SIZES, st.integers(1, 4), st.sampled_from([0, 3, 20]))
def test_scores_are_their_definition(seed: int, size: tuple[int, int], labels: int, strangers: int) -> None:
    vectors, numbers, others = draw(seed, *size, labels, strangers)
    queries = np.concatenate([vectors[:3], others[:2], 5 + vectors[:2]])
    scores = fit(vectors, numbers, labels, others).scores(queries)
    np.testing.assert_allclose(scores, by_definition(vectors, numbers, labels, others, queries), atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), SIZES, st.integers(2, 4))
def test_labels_are_told_apart_as_scikit_learn_does(seed: int, size: tuple[int, int], labels: int) -> None:
    """Its covariance is divided by n instead of n - m, which scales all distances alike; its priors are those of the labels."""
    vectors, numbers, none = draw(seed, *size, labels)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5).fit(vectors, numbers)
    queries = vectors[:5] + 0.3
    decided = queries @ theirs.coef_.T + theirs.intercept_ if labels > 2 else None
    distances = fit(vectors, numbers, labels, none)
    halves = -distances.distances(queries)[:, :labels] / 2 * size[0] / (size[0] - labels)
    priors = np.log(np.bincount(numbers) / size[0])
    if decided is None:
        margin = queries @ theirs.coef_[0] + theirs.intercept_[0]
        np.testing.assert_allclose((halves + priors)[:, 1] - (halves + priors)[:, 0], margin, rtol=1e-6, atol=1e-6)
    else:
        ours = halves + priors
        np.testing.assert_allclose(ours - ours[:, :1], decided - decided[:, :1], rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), SIZES, st.integers(1, 3), st.sampled_from([0, 5]), st.floats(0.01, 100))
def test_rotation_order_and_scale_of_the_space_do_not_matter(
    seed: int, size: tuple[int, int], labels: int, strangers: int, scale: float
) -> None:
    vectors, numbers, others = draw(seed, *size, labels, strangers)
    before = fit(vectors, numbers, labels, others).scores(vectors[:6])
    turn = special_ortho_group.rvs(size[1], random_state=seed)
    order = np.random.default_rng(seed).permutation(len(vectors))
    turned, more = scale * vectors @ turn, scale * others @ turn
    after = fit(turned[order], numbers[order], labels, more[::-1]).scores(turned[:6])
    np.testing.assert_allclose(after, before, atol=1e-6)


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_with_one_shot_per_label_the_nearest_mean_wins(seed: int, labels: int) -> None:
    vectors, numbers, none = draw(seed, labels, 20, labels)
    queries = vectors + 0.5 * np.random.default_rng(seed).normal(size=vectors.shape)
    scores = fit(vectors, numbers, labels, none).scores(queries)
    distances = ((queries[:, None] - vectors[None]) ** 2).sum(axis=2)
    assert (scores.argmax(axis=1) == distances.argmin(axis=1)).all()
    assert fit(vectors, numbers, labels, none).scores(vectors).diagonal() == pytest.approx(1.0)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(0, 10**6), SIZES, st.integers(1, 4), st.sampled_from([0, 4]), st.sampled_from([0, 100]))
def test_leaving_out_is_fitting_without(
    data: st.DataObject, seed: int, size: tuple[int, int], labels: int, strangers: int, kept_coordinates: int
) -> None:
    vectors, numbers, others = draw(seed, *size, labels, strangers)
    left = data.draw(st.one_of(st.sets(st.integers(0, size[0] - 1), min_size=1, max_size=4), st.just("a label")))
    out = np.flatnonzero(numbers == 0) if isinstance(left, str) else np.array(sorted(left))
    kept = np.setdiff1d(np.arange(size[0]), out)
    present, renumbered = np.unique(numbers[kept], return_inverse=True)
    with mock.patch.object(discriminant, "KEPT", kept_coordinates):
        samples = Samples.of(vectors, numbers, labels, others)
    assert (samples.coordinates is None) == (kept_coordinates < len(vectors) + len(others))
    scores = samples.scores_without(out, out)
    expected = np.full((len(out), labels), -np.inf)
    if len(kept):
        expected[:, present] = fit(vectors[kept], renumbered, len(present), others).scores(vectors[out])
    np.testing.assert_allclose(scores, expected, atol=1e-7)


def test_images_that_are_all_the_same_are_no_error() -> None:
    same = np.ones((6, 4))
    scores = fit(same, np.arange(6) % 2, 2, same[:0]).scores(np.array([[1.0, 1, 1, 1], [2, 1, 1, 1]]))
    assert scores.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert Samples.of(same, np.arange(6) % 2, 2, same[:0]).scores_without([0], [0]).tolist() == [[0.5, 0.5]]


def test_more_vectors_than_a_block_are_fitted_as_a_whole() -> None:
    vectors, numbers, others = draw(0, BLOCK + 50, 4, 3, 6)
    scores = fit(vectors, numbers, 3, others).scores(vectors[:5])
    np.testing.assert_allclose(scores, by_definition(vectors, numbers, 3, others, vectors[:5]), atol=1e-9)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_closeness_has_bounds_and_falls_with_the_distance(near: float, more: float, reference: float) -> None:
    nearness = closeness(np.array([[near, near + more]]), np.array([[reference]]))[0]
    assert 0.0 <= nearness[1] <= nearness[0] <= 1.0
    if reference:
        assert closeness(np.array([[reference, 0.0]]), np.array([[reference]])).tolist() == [[0.5, 1.0]]
