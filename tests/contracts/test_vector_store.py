"""The contract that every vector store keeps; the exact one is the oracle."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sqlalchemy import update

from nearshot.schema import tables
from nearshot.schema.segment_file import Segment, write_segment
from nearshot.schema.segments import NONE, Group, UsableImages
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.chain import Chain, Layer, Tail
from nearshot.vectors.exact import ExactStore
from nearshot.vectors.nominated import NominatedStore
from nearshot.vectors.normalise import normalise
from nearshot.vectors.protocol import VectorStore
from nearshot.vectors.segments import read_rows
from tests.made_up import add_images
from tests.vectors.test_nominated import Stale

DIMENSION = 8


def unit_vectors(n: int, seed: int = 0) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(seed).standard_normal((n, DIMENSION)))


def make_exact(path: Path, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> VectorStore:
    return ExactStore(ids, vectors)


def tail_of(ids: NDArray[np.int64], vectors: NDArray[np.float32], touched: NDArray[np.int64] = NONE) -> Tail:
    groups = [Group("things", "a", 0, len(ids))] if len(ids) else []
    return Tail(Layer(touched, UsableImages(ids, ids, groups), vectors))


def write(path: Path, ids: NDArray[np.int64], vectors: NDArray[np.float32], gone: NDArray[np.int64] = NONE) -> Segment:
    groups = [Group("things", "a", 0, len(ids))] if len(ids) else []
    written = write_segment(
        path, [vectors], ids=ids, groups=groups, superseded=gone, dimension=DIMENSION, of=["f", "support"]
    )
    return Segment(path, size=written.size, digest=written.digest)


def make_tail(path: Path, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> VectorStore:
    return Chain([], DIMENSION).store(tail_of(ids, vectors))


def make_segments(path: Path, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> VectorStore:
    """Over two segments and a tail, each of which supersedes what the ones before it have of its ids, and two of no one's."""
    parts = np.array_split(np.arange(len(ids)), 3)
    strange = np.array([1000, 1001], dtype=np.int64)
    stale = unit_vectors(len(ids) + 2, 77)

    def outdated(own: NDArray[np.int64], later: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return np.concatenate([own, later]), stale[: len(later)]

    first_ids, first_stale = outdated(ids[parts[0]], np.concatenate([ids[parts[1]], strange]))
    second_ids, second_stale = outdated(ids[parts[1]], ids[parts[2]])
    first = write(path / "first", first_ids, np.concatenate([vectors[parts[0]], first_stale]))
    second = write(path / "second", second_ids, np.concatenate([vectors[parts[1]], second_stale]), gone=strange[:1])
    newest = np.concatenate([ids[parts[2]], strange[1:]])
    return Chain([first, second], DIMENSION).store(tail_of(ids[parts[2]], vectors[parts[2]], touched=newest))


def make_nominated(empty: Path, path: Path, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> VectorStore:
    """Over rows of a store that have these ids, by what names them carelessly: the last of them have changed since."""
    location = Path(tempfile.mkdtemp(dir=path)) / "store"
    with Store(shutil.copytree(empty, location)) as store:
        backbone = add_images(store, "made", vectors.reshape(-1, DIMENSION), [("things", "a")] * len(ids))
        with store.writing() as editor:
            for aside in (10**6, 0):
                for number, image_id in enumerate(ids.tolist()):
                    own = tables.images.c.path.like(f"%/shot{number}.png")
                    editor.connection.execute(update(tables.images).where(own).values(id=image_id + aside))
    opened = Store(location)
    with opened.reading() as catalog:
        whole = read_rows(catalog, backbone, Role.SUPPORT)
        changed = ids[len(ids) * 2 // 3 :]
        tail = Chain([], DIMENSION).store(tail_of(changed, whole.vectors(changed)))
        stale = Stale.of(whole, changed=frozenset(changed.tolist()))
        return NominatedStore(opened, catalog, backbone, Role.SUPPORT, stale, tail=tail, changed=changed)


Maker = Callable[[Path, NDArray[np.int64], NDArray[np.float32]], VectorStore]


@pytest.fixture(
    params=[make_exact, make_tail, make_segments, make_nominated], ids=["exact", "tail", "segments", "nominated"]
)
def make(request: pytest.FixtureRequest, empty_store: Path) -> Maker:
    maker: Maker = partial(make_nominated, empty_store) if request.param is make_nominated else request.param
    return maker


IDS = np.array([7, 3, 11, 5], dtype=np.int64)


def test_it_finds_each_vector_nearest_to_itself(make: Maker, tmp_path: Path) -> None:
    vectors = unit_vectors(4)
    store = make(tmp_path, IDS, vectors)
    assert (len(store), store.dimension, store.ids().tolist()) == (4, DIMENSION, [3, 5, 7, 11])
    for image_id, near in zip(IDS, store.search(vectors, 1), strict=True):
        assert near.ids.tolist() == [image_id]
        assert near.scores[0] == pytest.approx(1.0, abs=1e-6)


def test_scores_are_cosines_that_never_leave_their_range(make: Maker, tmp_path: Path) -> None:
    vectors = unit_vectors(50)
    store = make(tmp_path, np.arange(50), vectors)
    for near, query in zip(store.search(vectors, 50), vectors, strict=True):
        assert near.scores.min() >= -1.0
        assert near.scores.max() <= 1.0
        assert np.all(np.diff(near.scores) <= 0)
        np.testing.assert_allclose(near.scores, vectors[near.ids] @ query, atol=1e-6)


def test_it_pads_nothing_when_asked_for_more_than_it_holds(make: Maker, tmp_path: Path) -> None:
    store = make(tmp_path, IDS, unit_vectors(4))
    assert len(store.search(unit_vectors(1, 9), 100)[0].ids) == 4
    empty = make(tmp_path, IDS[:0], unit_vectors(0))
    assert [near.ids.tolist() for near in empty.search(unit_vectors(2), 3)] == [[], []]


def test_all_that_tie_at_the_cut_come_by_ascending_id(make: Maker, tmp_path: Path) -> None:
    first, other = unit_vectors(2)[:1], unit_vectors(2)[1:]
    ids = np.array([9, 2, 30, 4, 1, 8], dtype=np.int64)
    store = make(tmp_path, ids, np.concatenate([np.repeat(first, 4, axis=0), other, other]))
    assert store.search(first, 3)[0].ids.tolist() == [2, 4, 9, 30]
    assert store.search(first, 4)[0].ids.tolist() == [2, 4, 9, 30]
    assert store.search(first, 5)[0].ids.tolist() == [2, 4, 9, 30, 1, 8]


def test_a_score_does_not_depend_on_where_its_vector_lies(make: Maker, tmp_path: Path) -> None:
    vectors, query = unit_vectors(301), unit_vectors(1, 8)
    ids = np.arange(301)
    order = np.random.default_rng(1).permutation(301)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = make(tmp_path / "a", ids, vectors).search(query, 301)[0]
    other = make(tmp_path / "b", ids[order], vectors[order]).search(query, 301)[0]
    np.testing.assert_array_equal(first.ids, other.ids)
    np.testing.assert_array_equal(first.scores, other.scores)


def test_it_gives_the_vectors_of_ids_in_their_order(make: Maker, tmp_path: Path) -> None:
    vectors = unit_vectors(4)
    store = make(tmp_path, IDS, vectors)
    np.testing.assert_array_equal(store.vectors(np.array([5, 7, 3], dtype=np.int64)), vectors[[3, 0, 1]])
    assert store.vectors(NONE).shape == (0, DIMENSION)
    with pytest.raises(KeyError):
        store.vectors(np.array([5, 100], dtype=np.int64))


def test_it_refuses_a_query_that_an_index_would_take_in_silence(make: Maker, tmp_path: Path) -> None:
    store = make(tmp_path, IDS, unit_vectors(4))
    nan = np.full((1, DIMENSION), np.nan, dtype=np.float32)
    for query in (nan, np.zeros((1, DIMENSION), dtype=np.float32), np.ones((1, 3), dtype=np.float32)):
        with pytest.raises(ValueError, match="expected"):
            store.search(query, 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=30, unique_by=lambda row: row),
    k=st.integers(1, 40),
    seed=st.integers(0, 100),
)
def test_segments_answer_as_the_oracle_does_ties_included(
    rows: list[tuple[int, int]], k: int, seed: int, tmp_path: Path
) -> None:
    distinct = unit_vectors(6, seed)
    vectors = distinct[[row for row, _ in rows]]
    ids = np.random.default_rng(seed).permutation(len(rows)).astype(np.int64)
    segments, exact = make_segments(tmp_path, ids, vectors), make_exact(tmp_path, ids, vectors)
    for near, truth in zip(segments.search(distinct, k), exact.search(distinct, k), strict=True):
        np.testing.assert_array_equal(near.scores, truth.scores)
        assert near.ids.tolist() == truth.ids.tolist()
