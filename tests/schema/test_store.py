"""The store: its directory and its lock."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.sources import read_queries
from nearshot.schema.errors import StoreBusyError, StoreError, UsageError
from nearshot.schema.store import DATABASE_FILE, Store
from tests.conftest import as_nobody, run_index

pytestmark = pytest.mark.both_stores

CAT = "things/6.preprocessed/cat/a.png"


def test_a_store_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nearshot index DATA"):
        Store(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_store_where_a_file_lies_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another with store"):
        Store(tmp_path / "file", create=True)


def test_the_second_to_hold_a_store_is_told_who_has_it(store: Store) -> None:
    with Store(store.location) as second, store.held("nearshot index shots"):
        with (
            pytest.raises(StoreBusyError, match=rf"`nearshot index shots`, process {os.getpid()} on "),
            second.held("x"),
        ):
            pass
        with second.reading() as catalog:
            assert catalog.revision() == 0
    with Store(store.location) as third, third.held("x"):
        pass


def test_what_stands_apart_keeps_only_its_like_out(store: Store) -> None:
    apart = ("nearshot mirror here", "mirror here")
    with Store(store.location) as second, store.held(*apart, apart=True):
        with second.held("nearshot index shots", "shots"), second.held("x", "mirror there", apart=True):
            pass
        with second.held("nearshot verify"):
            pass
        with pytest.raises(StoreBusyError, match="`nearshot mirror here`"), second.held(*apart, apart=True):
            pass


@pytest.mark.of_segments
def test_an_empty_database_is_not_taken_for_a_new_one(store: Store) -> None:
    store.close()
    (store.directory / DATABASE_FILE).write_bytes(b"")
    with pytest.raises(StoreError, match="is empty: what it held is lost; restore it from a backup"):
        Store(store.location)
    assert (store.directory / DATABASE_FILE).stat().st_size == 0


@pytest.mark.parametrize("left", ["alone", "with its log"])
def test_a_store_that_cannot_be_written_is_read_and_says_so_when_it_is_written(small: Path, left: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        data, directory_of_store = Path(shutil.copytree(small, f"{directory}/data")), Path(directory, "store")
        with Store(directory_of_store, create=True) as store:
            run_index(store, data)
            if left == "with its log":
                for file in store.directory.glob(f"{DATABASE_FILE}*"):
                    shutil.copy(file, f"{file}.kept")
        for file in directory_of_store.glob("*.kept"):
            file.rename(file.with_suffix(""))
        for path in (directory_of_store, *directory_of_store.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        with as_nobody(Path(directory)), Store(directory_of_store) as store:
            [answer] = Retriever(store, QueryOptions(backbone="hog")).answer(read_queries([data / CAT]))
            assert answer.label == "cat"
            with pytest.raises(StoreError, match=r"give write permission|cannot lock"):
                run_index(store, data)
            with pytest.raises(StoreError, match="give write permission on"), store.writing() as editor:
                editor.add_root("/elsewhere")


@pytest.mark.of_segments
def test_a_disk_that_is_full_is_called_full(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(StoreError, match="database or disk is full; free some space"), store.writing():
        raise OperationalError("a statement", {}, sqlite3.OperationalError("disk I/O error"))
