"""A category's vectors in two dimensions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from nearshot.evaluation import projection
from nearshot.evaluation.projection import project
from nearshot.schema.errors import UsageError
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.segments import read_rows
from tests.conftest import run_index, save_crop


@pytest.fixture
def indexed(store: Store, small: Path) -> Store:
    for number in range(10):
        save_crop(small / f"things/6.preprocessed/more/{number}.png", f"retina:{number}")
    run_index(store, small)
    return store


def test_all_images_of_the_category_have_the_places_that_pca_gives_them(indexed: Store) -> None:
    with indexed.reading() as catalog:
        [row] = catalog.backbones()
        projected = project(indexed, catalog, row, "things")
        held = [read_rows(catalog, row, role) for role in Role]
    vectors = np.concatenate([each.vectors(each.ids()) for each in held]).astype(np.float64)
    expected = PCA(n_components=2, svd_solver="full").fit(vectors)
    assert [image.id for image in projected.images] == [image_id for each in held for image_id in each.ids().tolist()]
    assert projected.total == len(vectors)
    assert projected.explained == pytest.approx(expected.explained_variance_ratio_.sum())
    places = expected.transform(vectors)
    between = [np.linalg.norm(here[:, None] - here[None], axis=2) for here in (places, projected.places)]
    assert np.allclose(between[1] * between[0].max() / between[1].max(), between[0]), "shapes are kept"
    assert (projected.places.min(), projected.places.max()) == pytest.approx((0, 1))


def test_of_very_many_images_every_so_many_is_shown_of_both_roles(
    indexed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with indexed.reading() as catalog:
        [row] = catalog.backbones()
        everything = project(indexed, catalog, row, "things")
        monkeypatch.setattr(projection, "MOST", 6)
        some = project(indexed, catalog, row, "things")
    step = -(-everything.total // 6)
    assert step > 1
    assert some.images == everything.images[::step]
    assert some.total == everything.total
    assert set(Counter(image.role for image in some.images)) == {Role.SUPPORT, Role.QUERY}


def test_more_images_are_placed_than_it_is_fitted_to(indexed: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with indexed.reading() as catalog:
        [row] = catalog.backbones()
        everything = project(indexed, catalog, row, "things")
        monkeypatch.setattr(projection, "FITTED", 8)
        monkeypatch.setattr(projection, "AT_ONCE", 3)
        placed = project(indexed, catalog, row, "things")
        held = [read_rows(catalog, row, role) for role in Role]
    assert placed.images == everything.images
    vectors = np.concatenate([each.vectors(each.ids()) for each in held]).astype(np.float64)
    fitted = PCA(n_components=2, svd_solver="full").fit(vectors[:: -(-len(vectors) // 8)])
    assert placed.explained == pytest.approx(fitted.explained_variance_ratio_.sum())
    places = fitted.transform(vectors)
    between = [np.linalg.norm(here[:, None] - here[None], axis=2) for here in (places, placed.places)]
    assert np.allclose(between[1] * between[0].max() / between[1].max(), between[0])


def test_a_method_that_is_not_here_and_a_category_that_nobody_saw_are_told(indexed: Store) -> None:
    with indexed.reading() as catalog:
        [row] = catalog.backbones()
        with pytest.raises(UsageError, match="'tsne' is not available here; take pca or umap"):
            project(indexed, catalog, row, "things", "tsne")
        with pytest.raises(UsageError, match="hog has seen nothing of 'nowhere'"):
            project(indexed, catalog, row, "nowhere")


def test_umap_gives_the_same_map_each_time(indexed: Store) -> None:
    with indexed.reading() as catalog:
        [row] = catalog.backbones()
        first, second = (project(indexed, catalog, row, "things", "umap") for _ in range(2))
    assert (first.places == second.places).all()
    assert first.explained is None
    assert np.isfinite(first.places).all()


def test_a_few_images_are_too_few_for_umap(store: Store, small: Path) -> None:
    run_index(store, small)
    with store.reading() as catalog:
        [row] = catalog.backbones()
        with pytest.raises(UsageError, match="UMAP needs 8 images, and here are 6; take pca"):
            project(store, catalog, row, "things", "umap")
