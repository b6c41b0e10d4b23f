"""Segment files: what FAISS reads of them, and that no byte goes unchecked."""

from __future__ import annotations

import os
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from nearshot.schema import segment_file
from nearshot.schema.errors import StoreError
from nearshot.schema.segment_file import Segment, Written, write_segment
from nearshot.schema.segments import NONE, Group
from nearshot.schema.vocabulary import VectorKind
from nearshot.vectors.normalise import normalise

IDS = np.array([7, 3, 11, 5, 6], dtype=np.int64)
GROUPS = [Group("things", None, 0, 1), Group("things", "cup", 1, 4), Group("trees", "oak", 4, 5)]


def write(path: Path, vectors: NDArray[np.float32], superseded: NDArray[np.int64] = NONE) -> Written:
    parts = [vectors[:2], vectors[2:]]
    of = ["fingerprint", "support"]
    dimension = vectors.shape[1]
    return write_segment(path, parts, ids=IDS, groups=GROUPS, superseded=superseded, dimension=dimension, of=of)


def unit_vectors() -> NDArray[np.float32]:
    return normalise(np.random.default_rng(0).standard_normal((5, 8)))


def test_it_holds_what_was_written(tmp_path: Path) -> None:
    vectors = unit_vectors()
    written = write(tmp_path / "a", vectors, np.array([2, 100], dtype=np.int64))
    opened = Segment(tmp_path / "a", size=written.size, digest=written.digest)
    assert (opened.ids.tolist(), opened.groups) == (IDS.tolist(), GROUPS)
    assert opened.superseded.tolist() == [2, 3, 5, 6, 7, 11, 100], "its own ids are among them"
    assert (opened.dimension, opened.of) == (8, ["fingerprint", "support"])
    np.testing.assert_array_equal(opened.rows(1, 4), vectors[1:4])


def test_the_file_is_the_faiss_index_that_faiss_would_write(tmp_path: Path) -> None:
    axes = np.eye(8, dtype=np.float32)[[0, 3, 5, 1, 2]]  # which are of length 1 to the last bit
    write(tmp_path / "a", axes)
    index = faiss.index_factory(8, "IDMap2,L2norm,Flat", faiss.METRIC_INNER_PRODUCT)
    index.add_with_ids(axes, IDS)
    theirs = faiss.serialize_index(index).tobytes()
    assert (tmp_path / "a").read_bytes()[: len(theirs)] == theirs


def test_faiss_reads_it_and_finds_by_cosine(tmp_path: Path) -> None:
    vectors = unit_vectors()
    write(tmp_path / "a", vectors)
    index = faiss.read_index(str(tmp_path / "a"))
    scores, ids = index.search(vectors, 1)
    assert ids[:, 0].tolist() == IDS.tolist()
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-6)


def test_vectors_are_aligned_for_arithmetic_without_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_file, "MAPPED", 1)
    written = write(tmp_path / "a", unit_vectors())
    rows = Segment(tmp_path / "a", size=written.size, digest=written.digest).rows(0, 5)
    assert rows.flags.aligned
    assert not rows.flags.writeable
    assert rows.base is not None


@pytest.mark.parametrize("mapped", [1, 1 << 30], ids=["mapped", "in memory"])
def test_no_byte_of_a_file_goes_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: int) -> None:
    monkeypatch.setattr(segment_file, "MAPPED", mapped)
    monkeypatch.setattr(segment_file, "BLOCK", 64)
    written = write(tmp_path / "a", unit_vectors(), np.array([2], dtype=np.int64))
    data = bytearray((tmp_path / "a").read_bytes())
    for position in range(len(data)):
        data[position] ^= 1 << position % 8
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(StoreError, match=r"damaged|no segment"):
            Segment(tmp_path / "a", size=written.size, digest=written.digest).rows(0, 5)
        data[position] ^= 1 << position % 8


def test_only_what_is_asked_for_is_checked_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_file, "BLOCK", 32)
    vectors = unit_vectors()
    written = write(tmp_path / "a", vectors)
    data = bytearray((tmp_path / "a").read_bytes())
    data[segment_file.VECTORS_AT[VectorKind.FLOAT32] + 4 * 32] ^= 1  # the last vector
    (tmp_path / "a").write_bytes(data)
    opened = Segment(tmp_path / "a", size=written.size, digest=written.digest)
    np.testing.assert_array_equal(opened.rows(0, 3), vectors[:3])
    for _ in range(2):
        with pytest.raises(StoreError, match="damaged"):
            opened.rows(4, 5)


@pytest.mark.parametrize("content", [b"", b"no segment", b"IxM2" + bytes(300)])
def test_a_file_that_is_no_segment_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(StoreError, match=r"torn|no segment"):
        Segment(tmp_path / "a", size=len(content), digest="0" * 32)


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    written = write(tmp_path / "a", unit_vectors())
    os.truncate(tmp_path / "a", written.size - 1)
    with pytest.raises(StoreError, match="torn"):
        Segment(tmp_path / "a", size=written.size, digest=written.digest)


def test_a_mapped_file_that_is_cut_short_is_an_error_and_no_end_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_file, "MAPPED", 1)
    written = write(tmp_path / "a", unit_vectors())
    opened = Segment(tmp_path / "a", size=written.size, digest=written.digest)
    assert not opened.is_changed()
    opened.rows(0, 5)
    os.truncate(tmp_path / "a", 10)
    assert opened.is_changed()
    with pytest.raises(StoreError, match="changed by somebody"):
        opened.rows(0, 5)


def test_a_small_file_is_in_memory_and_whatever_becomes_of_it_is_all_the_same(tmp_path: Path) -> None:
    vectors = unit_vectors()
    written = write(tmp_path / "a", vectors)
    opened = Segment(tmp_path / "a", size=written.size, digest=written.digest)
    (tmp_path / "a").write_bytes(b"")
    np.testing.assert_array_equal(opened.rows(0, 5), vectors)


def test_a_segment_without_vectors_tells_what_is_gone(tmp_path: Path) -> None:
    written = write_segment(
        tmp_path / "a",
        [],
        ids=NONE,
        groups=[],
        superseded=np.array([4], dtype=np.int64),
        dimension=8,
        of=["f", "query"],
    )
    opened = Segment(tmp_path / "a", size=written.size, digest=written.digest)
    assert (len(opened.ids), opened.groups, opened.superseded.tolist()) == (0, [], [4])
    assert opened.rows(0, 0).shape == (0, 8)
