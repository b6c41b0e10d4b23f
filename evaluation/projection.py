"""Projection: a category's vectors in two dimensions, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from schema.catalog import BackboneRow, Catalog
from schema.errors import UsageError
from schema.images import Role, Shown

MOST = 3000
"""How many images are projected at most; of more, every n-th."""

SEED = 0


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


def project(catalog: Catalog, row: BackboneRow, category: str, method: str = "pca") -> Projection:
    """Project all images of a category that a backbone has seen. UsageError for a method that is not to be had."""
    if method not in methods():
        raise UsageError(f"'{method}' is not to be had here; take {' or '.join(methods())}")
    chunks = [chunk for role in Role for chunk in catalog.vectors(row, category, role)]
    ids = np.concatenate([chunk.ids for chunk in chunks]) if chunks else np.zeros(0, dtype=np.int64)
    if not len(ids):
        raise UsageError(
            f"{row.name} has seen nothing of '{category}'; run `nearshot index DATA --backbone {row.name}`"
        )
    step = -(-len(ids) // MOST)
    order = np.argsort(ids)[::step]
    vectors = np.concatenate([chunk.vectors for chunk in chunks])[order].astype(np.float64)
    places, explained = _umap(vectors) if method == "umap" else _pca(vectors)
    shown = catalog.shown(ids[order].tolist())
    return Projection(
        [shown[image_id] for image_id in ids[order].tolist()], _in_unit_square(places), len(ids), explained
    )


def _pca(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], float | None]:
    """The two directions of most variance; fewer where there are fewer images."""
    kept = min(2, *vectors.shape)
    if len(vectors) < 2:
        return np.zeros((len(vectors), 2)), None
    pca = PCA(n_components=kept, svd_solver="full")
    places = np.zeros((len(vectors), 2))
    places[:, :kept] = pca.fit_transform(vectors)
    share = float(pca.explained_variance_ratio_.sum())
    return places, share if np.isfinite(share) else None


def _umap(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], None]:
    from umap import UMAP

    return np.asarray(UMAP(random_state=SEED, metric="cosine").fit_transform(vectors), dtype=np.float64), None


def _in_unit_square(places: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = places.min(axis=0), places.max(axis=0)
    largest = max(float((high - low).max()), np.finfo(np.float64).tiny)
    scaled: NDArray[np.float64] = (places - (low + high) / 2) / largest + 0.5
    return scaled
