"""Snapshots: derived from the rows, following them, rebuilt when they are lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from nearshot.schema.catalog import SnapshotRow
from nearshot.schema.errors import StoreError
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.flat import FlatStore
from nearshot.vectors.protocol import VectorStore
from nearshot.vectors.snapshots import Scope, open_vectors, read_rows, write_snapshots
from tests.conftest import SMALL, Writer, run_index, save_crop


def scope(store: Store) -> Scope:
    with store.reading() as catalog:
        return Scope(catalog.backbones()[0], "things", Role.SUPPORT)


def opened(store: Store) -> VectorStore:
    with store.reading() as catalog:
        return open_vectors(store, catalog, scope(store))


def record(store: Store) -> SnapshotRow:
    with store.reading() as catalog:
        row = catalog.snapshot(scope(store).backbone.id, "things", Role.SUPPORT)
    assert row is not None
    return row


def assert_equals_rows(store: Store) -> None:
    with store.reading() as catalog:
        truth = read_rows(catalog, scope(store))
    vectors = opened(store)
    assert vectors.ids().tolist() == truth.ids().tolist()
    np.testing.assert_array_equal(vectors.vectors(truth.ids()), truth.vectors(truth.ids()))


def refuse_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> FlatStore:
        raise AssertionError("the snapshot should have served")

    monkeypatch.setattr("nearshot.vectors.snapshots.read_rows", refuse)


def test_a_whole_snapshot_serves_without_the_rows(store: Store, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_index(store, small)
    refuse_rows(monkeypatch)
    assert len(opened(store)) == 4


def test_rows_changed_since_the_snapshot_are_applied(
    store: Store, small: Path, write_data: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    before = record(store)
    write_data({"things/2.support-set/cat/shot3.png": "chelsea:6"})
    (small / "things/2.support-set/cat/shot1.png").unlink()
    save_crop(small / "things/2.support-set/cat/shot2.png", "chelsea:7")
    with monkeypatch.context() as patch:
        patch.setattr("nearshot.indexer.run.write_snapshots", lambda *_: 0)
        run_index(store, small)
    assert record(store) == before
    assert_equals_rows(store)
    refuse_rows(monkeypatch)
    assert len(opened(store)) == 4


@pytest.mark.parametrize("harm", ["lost", "torn", "empty", "another"])
def test_a_harmed_snapshot_is_passed_over_and_written_anew(store: Store, small: Path, harm: str) -> None:
    run_index(store, small)
    file = store.snapshot_directory / record(store).file
    content = file.read_bytes()
    if harm == "lost":
        shutil.rmtree(store.snapshot_directory)
        store.snapshot_directory.mkdir()
    elif harm == "another":
        file.write_bytes(b"\0" * len(content))
    else:
        file.write_bytes(content[:100] if harm == "torn" else b"")
    assert_equals_rows(store)
    if harm != "another":  # of the same size: only `verify` reads every byte
        run_index(store, small)
        assert (store.snapshot_directory / record(store).file).read_bytes() == content


def test_a_crash_between_writing_and_recording_leaves_the_old_one(
    store: Store, small: Path, write_data: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    before = record(store)
    write_data({"things/2.support-set/cat/shot3.png": "chelsea:6"})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nearshot.schema.editor.Editor.record_snapshot", die)
        with pytest.raises(KeyboardInterrupt):
            run_index(store, small)
    assert record(store) == before
    assert_equals_rows(store)
    run_index(store, small)
    with store.reading() as catalog:
        recorded = {row.file for row in catalog.snapshots()}
    assert {path.name for path in store.snapshot_directory.iterdir()} == recorded


def test_an_unchanged_scope_is_not_written_again(store: Store, small: Path) -> None:
    run_index(store, small)
    assert write_snapshots(store, [scope(store)]) == 0
    before = record(store)
    run_index(store, small)
    assert record(store) == before


def test_a_snapshot_that_cannot_be_written_is_a_clear_error_and_loses_nothing(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FlatStore.save
    with monkeypatch.context() as patch:
        patch.setattr(FlatStore, "save", lambda self, path: real(self, Path("/dev/full")))
        with pytest.raises(StoreError, match="all vectors are safe in the database"):
            run_index(store, small)
    assert list(store.snapshot_directory.iterdir()) == []
    assert_equals_rows(store)
    run_index(store, small)
    assert_equals_rows(store)


def test_support_and_queries_never_share_a_snapshot(store: Store, small: Path) -> None:
    run_index(store, small)
    with store.reading() as catalog:
        by_role = {row.role: row.vectors for row in catalog.snapshots()}
        assert by_role == {"support": 4, "query": 2}
    assert len(SMALL) == 6


def test_a_reader_that_began_before_a_writer_swept_reads_the_rows_and_says_nothing(
    store: Store, small: Path, write_data: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    run_index(store, small)
    with store.reading() as catalog:
        before = catalog.revision()
        write_data({"things/2.support-set/cat/shot3.png": "chelsea:6"})
        run_index(store, small)
        assert catalog.revision() == before, "it still sees the old state, whose snapshot is gone"
        assert len(open_vectors(store, catalog, scope(store))) == 4
    assert caplog.text == ""
