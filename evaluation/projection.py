"""Projection: a category's vectors in two dimensions, to look at."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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

MOST = 3000
"""Largest number of images that are projected; of more, every n-th."""

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
    step = -(-total // MOST)
    taken = [ids[0][::step], ids[1][-len(ids[0]) % step :: step]]  # counted through both
    vectors = np.concatenate([each.vectors(own) for each, own in zip(opened, taken, strict=True)]).astype(np.float64)
    places, explained = _umap(vectors) if method == "umap" else _pca(vectors)
    chosen = np.concatenate(taken).tolist()
    shown = catalog.shown(chosen)
    return Projection([shown[image_id] for image_id in chosen], _in_unit_square(places), total, explained)


def _pca(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], float | None]:
    """The two directions of most variance; fewer where there are fewer images."""
    kept = min(2, *vectors.shape)
    if len(vectors) < 2:
        return np.zeros((len(vectors), 2)), None
    solver = "full" if vectors.shape[0] <= vectors.shape[1] else "covariance_eigh"  # both exact, each fast in its place
    from sklearn.decomposition import PCA  # a second, which a service would spend when it starts

    pca = PCA(n_components=kept, svd_solver=solver)
    places = np.zeros((len(vectors), 2))
    places[:, :kept] = pca.fit_transform(vectors)
    share = float(pca.explained_variance_ratio_.sum())
    return places, share if np.isfinite(share) else None


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
