"""Fused vectors: weighted means of cosines, made once per content, and kept up with their parts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from nearshot.backbones.spec import canonical_name, parts_of
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.verify import verify
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.schema.errors import UsageError
from nearshot.schema.fusions import parts_of_fusion
from nearshot.schema.labelled import labelled_vectors
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.fused import join
from nearshot.vectors.normalise import normalise
from tests.conftest import run_index, save_crop

PAIR = IndexOptions(backbones=("hog+lite0",), workers=2)


def test_a_cosine_of_joined_vectors_is_the_weighted_mean_of_the_parts() -> None:
    chance = np.random.default_rng(0)
    parts = [normalise(chance.normal(size=(6, dimension))) for dimension in (3, 40)]
    joined = join(parts, [0.3, 0.7])
    assert joined.shape == (6, 43)
    means = 0.3 * parts[0] @ parts[0].T + 0.7 * parts[1] @ parts[1].T
    np.testing.assert_allclose(joined @ joined.T, means, atol=1e-6)


def test_a_fused_name_is_the_same_in_any_order_and_may_hold_specs() -> None:
    assert canonical_name("hog+lite0") == canonical_name("lite0+hog") == "lite0+hog"
    assert canonical_name("clip+dinov2+hog") == "dinov2+clip+hog"
    assert parts_of("hf:/a+b/c+timm:vit+lite0") == ["lite0", "hf:/a+b/c", "timm:vit"]
    assert parts_of("open_clip:ViT-B-32-quickgelu/openai") == ["clip"]
    for name in ("hog+", "+hog", "hog+nothing", "hog+hog", "clip+open_clip:ViT-B-32-quickgelu/openai"):
        with pytest.raises(UsageError):
            canonical_name(name)


def test_what_is_fused_follows_its_parts(store: Store, small: Path) -> None:
    report = run_index(store, small, PAIR)
    assert {name: count.embedded for name, count in report.backbones.items()} == {
        "hog": 6,
        "lite0": 6,
        "lite0+hog": 6,
    }
    with store.reading() as catalog:
        rows = {row.name: row for row in catalog.backbones()}
        parts = parts_of_fusion(catalog, rows["lite0+hog"].id)
        held = {name: labelled_vectors(catalog, row, "things", Role.SUPPORT) for name, row in rows.items()}
    assert [part.row for part in parts] == [rows["lite0"], rows["hog"]]
    assert sum(part.weight for part in parts) == pytest.approx(1)
    assert parts[1].weight > parts[0].weight, "the cosines of hog vary less, and count for more"
    joined = join([held["lite0"].vectors, held["hog"].vectors], [part.weight for part in parts])
    assert np.array_equal(held["lite0+hog"].vectors, joined)

    save_crop(small / "things/2.support-set/cat/shot3.png", "chelsea:6")
    report = run_index(store, small, IndexOptions(backbones=("hog",), workers=2))
    assert report.backbones["lite0+hog"].embedded == 0, "one of its parts has not seen the new shot yet"
    report = run_index(store, small)
    assert report.backbones["hog"].reused == 7
    report = run_index(store, small, IndexOptions(backbones=("lite0",), workers=2))
    assert dataclasses.asdict(report.backbones["lite0+hog"]) == {"embedded": 1, "reused": 6, "failed": 0}
    with store.reading() as catalog:
        assert [row for row in catalog.all_backbones() if "+" in row.name] == [rows["lite0+hog"]], (
            "with the same weights"
        )
    assert list(verify(store)) == []


def test_a_query_is_embedded_as_the_store_was(store: Store, small: Path) -> None:
    run_index(store, small, PAIR)
    path = small / "things/2.support-set/cat/shot1.png"
    retriever = Retriever(store, QueryOptions(backbone="hog+lite0"))
    [answer] = retriever.answer([("shot", path.read_bytes())])
    assert answer.backbone == "lite0+hog"  # type: ignore[union-attr]
    assert answer.hits[0].score == pytest.approx(1, abs=1e-6)  # type: ignore[union-attr]
    assert answer.decision.label == "cat"  # type: ignore[union-attr]


def test_where_a_part_gives_no_vector_neither_does_the_whole(store: Store, small: Path) -> None:
    run_index(store, small, PAIR)
    with store.reading() as catalog:
        rows = {row.name: row for row in catalog.backbones()}
        content = catalog.contents_lacking(rows["hog"].id, 1, ["things"])
        assert content == set()
    with store.writing() as editor:
        for name in ("hog", "lite0+hog"):
            editor.drop_embedding(1, rows[name].id)
        from nearshot.schema.editor import Embedding

        editor.put_embeddings([Embedding(1, rows["hog"].id, None, "the vector is zero")])
    report = run_index(store, small, PAIR)
    assert report.backbones["lite0+hog"].embedded == 1
    with store.reading() as catalog:
        failed = [count.failed for count in catalog.count_vectors_by_category(rows["lite0+hog"].id)]
    assert sum(failed) == 1
