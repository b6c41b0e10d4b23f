"""Approximate indexes: what they miss is measured, what they find is scored exactly, and to lose one costs no answer."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from nearshot.schema.disk import xxh3_of
from nearshot.schema.errors import StoreError
from nearshot.schema.segment_file import Segment, write_segment
from nearshot.schema.segments import Group, UsableImages
from nearshot.schema.vocabulary import Ann
from nearshot.vectors import ann
from nearshot.vectors.ann import AnnIndex, Measured, Recalls, write_ann
from nearshot.vectors.chain import Chain, Layer, Tail
from nearshot.vectors.normalise import normalise
from nearshot.vectors.segmented import SegmentedStore

KINDS = [Ann.IVF, Ann.HNSW]
COUNT, DIMENSION = 3000, 20


def clustered(count: int = COUNT, *, seed: int = 0) -> NDArray[np.float32]:
    """Vectors around thirty directions, the same for any seed: far more of each than are asked for."""
    centres = np.random.default_rng(9).standard_normal((30, DIMENSION))
    chance = np.random.default_rng(seed)
    return normalise(centres[np.arange(count) % 30] + 0.5 * chance.standard_normal((count, DIMENSION)))


def scattered(count: int = COUNT, *, seed: int = 1) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(seed).standard_normal((count, DIMENSION)))


def written(
    directory: Path, vectors: NDArray[np.float32], kind: Ann, words: NDArray[np.float32] | None = None
) -> tuple[Segment, AnnIndex]:
    count = len(vectors)
    file = write_segment(
        directory / "segment",
        [vectors],
        ids=np.arange(count) * 2,
        groups=[Group("c", "a", 0, count)],
        superseded=np.empty(0, dtype=np.int64),
        dimension=DIMENSION,
        of=["f", "query"],
    )
    segment = Segment(directory / "segment", size=file.size, digest=file.digest)
    path = directory / f"index.{kind}"
    recalls = write_ann(path, segment, kind, words=words)
    assert recalls is not None
    return segment, AnnIndex(path, digest=xxh3_of(path), kind=kind, vectors=count, recalls=recalls)


def store_of(segment: Segment, index: AnnIndex | None, tail: Tail | None = None) -> SegmentedStore:
    none = np.empty(0, dtype=np.int64)
    nothing = Tail(Layer(none, UsableImages(none, none, []), np.empty((0, DIMENSION), dtype=np.float32)))
    return Chain([segment], DIMENSION, [index]).store(tail or nothing)


@pytest.mark.parametrize("kind", KINDS)
def test_it_finds_what_the_recall_says_with_exact_scores(tmp_path: Path, kind: Ann) -> None:
    segment, index = written(tmp_path, clustered(), kind)
    store = store_of(segment, index)
    queries = clustered(100, seed=5)
    near, exact = store.search_near(queries, 10), store.search(queries, 10)
    overlap = np.mean([len(set(a.ids.tolist()) & set(b.ids.tolist())) / 10 for a, b in zip(near, exact, strict=True)])
    assert store.recall() == index.recalls.images.recall >= 0.99
    assert overlap >= 0.98
    for a, b in zip(near, exact, strict=True):
        told = dict(zip(b.ids.tolist(), b.scores.tolist(), strict=True))
        assert all(told[i] == score for i, score in zip(a.ids.tolist(), a.scores.tolist(), strict=True) if i in told)


def test_it_looks_at_a_part_of_the_vectors_only(tmp_path: Path) -> None:
    _, index = written(tmp_path, clustered(), Ann.IVF)
    [rows] = index.search(clustered(1, seed=5), COUNT, 4)
    assert 10 <= np.count_nonzero(rows >= 0) < COUNT / 2


def test_recall_is_what_was_found_of_the_ten_nearest_that_are_not_the_query(tmp_path: Path) -> None:
    vectors = clustered()
    _, index = written(tmp_path, vectors, Ann.IVF)
    asked = np.linspace(0, COUNT - 1, ann.SAMPLE).astype(np.int64)
    effort = index.recalls.images.effort
    hits = 0
    for row in np.unique(asked):
        scores = vectors @ vectors[row]
        scores[row] = -np.inf
        best = set(np.argsort(-scores)[:10].tolist())
        hits += len(best & set(index.search(vectors[row][None], 80, effort)[0].tolist()))
    assert index.recalls.images.recall == pytest.approx(hits / 10 / len(np.unique(asked)), abs=1e-3)


def test_where_vectors_lie_anywhere_more_is_looked_at_and_what_it_reaches_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ann.EFFORTS, Ann.IVF, (1, 2, 4))
    _, index = written(tmp_path, scattered(), Ann.IVF)
    easy = tmp_path / "easy"
    easy.mkdir()
    _, other = written(easy, clustered(), Ann.IVF)
    assert index.recalls.images.effort == 4
    assert index.recalls.images.recall < 0.9
    assert index.recalls.images.recall < other.recalls.images.recall


def test_words_have_a_recall_of_their_own_and_are_compared_with_all_where_it_is_low(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ann.EFFORTS, Ann.IVF, (2, 8))
    words = scattered(40)
    segment, index = written(tmp_path, clustered(), Ann.IVF, words)
    assert index.recalls.words is not None
    assert index.recalls.words.recall < 0.99 <= index.recalls.images.recall
    store = store_of(segment, index)
    assert store.recall(words=True) is None
    for a, b in zip(store.search_near(words, 10, words=True), store.search(words, 10), strict=True):
        assert a.ids.tolist() == b.ids.tolist()
    easy = tmp_path / "easy"
    easy.mkdir()
    _, other = written(easy, clustered(), Ann.IVF, clustered(40, seed=3))
    assert store_of(segment, other).recall(words=True) is not None
    _, few = written(easy, clustered(), Ann.IVF, clustered(ann.FEWEST_WORDS - 1, seed=3))
    assert few.recalls.words is None


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_superseded_is_not_named_and_what_is_newer_is(tmp_path: Path, kind: Ann) -> None:
    segment, index = written(tmp_path, clustered(), kind)
    query = clustered(1, seed=5)
    gone = store_of(segment, None).search(query, 50)[0].ids  # more than are asked for at first
    newer = np.array([1], dtype=np.int64)
    tail = Tail(Layer(np.sort(gone), UsableImages(newer, newer, [Group("c", "a", 0, 1)]), query))
    store = store_of(segment, index, tail)
    near, exact = store.search_near(query, 2)[0], store.search(query, 2)[0]
    assert near.ids.tolist() == exact.ids.tolist()
    assert near.ids[0] == 1


def test_more_are_asked_for_than_there_are(tmp_path: Path) -> None:
    segment, index = written(tmp_path, clustered(50), Ann.HNSW)
    store = store_of(segment, index)
    assert len(store.search_near(clustered(1, seed=5), 1000)[0].ids) == 50
    assert not len(store.search_near(clustered(1, seed=5), 0)[0].ids)


@pytest.mark.parametrize("at", [0, 200, -1])
def test_a_damaged_index_is_passed_over_and_all_are_compared(
    tmp_path: Path, at: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment, index = written(tmp_path, clustered(), Ann.IVF)
    data = bytearray(index.path.read_bytes())
    data[at] ^= 4
    index.path.write_bytes(data)
    store, query = store_of(segment, index), clustered(1, seed=5)
    read = mock.Mock(side_effect=xxh3_of)
    monkeypatch.setattr(ann, "xxh3_of", read)
    for _ in range(3):
        assert store.search_near(query, 10)[0].ids.tolist() == store.search(query, 10)[0].ids.tolist()
    assert "approximate index passed over" in caplog.text
    assert read.call_count == 1, "a damaged file is not read for every query"


def test_a_file_that_is_cut_short_while_it_is_open_is_no_longer_read(tmp_path: Path) -> None:
    segment, index = written(tmp_path, clustered(), Ann.IVF)
    store, query = store_of(segment, index), clustered(1, seed=5)
    store.search_near(query, 10)
    index.path.write_bytes(index.path.read_bytes()[:100])
    with pytest.raises(StoreError, match="changed by somebody"):
        index.search(query, 10, 4)
    assert store.search_near(query, 10)[0].ids.tolist() == store.search(query, 10)[0].ids.tolist()


def test_an_index_of_another_segment_is_passed_over(tmp_path: Path) -> None:
    segment, index = written(tmp_path, clustered(), Ann.IVF)
    other = AnnIndex(
        index.path,
        digest=xxh3_of(index.path),
        kind=Ann.IVF,
        vectors=COUNT + 1,
        recalls=Recalls(Measured(4, 1.0), None),
    )
    store, query = store_of(segment, other), clustered(1, seed=5)
    assert store.search_near(query, 10)[0].ids.tolist() == store.search(query, 10)[0].ids.tolist()


def test_only_the_blocks_that_hold_what_is_named_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearshot.schema.segment_file.BLOCK", 1 << 10)
    segment, index = written(tmp_path, clustered(), Ann.IVF)
    again = Segment(segment.path, size=segment.path.stat().st_size, digest=_digest(segment.path))
    before = int(again._checked.sum())
    store_of(again, index).search_near(clustered(1, seed=5), 1)
    checked = int(again._checked.sum()) - before
    assert 0 < checked <= 44 * 2, "forty-four rows are scored, each in two blocks at most"


def test_an_index_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    segment, _ = written(tmp_path, clustered(), Ann.IVF)
    with pytest.raises(OSError, match="no such directory"):
        write_ann(tmp_path / "no such directory/index", segment, Ann.IVF)


@pytest.mark.parametrize("kind", KINDS)
def test_built_again_on_other_threads_it_is_the_same_to_the_byte(tmp_path: Path, kind: Ann) -> None:
    if kind == Ann.HNSW and not hasattr(faiss, "hnsw_add_vertices_deterministic"):
        pytest.skip("this FAISS builds HNSW graphs in the order in which threads come by")
    segment, _ = written(tmp_path, clustered(), kind)
    digests = set()
    for number, threads in enumerate((1, 2, 4)):
        with threadpool_limits(threads):
            assert write_ann(tmp_path / f"{number}", segment, kind) is not None
        digests.add(_digest(tmp_path / f"{number}"))
    assert len(digests) == 1


def test_it_stops_when_it_is_told_to(tmp_path: Path) -> None:
    segment, _ = written(tmp_path, clustered(), Ann.IVF)
    assert write_ann(tmp_path / "stopped", segment, Ann.HNSW, should_stop=lambda: True) is None
    assert not (tmp_path / "stopped").exists()


def _digest(path: Path) -> str:
    import xxhash

    data = path.read_bytes()
    blocks = int.from_bytes(data[-8:], "little")
    return xxhash.xxh3_128(data[-(32 + 8 * blocks) :]).hexdigest()
