"""The store: its directory and its lock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nearshot.schema.errors import StoreBusyError, StoreError, UsageError
from nearshot.schema.store import Store


def test_a_store_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nearshot index DATA"):
        Store(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_store_where_a_file_lies_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another with store"):
        Store(tmp_path / "file", create=True)


def test_the_second_to_hold_a_store_is_told_who_has_it(store: Store) -> None:
    with Store(store.directory) as second, store.held("nearshot index shots"):
        with (
            pytest.raises(StoreBusyError, match=rf"`nearshot index shots`, process {os.getpid()} on "),
            second.held("x"),
        ):
            pass
        with second.reading() as catalog:
            assert catalog.revision() == 0
    with Store(store.directory) as third, third.held("x"):
        pass
