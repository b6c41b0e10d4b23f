"""Projection: a category's vectors in two dimensions, to look at."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import UsageError
from nearshot.schema.images import Shown
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.segments import open_vectors

FITTED = 3000
"""Largest number of images that a projection is fitted to; of more, every n-th. UMAP places these alone."""

MOST = 100_000
"""Largest number of images that are placed; of more, every n-th."""

AT_ONCE = 8192
"""Vectors that are placed at once."""

SEED = 0
LEAST_FOR_UMAP = 8
"""Of fewer there is no neighbourhood to keep."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Images with their places (n, 2) in the unit square, shapes kept; how many there are in all.

    `explained` is the share of their variance that lies in the plane, None where the method does not keep variance.
    """

    images: Sequence[Shown]
    places: NDArray[np.float64]
    total: int
    explained: float | None


def methods() -> list[str]:
    """The projections that can be had here: PCA, and UMAP where umap-learn is installed."""
    return ["pca", *(["umap"] if find_spec("umap") else [])]


def project(store: Store, catalog: Catalog, row: BackboneRow, category: str, method: str = "pca") -> Projection:
    """Project all images of a category that a backbone has seen. UsageError for a method that is not available."""
    if method not in methods():
        raise UsageError(f"'{method}' is not available here; take {' or '.join(methods())}")
    opened = [open_vectors(store, catalog, row, role, category=category) for role in Role]
    ids = [vectors.ids() for vectors in opened]  # shots before queries
    total = sum(map(len, ids))
    if not total:
        raise UsageError(
            f"{row.name} has seen nothing of '{category}'; run `nearshot index DATA --backbone {row.name}`"
        )
    most = FITTED if method == "umap" else MOST
    taken = _evenly(ids, -(-total // most))
    count = sum(map(len, taken))

    def read(wanted: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        parts = [each.vectors(own) for each, own in zip(opened, wanted, strict=True)]
        return np.concatenate(parts).astype(np.float64)

    fitted = read(_evenly(taken, -(-count // FITTED)))
    if method == "umap":
        places, explained = _umap(fitted)
    else:
        direct, explained = _pca(fitted)
        places = np.concatenate(
            [direct(each.vectors(few)) for each, own in zip(opened, taken, strict=True) for few in _in_parts(own)]
        )
    chosen = np.concatenate(taken).tolist()
    shown = catalog.shown(chosen)
    return Projection([shown[image_id] for image_id in chosen], _in_unit_square(places), total, explained)


def _evenly(ids: Sequence[NDArray[np.int64]], step: int) -> list[NDArray[np.int64]]:
    """Every n-th of shots and queries, counted through both."""
    return [ids[0][::step], ids[1][-len(ids[0]) % step :: step]]


def _in_parts(ids: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]


def _pca(vectors: NDArray[np.float64]) -> tuple[Callable[[NDArray[np.float32]], NDArray[np.float64]], float | None]:
    """A function that places vectors by the two directions of most variance; fewer where there are fewer images."""
    kept = min(2, *vectors.shape)
    if len(vectors) < 2:
        return lambda others: np.zeros((len(others), 2)), None
    solver = "full" if vectors.shape[0] <= vectors.shape[1] else "covariance_eigh"  # both exact, each fast in its place
    from sklearn.decomposition import PCA  # a second, which a service would spend when it starts

    pca = PCA(n_components=kept, svd_solver=solver).fit(vectors)
    share = float(pca.explained_variance_ratio_.sum())

    def transform(others: NDArray[np.float32]) -> NDArray[np.float64]:
        places = np.zeros((len(others), 2))
        places[:, :kept] = pca.transform(others.astype(np.float64))
        return places

    return transform, share if np.isfinite(share) else None


def _umap(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], None]:
    if len(vectors) < LEAST_FOR_UMAP:
        raise UsageError(f"UMAP needs {LEAST_FOR_UMAP} images, and here are {len(vectors)}; take pca")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # it would like TensorFlow for a part that is not used
        from umap import UMAP
    neighbours = min(15, len(vectors) - 1)  # 15 is its own default
    umap = UMAP(n_neighbors=neighbours, metric="cosine", init="pca", random_state=SEED, n_jobs=1)
    return np.asarray(umap.fit_transform(vectors), dtype=np.float64), None


def _in_unit_square(places: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = places.min(axis=0), places.max(axis=0)
    largest = max(float((high - low).max()), np.finfo(np.float64).tiny)
    scaled: NDArray[np.float64] = (places - (low + high) / 2) / largest + 0.5
    return scaled
