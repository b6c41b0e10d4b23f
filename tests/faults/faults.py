"""Faults: the n-th operation on the disk or the database fails, or is the last that the process does."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any
from unittest import mock

import faiss
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

DIED = 86
"""The exit status of a process that died of its n-th operation."""

SQL = "sql"
"""The name of a database's operation."""

STATEMENTS = ("INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "BEGIN IMMEDIATE")
"""What counts among statements: what changes something, or takes the right to."""


class Fault(StrEnum):
    """What becomes of the n-th operation."""

    FULL = "the disk is full"
    BROKEN = "the disk is broken"
    DEATH = "the process dies"


@contextmanager
def faults(at: int, fault: Fault) -> Iterator[Callable[[], int]]:
    """Count the operations; the one numbered `at` (from 1) meets the fault. Yields the question how many there were.

    Death is os._exit, in the middle of whatever goes on.
    """
    count = 0

    def strike(what: str, *_: Any) -> None:
        nonlocal count
        count += 1
        if count != at:
            return
        if fault == Fault.DEATH:
            os._exit(DIED)
        if what == SQL:
            reason = "database or disk is full" if fault == Fault.FULL else "disk I/O error"
            raise OperationalError("a statement", {}, sqlite3.OperationalError(reason))
        code = errno.ENOSPC if fault == Fault.FULL else errno.EIO
        raise OSError(code, os.strerror(code))

    with operations(strike):
        yield lambda: count


@contextmanager
def operations(before: Callable[..., None]) -> Iterator[None]:
    """Call `before` ahead of every operation: a write, sync, renaming or deletion, a changing statement, a commit.

    It is given the operation's name (SQL for the database's) and, of a file's, its arguments.
    """

    def announced(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            before(name, *arguments)
            return real(*arguments, **named)

        return call

    real_open, real_io_open = os.open, io.open

    def open_descriptor(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR) and not str(path).endswith("/lock"):
            before("open", path)
        return real_open(path, flags, *more, **named)

    def open_stream(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        if set(mode) & set("wax+"):
            before("open", file)
        return real_io_open(file, mode, *more, **named)

    def on_statement(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().upper().startswith(STATEMENTS):
            before(SQL)

    def on_commit(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("writes"):
            before(SQL)

    names = ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir")
    patches = [mock.patch.object(os, name, announced(name, getattr(os, name))) for name in names]
    patches += [mock.patch.object(faiss, "write_index", announced("write_index", faiss.write_index))]
    patches += [mock.patch.object(os, "open", open_descriptor), mock.patch.object(io, "open", open_stream)]
    listeners: list[tuple[str, Callable[..., Any]]] = [("before_cursor_execute", on_statement), ("commit", on_commit)]
    for patch in patches:
        patch.start()
    for name, listener in listeners:
        sa.event.listen(sa.Engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners:
            sa.event.remove(sa.Engine, name, listener)
        for patch in patches:
            patch.stop()
