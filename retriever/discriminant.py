"""The linear discriminant: how near a query is to each label when all labels vary alike, and how near to none of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHRINKAGE = 0.5
"""Share of the isotropic part in the covariance. Fixed, not fitted: with few shots nothing is left to fit it by."""

BLOCK = 4096
"""Vectors that are widened to float64 at a time."""

KEPT = 20_000
"""Largest number of vectors whose coordinates are kept."""

LEAST = 1e-12
"""Variances below this share of the largest are rounding, not variance."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Discriminant:
    """Squared Mahalanobis distances to the means of m labels, under one covariance that all of them share.

    Of n vectors, with S their mean squared deviation from their labels' means (over n - m degrees of freedom) and t its mean
    variance (its trace by d), the covariance is S / 2 + t I / 2: closed form, no parameter to choose. It is known as
    regularised or Gaussian discriminant analysis (Friedman, JASA 1989; for few shots of deep features: Wang et al., ICLR 2024,
    "A hard-to-beat baseline for training-free CLIP-based adaptation"). With few shots S has rank n - m; then the inverse is the
    isotropic part less a correction in the span of `directions`, and nothing of d x d is inverted:

        covariance^-1 = isotropic I - directions^T diag(corrections) directions

    Where no label varies (one shot each) it is the plain squared distance: the nearest mean.

    `targets` (m + 1, d) are the means, and last the reference, times the inverse covariance, and `offsets` (m + 1,) their
    products with the means; so a query costs m x d. `directions` (r, d), orthonormal; `corrections` (r,), all >= 0. The
    reference is the mean of the known strangers; without any, the mean of the labels' means; of one label alone, the origin,
    from which unit vectors in all directions are as far.
    """

    targets: Array
    offsets: Array
    directions: Array
    corrections: Array
    isotropic: float

    def distances(self, queries: NDArray[np.floating]) -> Array:
        """Squared distances (q, m + 1) of queries (q, d) to the labels' means, and last to the reference."""
        wide = queries.astype(np.float64)
        along = wide @ self.directions.T
        lengths = self.isotropic * (wide**2).sum(axis=1) - (along**2) @ self.corrections
        distances: Array = np.maximum(lengths[:, None] - 2 * (wide @ self.targets.T) + self.offsets, 0.0)
        return distances

    def scores(self, queries: NDArray[np.floating]) -> Array:
        """The scores (q, m) of queries (q, d): `closeness` of the distances to the labels and to the reference."""
        distances = self.distances(queries)
        return closeness(distances[:, :-1], distances[:, -1:])


def closeness(distances: Array, reference: Array) -> Array:
    """r / (r + d) in [0, 1] for squared distances d to labels, r to what is no label: 1 on the label, 0.5 half way.

    The larger, the nearer to the label; monotone in d for a query, and the same whatever the scale of the space. It compares
    with the reference as relative Mahalanobis distance does (Ren et al., 2021, "A simple fix to Mahalanobis distance for
    improving near-OOD detection"), by a ratio instead of a difference so that it has bounds.
    """
    total = distances + reference
    shares: Array = np.divide(reference, total, out=np.full_like(total, 0.5), where=total > 0)
    return shares


def fit(
    vectors: NDArray[np.floating], numbers: NDArray[np.int64], count: int, strangers: NDArray[np.floating]
) -> Discriminant:
    """The discriminant of n vectors (n, d) of labels `numbers` (n,) in [0, count), each of which has one at least.

    Known strangers (u, d) are one more label, Unknown: they share in the covariance, and their mean is the reference.
    """
    if len(vectors) + len(strangers) < vectors.shape[1]:
        return Samples.of(vectors, numbers, count, strangers).discriminant()
    labels, sizes = _labels(numbers, count, len(strangers))
    means, axes, deviations = _axes_by_blocks(vectors, strangers, labels, sizes)
    return _discriminant(means, sizes, count, axes, deviations)


def _labels(numbers: NDArray[np.int64], count: int, strangers: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The labels (n + u,) of all vectors, `count` for Unknown, and their sizes."""
    labels = np.concatenate([numbers, np.full(strangers, count, dtype=np.int64)])
    return labels, np.bincount(labels, minlength=count + (strangers > 0))


def _axes_by_blocks(
    vectors: NDArray[np.floating],
    strangers: NDArray[np.floating],
    labels: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> tuple[Array, Array, Array]:
    """The means (c, d) of all labels, and the axes (d, d) and sums of squares (d,) of `principal_axes`: no more than a block
    of the vectors is widened at a time.
    """
    dimension = vectors.shape[1]
    sums, products = np.zeros((len(sizes), dimension)), np.zeros((dimension, dimension))
    for part, own in ((vectors, labels[: len(vectors)]), (strangers, labels[len(vectors) :])):
        for start in range(0, len(part), BLOCK):
            wide = part[start : start + BLOCK].astype(np.float64)
            sums += class_sums(wide, own[start : start + BLOCK], len(sizes))
            products += wide.T @ wide
    means = sums / sizes[:, None]
    deviations, columns = np.linalg.eigh(products - (means.T * sizes) @ means)
    return means, columns.T, _without_rounding(deviations)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """The vectors that a discriminant rests on, in coordinates in which their common deviations are uncorrelated.

    `coordinates` (n, p) are those along `axes` (p, d), orthonormal (None: of so many they are worked out when they are needed);
    `deviations` (p,) the sums of squared deviations from the labels' `means` (c, p) along each; `numbers` (n,) the labels,
    `count` for Unknown.
    """

    vectors: NDArray[np.floating]
    coordinates: Array | None
    numbers: NDArray[np.int64]
    count: int
    dimension: int
    axes: Array
    deviations: Array
    means: Array
    sizes: NDArray[np.int64]

    @classmethod
    def of(
        cls, vectors: NDArray[np.floating], numbers: NDArray[np.int64], count: int, strangers: NDArray[np.floating]
    ) -> Samples:
        """Find the axes: from an n x n or a d x d matrix, whichever is smaller."""
        labels, sizes = _labels(numbers, count, len(strangers))
        every = np.concatenate([vectors, strangers]) if len(strangers) else vectors
        if len(every) < every.shape[1]:
            wide = every.astype(np.float64)
            means = class_sums(wide, labels, len(sizes)) / np.maximum(sizes, 1)[:, None]
            axes, deviations = principal_axes(wide, wide - means[labels])
        else:
            means, axes, deviations = _axes_by_blocks(vectors, strangers, labels, sizes)
        points = every.astype(np.float64) @ axes.T if len(every) <= KEPT else None
        return cls(every, points, labels, count, every.shape[1], axes, deviations, means @ axes.T, sizes)

    def points(self, numbers: NDArray[np.int64]) -> Array:
        """The coordinates (q, p) of some of the vectors, by number."""
        if self.coordinates is not None:
            return self.coordinates[numbers]
        points: Array = self.vectors[numbers].astype(np.float64) @ self.axes.T
        return points

    def discriminant(self) -> Discriminant:
        """The discriminant of all of them."""
        return _discriminant(self.means @ self.axes, self.sizes, self.count, self.axes, self.deviations)

    def scores_without(
        self, left_out: Sequence[int] | NDArray[np.int64], asked: Sequence[int] | NDArray[np.int64]
    ) -> Array:
        """The scores (q, count) of some of the vectors (`asked`, by number) where others (`left_out`) had never been there.

        What `fit` on the others gives, without fitting again: leaving k vectors of a label out takes k + 1 directions from the
        scatter (their deviations, and that of their mean from the new mean), and the inverse follows by Woodbury's identity.
        A label that loses all its vectors scores -inf.
        """
        out = np.asarray(left_out, dtype=np.int64)
        sizes, means = self.sizes.copy(), self.means.copy()
        taken = []
        for label in np.unique(self.numbers[out]).tolist():
            mine = self.points(out[self.numbers[out] == label]) - self.means[label]
            sizes[label] -= len(mine)
            taken.append(mine)
            if sizes[label]:
                shift = mine.sum(axis=0) / sizes[label]
                means[label] -= shift
                taken.append(np.sqrt(sizes[label]) * shift[None])
        removed = np.concatenate(taken) if taken else np.zeros((0, len(self.axes)))
        present = np.flatnonzero(sizes > 0)
        degrees = int(sizes.sum()) - len(present)
        scatter = float(self.deviations.sum() - (removed**2).sum())
        if scatter <= LEAST * max(float(self.deviations.sum()), 1.0):
            scatter = 0.0
        within, isotropic = _shrunk(self.deviations, scatter, degrees, self.dimension)
        inverse = 1 / (within + isotropic)
        labels = present[present < self.count]
        reference = _reference(means[present], len(labels))
        points = np.vstack([means[labels], reference])
        queries = self.points(np.asarray(asked, dtype=np.int64))
        distances = _squares(queries * np.sqrt(inverse), points * np.sqrt(inverse))
        correction = np.zeros((0, len(self.axes)))
        if len(removed) and scatter > 0:
            share = (1 - SHRINKAGE) / degrees
            scaled = removed * inverse
            core = np.linalg.cholesky(np.eye(len(removed)) - share * scaled @ removed.T)
            correction = np.linalg.solve(core, np.sqrt(share) * scaled)
            distances = distances + _squares(queries @ correction.T, points @ correction.T)
        scores = np.full((len(queries), self.count), -np.inf)
        scores[:, labels] = closeness(distances[:, :-1], distances[:, -1:])
        return scores


def class_sums(vectors: Array, numbers: NDArray[np.int64], count: int) -> Array:
    """The sums (count, d) of vectors (n, d) by their labels (n,) in [0, count)."""
    sums = np.zeros((count, vectors.shape[1]))
    order = np.argsort(numbers, kind="stable")
    present, first = np.unique(numbers[order], return_index=True)
    if len(present):
        sums[present] = np.add.reduceat(vectors[order], first, axis=0)
    return sums


def principal_axes(vectors: Array, deviations: Array) -> tuple[Array, Array]:
    """Orthonormal axes (p, d) that span the vectors (n, d), along which the deviations (n, d) are uncorrelated; and the sums
    (p,) of their squares along each.
    """
    basis = np.linalg.qr(vectors.T)[0].T if len(vectors) < vectors.shape[1] else np.eye(vectors.shape[1])
    coordinates = deviations @ basis.T
    sums, turned = np.linalg.eigh(coordinates.T @ coordinates)
    return turned.T @ basis, _without_rounding(sums)


def _without_rounding(sums: Array) -> Array:
    """Sums of squares (p,), those that are nothing but rounding at 0."""
    return np.where(sums > LEAST * max(float(sums.max(initial=0.0)), LEAST), sums, 0.0)


def _discriminant(means: Array, sizes: NDArray[np.int64], count: int, axes: Array, deviations: Array) -> Discriminant:
    """From the means (c, d) of all labels (Unknown last) and the sums of squares (p,) along axes (p, d)."""
    degrees, scatter = int(sizes.sum()) - len(sizes), float(deviations.sum())
    within, isotropic = _shrunk(deviations, scatter, degrees, means.shape[1])
    kept = within > 0
    directions, corrections = axes[kept], 1 / isotropic - 1 / (within[kept] + isotropic)
    reference = _reference(means, count)
    points = np.vstack([means[:count], reference])
    targets = points / isotropic - ((points @ directions.T) * corrections) @ directions
    return Discriminant(
        targets=targets,
        offsets=(targets * points).sum(axis=1),
        directions=directions,
        corrections=corrections,
        isotropic=1 / isotropic,
    )


def _shrunk(deviations: Array, scatter: float, degrees: int, dimension: int) -> tuple[Array, float]:
    """The covariance's variance (p,) along each axis beyond the isotropic part, and that part; (0, 1) where nothing varies."""
    if degrees <= 0 or scatter <= 0:
        return np.zeros_like(deviations), 1.0
    return (1 - SHRINKAGE) * deviations / degrees, SHRINKAGE * scatter / (degrees * dimension)


def _reference(means: Array, count: int) -> Array:
    """Find the point of no label: the strangers' mean, which follows the labels'; or the mean of the labels' means; or 0."""
    if len(means) > count:
        strange: Array = means[count]
        return strange
    middle: Array = means.mean(axis=0) if count > 1 else np.zeros(means.shape[1])
    return middle


def _squares(left: Array, right: Array) -> Array:
    """Squared distances (q, p) of rows."""
    products = (left**2).sum(axis=1)[:, None] - 2 * left @ right.T + (right**2).sum(axis=1)
    squares: Array = np.maximum(products, 0.0)
    return squares
