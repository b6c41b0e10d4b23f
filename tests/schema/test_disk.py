"""Disk: regular files alone are read, and files are written whole or not at all."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from nearshot.schema.disk import NOT_REGULAR, open_regular, read_regular, sha256_of, written_whole


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe, listening = tmp_path / "pipe", tmp_path / "socket"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(listening))
        for path in (pipe, listening, Path("/dev/zero"), tmp_path):
            for read in (open_regular, read_regular, sha256_of):
                with pytest.raises(OSError, match=NOT_REGULAR) as refused:
                    read(path)
                assert refused.value.strerror == NOT_REGULAR
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing")


def test_more_than_may_be_read_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    assert read_regular(file, most=5) == b"12345"
    with pytest.raises(OSError, match="5 bytes are more than the cap of 4"):
        read_regular(file, most=4)


def test_a_file_is_replaced_by_a_whole_one_or_stays(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError), written_whole(file) as aside:  # noqa: PT012
        aside.write_text("half")
        raise ZeroDivisionError
    assert ([path.name for path in tmp_path.iterdir()], file.read_text()) == (["a"], "old")
    with written_whole(file, mode=0o600) as aside:
        aside.write_text("new")
        assert file.read_text() == "old"
    assert ([path.name for path in tmp_path.iterdir()], file.read_text()) == (["a"], "new")
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_went_wrong_is_told_even_where_cleaning_up_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("cannot delete")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(OSError, match="the disk is full"), written_whole(tmp_path / "a"):
        raise OSError("the disk is full")


def test_the_bytes_and_the_name_are_on_the_disk_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(descriptor: int) -> None:
        order.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def noting_replace(path: Path, target: Path) -> Path:
        order.append("renamed")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    with written_whole(tmp_path / "a") as aside:
        aside.write_text("new")
    assert order == [str(aside), "renamed", str(tmp_path)]
