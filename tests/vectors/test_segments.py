"""Segments of a store: derived from the rows, following them, rebuilt when they are lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import StoreError
from nearshot.schema.segment_file import write_segment
from nearshot.schema.segments import SegmentRow, segment_files, segment_rows
from nearshot.schema.store import Store
from nearshot.schema.vectors import stored_vectors
from nearshot.schema.vocabulary import Role
from nearshot.vectors import segments
from nearshot.vectors.segmented import SegmentedStore
from nearshot.vectors.segments import open_vectors, read_rows, write_segments
from tests.conftest import SMALL, Writer, run_index, save_crop


def backbone(store: Store) -> BackboneRow:
    with store.reading() as catalog:
        return catalog.backbones()[0]


def opened(store: Store, category: str | None = None) -> SegmentedStore:
    with store.reading() as catalog:
        return open_vectors(store, catalog, backbone(store), Role.SUPPORT, category=category)


def records(store: Store) -> list[SegmentRow]:
    with store.reading() as catalog:
        return segment_rows(catalog).get((backbone(store).id, Role.SUPPORT), [])


def assert_equals_rows(store: Store) -> None:
    for category in (None, "things", "no such"):
        with store.reading() as catalog:
            truth = read_rows(catalog, backbone(store), Role.SUPPORT, category=category)
        vectors = opened(store, category)
        assert vectors.ids().tolist() == truth.ids().tolist()
        np.testing.assert_array_equal(vectors.vectors(truth.ids()), truth.vectors(truth.ids()))
        assert vectors.labels() == truth.labels()


def refuse_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> SegmentedStore:
        raise AssertionError("the segments should have served")

    monkeypatch.setattr(segments, "read_rows", refuse)


def test_whole_segments_serve_without_the_rows(store: Store, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_index(store, small)
    refuse_rows(monkeypatch)
    assert len(opened(store)) == 4


def test_rows_changed_since_are_applied(
    store: Store, small: Path, write_data: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    before = records(store)
    write_data({"things/2.support-set/cat/shot3.png": "chelsea:6"})
    (small / "things/2.support-set/cat/shot1.png").unlink()
    save_crop(small / "things/2.support-set/cat/shot2.png", "chelsea:7")
    with monkeypatch.context() as patch:
        patch.setattr("nearshot.indexer.run.write_segments", lambda *_: 0)
        run_index(store, small)
    assert records(store) == before
    assert_equals_rows(store)
    refuse_rows(monkeypatch)
    assert len(opened(store)) == 4


def test_who_has_a_state_open_reads_only_what_is_newer(
    store: Store, small: Path, write_data: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    monkeypatch.setattr("nearshot.indexer.run.write_segments", lambda *_: 0)
    read: list[int] = []

    def counted(catalog: Catalog, row: BackboneRow, contents: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        read.append(len(contents))
        return stored_vectors(catalog, row, contents)

    monkeypatch.setattr("nearshot.vectors.stored.stored_vectors", counted)
    held = [opened(store)]
    for number in range(3, 6):
        write_data({f"things/2.support-set/cat/shot{number}.png": f"chelsea:{number}"})
        (small / f"things/2.support-set/cat/shot{number - 1}.png").unlink()
        run_index(store, small)
        read.clear()
        held.append(opened(store))
        assert sum(read) == 1, "the others were read before"
        with store.reading() as catalog:
            truth = read_rows(catalog, backbone(store), Role.SUPPORT)
        assert held[-1].ids().tolist() == truth.ids().tolist()
        np.testing.assert_array_equal(held[-1].vectors(truth.ids()), truth.vectors(truth.ids()))
        assert held[-1].labels() == truth.labels()


def test_what_changed_goes_into_a_segment_of_its_own(store: Store, small: Path, write_data: Writer) -> None:
    write_data({f"things/2.support-set/cat/shot{n}.png": f"chelsea:{n}" for n in range(10, 20)})
    run_index(store, small)
    [first] = records(store)
    write_data({"things/2.support-set/cat/shot3.png": "chelsea:6"})
    run_index(store, small)
    [same, newest] = records(store)
    assert same == first
    assert (newest.vectors, newest.since) == (1, first.revision)
    assert_equals_rows(store)


def test_segments_that_have_grown_are_merged_and_few(store: Store, small: Path, write_data: Writer) -> None:
    written = 0
    for n in range(30, 60):
        write_data({f"things/2.support-set/cat/shot{n}.png": f"chelsea:{n}"})
        before = {record.file for record in records(store)} if n > 30 else set()
        run_index(store, small)
        written += sum(record.vectors for record in records(store) if record.file not in before)
        assert len(records(store)) <= 7
        assert_equals_rows(store)
        with store.reading() as catalog:
            assert {path.name for path in store.segment_directory.iterdir()} == segment_files(catalog)
    assert written <= 34 * 4, "each vector is written a few times, not once per run"


def test_a_run_that_changes_nothing_writes_nothing(store: Store, small: Path) -> None:
    run_index(store, small)
    assert write_segments(store, [backbone(store)]) == 0
    before = records(store)
    run_index(store, small)
    assert records(store) == before


@pytest.mark.parametrize("harm", ["lost", "torn", "empty", "ids", "vectors"])
def test_harmed_segments_are_passed_over_and_written_anew(
    store: Store, small: Path, write_data: Writer, harm: str
) -> None:
    run_index(store, small)
    write_data({"things/2.support-set/cat/shot3.png": "chelsea:6"})
    run_index(store, small)
    file = store.segment_directory / records(store)[0].file
    content = bytearray(file.read_bytes())
    if harm == "lost":
        shutil.rmtree(store.segment_directory)
        store.segment_directory.mkdir()
    elif harm == "ids":
        content[-300] ^= 1
        file.write_bytes(content)
    elif harm == "vectors":
        content[200] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(content[:100] if harm == "torn" else b"")
    assert_equals_rows(store)
    write_data({f"things/2.support-set/cat/shot{n}.png": f"chelsea:{n}" for n in range(20, 40)})
    run_index(store, small)
    assert_equals_rows(store)
    with store.reading() as catalog:
        assert {path.name for path in store.segment_directory.iterdir()} == segment_files(catalog)
    for record in records(store):
        assert segments.damage(store, backbone(store), record) is None


def test_a_crash_between_writing_and_recording_leaves_the_old_ones(
    store: Store, small: Path, write_data: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    before = records(store)
    write_data({"things/2.support-set/cat/shot3.png": "chelsea:6"})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(segments, "record_segment", die)
        with pytest.raises(KeyboardInterrupt):
            run_index(store, small)
    assert records(store) == before
    assert_equals_rows(store)
    run_index(store, small)
    with store.reading() as catalog:
        assert {path.name for path in store.segment_directory.iterdir()} == segment_files(catalog)


def test_segments_that_cannot_be_written_are_a_clear_error_and_nothing_is_lost(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            segments, "write_segment", lambda path, *rest, **more: write_segment(Path("/dev/full"), *rest, **more)
        )
        with pytest.raises(StoreError, match="all vectors are safe in the database"):
            run_index(store, small)
    assert list(store.segment_directory.iterdir()) == []
    assert_equals_rows(store)
    run_index(store, small)
    assert_equals_rows(store)


def test_support_and_queries_never_share_a_segment(store: Store, small: Path) -> None:
    run_index(store, small)
    with store.reading() as catalog:
        by_role = {role: [row.vectors for row in rows] for (_, role), rows in segment_rows(catalog).items()}
        assert by_role == {"support": [4], "query": [2]}
    assert len(SMALL) == 6


def test_a_reader_that_began_before_a_writer_swept_reads_the_rows_and_says_nothing(
    store: Store, small: Path, write_data: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    run_index(store, small)
    with store.reading() as catalog:
        before = catalog.revision()
        write_data({f"things/2.support-set/cat/shot{n}.png": f"chelsea:{n}" for n in range(20, 40)})
        run_index(store, small)
        assert catalog.revision() == before, "it still sees the old state, whose segment is gone"
        assert len(open_vectors(store, catalog, backbone(store), Role.SUPPORT)) == 4
    assert caplog.text == ""


def test_who_opens_the_same_state_shares_it(store: Store, small: Path) -> None:
    run_index(store, small)
    first = opened(store)
    assert opened(store) is first
    assert opened(store, "things") is not first


def test_what_earlier_versions_kept_is_swept_away(store: Store, small: Path) -> None:
    (store.directory / "snapshots").mkdir()
    (store.directory / "snapshots/old.faiss").write_bytes(b"old")
    run_index(store, small)
    assert not (store.directory / "snapshots").exists()
