"""The contract that every vector store keeps; the exact one is the oracle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearshot.vectors.exact import ExactStore
from nearshot.vectors.flat import FlatStore
from nearshot.vectors.normalise import normalise
from nearshot.vectors.protocol import VectorStore

DIMENSION = 8


def unit_vectors(n: int, seed: int = 0) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(seed).standard_normal((n, DIMENSION)))


def make_flat(path: Path, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> VectorStore:
    store = FlatStore(DIMENSION)
    store.add(ids, vectors)
    return store


def read(path: Path) -> FlatStore:
    data = path.read_bytes()
    return FlatStore.read(path, size=len(data), digest=hashlib.sha256(data).hexdigest())


def make_read(path: Path, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> VectorStore:
    store = FlatStore(DIMENSION)
    store.add(ids, vectors)
    store.save(path / "x.faiss")
    return read(path / "x.faiss")


def make_exact(path: Path, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> VectorStore:
    store = ExactStore(DIMENSION)
    store.add(ids, vectors)
    return store


Maker = Callable[[Path, NDArray[np.int64], NDArray[np.float32]], VectorStore]


@pytest.fixture(params=[make_exact, make_flat, make_read], ids=["exact", "flat", "read"])
def make(request: pytest.FixtureRequest) -> Maker:
    maker: Maker = request.param
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


def test_what_is_removed_is_found_no_more_and_its_id_is_free(make: Maker, tmp_path: Path) -> None:
    vectors = unit_vectors(4)
    store = make(tmp_path, IDS, vectors)
    assert store.remove(np.array([3, 99], dtype=np.int64)) == 1
    assert store.ids().tolist() == [5, 7, 11]
    assert 3 not in store.search(vectors, 4)[1].ids
    store.add(np.array([3], dtype=np.int64), vectors[:1])
    np.testing.assert_array_equal(store.vectors(np.array([3, 5], dtype=np.int64)), vectors[[0, 3]])


def test_it_refuses_what_an_index_would_take_in_silence(make: Maker, tmp_path: Path) -> None:
    vectors = unit_vectors(4)
    store = make(tmp_path, IDS, vectors)
    new = np.array([100], dtype=np.int64)
    nan = np.full((1, DIMENSION), np.nan, dtype=np.float32)
    for ids, bad in [
        (new, nan),
        (new, np.zeros((1, DIMENSION), dtype=np.float32)),
        (new, vectors[:1] * 2),
        (new, np.ones((1, 3), dtype=np.float32)),
        (IDS[:1], vectors[:1]),
        (np.array([100, 100], dtype=np.int64), vectors[:2]),
        (new, vectors[:2]),
    ]:
        with pytest.raises(ValueError, match=r"expected|once"):
            store.add(ids, bad)
    for query in (nan, np.zeros((1, DIMENSION), dtype=np.float32), np.ones((1, 3), dtype=np.float32)):
        with pytest.raises(ValueError, match="expected"):
            store.search(query, 1)
    with pytest.raises(KeyError):
        store.vectors(np.array([100], dtype=np.int64))
    assert store.ids().tolist() == [3, 5, 7, 11]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=30, unique_by=lambda row: row),
    k=st.integers(1, 40),
    seed=st.integers(0, 100),
)
def test_faiss_answers_as_the_oracle_does_ties_included(
    rows: list[tuple[int, int]], k: int, seed: int, tmp_path: Path
) -> None:
    distinct = unit_vectors(6, seed)
    vectors = distinct[[row for row, _ in rows]]
    ids = np.random.default_rng(seed).permutation(len(rows)).astype(np.int64)
    query = distinct[:1]
    flat, exact = make_flat(tmp_path, ids, vectors), make_exact(tmp_path, ids, vectors)
    near, truth = flat.search(query, k)[0], exact.search(query, k)[0]
    np.testing.assert_array_equal(near.scores, truth.scores)
    assert near.ids.tolist() == truth.ids.tolist()


def test_a_store_that_was_read_leaves_its_file_alone(tmp_path: Path) -> None:
    vectors = unit_vectors(4)
    store = make_read(tmp_path, IDS, vectors)
    before = (tmp_path / "x.faiss").read_bytes()
    store.remove(IDS[:2])
    store.add(np.array([50], dtype=np.int64), unit_vectors(1, 5))
    assert (tmp_path / "x.faiss").read_bytes() == before
    assert len(read(tmp_path / "x.faiss")) == 4


@pytest.mark.parametrize("content", [b"", b"not an index", b"IxMp" + bytes(60)])
def test_a_file_that_is_no_index_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.faiss").write_bytes(content)
    with pytest.raises(ValueError, match="not a FAISS index"):
        read(tmp_path / "x.faiss")


def test_no_byte_of_a_file_goes_unchecked(tmp_path: Path) -> None:
    make_flat(tmp_path, IDS, unit_vectors(4)).save(tmp_path / "x.faiss")  # type: ignore[attr-defined]
    data = bytearray((tmp_path / "x.faiss").read_bytes())
    digest = xxhash.xxh3_128(data).hexdigest()
    for position in range(len(data)):
        data[position] ^= 1 << position % 8
        (tmp_path / "x.faiss").write_bytes(data)
        with pytest.raises(ValueError, match="damaged"):
            FlatStore.read(tmp_path / "x.faiss", size=len(data), digest=digest)
        data[position] ^= 1 << position % 8
    with pytest.raises(ValueError, match="torn"):
        FlatStore.read(tmp_path / "x.faiss", size=len(data) + 1, digest=digest)


def test_a_copy_changes_alone(tmp_path: Path) -> None:
    first = FlatStore(DIMENSION)
    first.add(IDS, unit_vectors(4))
    other = first.copy()
    other.remove(IDS[:2])
    assert (len(first), len(other)) == (4, 2)
