"""SQLite: how it is opened, to write or only to read, what its errors mean, and how it gives space back."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from nearshot.schema.digests import FUNCTION, INTACT, digest_of, intact_or_empty
from nearshot.schema.errors import StoreBusyError, StoreError

BUSY_TIMEOUT_S = 30.0

UNWRITABLE = frozenset(
    {
        "attempt to write a readonly database",
        "unable to open database file",
        "database or disk is full",
        "disk I/O error",
    }
)
"""What SQLite says of a database that cannot be written: it may still be read."""

SPARE = 16 << 20
"""Bytes of free pages below which the database keeps them for what comes next."""

ROOM = 1 << 20
"""Free bytes below which a disk counts as full."""


READING: Mapping[str, Any] = {}
"""Options of a transaction that reads: each sees one state anyway."""


def shown_location(url: str) -> str:
    """Where a database lies, as people are told."""
    return make_url(url).database or url


def begin_to_write(connection: Connection) -> None:
    """Nothing: the transaction has begun as the only one that writes."""


def engine_of(url: str) -> Engine:
    """A pool of connections to the file of an SQLAlchemy URL."""
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, never by the driver in mid-statement
        _register(connection)
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # some builds of SQLite leave a commit to the next one's sync
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    _begin_by_ourselves(engine)
    return engine


def engines_to_read(url: str) -> Iterator[Engine]:
    """Engines for a file that is there and cannot be written, in the order in which they are to be tried."""
    file = make_url(url).database
    if file is None or not Path(file).is_file():
        return
    # Where there is nothing beside it that was not written into it, the file alone is all there is.
    alone = not Path(f"{file}-wal").exists()
    for how in ("mode=ro", *(["mode=ro&immutable=1"] if alone else [])):
        yield _read_only_engine(f"file:{quote(file)}?{how}")


def _read_only_engine(uri: str) -> Engine:
    """An engine for an SQLite file that is only read."""
    engine = create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False), poolclass=QueuePool
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        _register(connection)

    _begin_by_ourselves(engine)
    return engine


def _register(connection: Any) -> None:
    """Give a connection the functions that queries and triggers call."""
    connection.create_function(FUNCTION, -1, digest_of, deterministic=True)
    connection.create_function(INTACT, -1, intact_or_empty, deterministic=True)


def _begin_by_ourselves(engine: Engine) -> None:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once: a deferred transaction that turns writer can fail half way.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def maintain(engine: Engine, *, shrunk: bool) -> None:
    """Give the disk back free pages, where they are many and more than the others, or rows have `shrunk` that leave theirs
    half empty; not while others write.
    """
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        pages, free, size = (
            raw.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        if shrunk or (2 * free > pages and free * size >= SPARE):
            with suppress(sqlite3.DatabaseError):  # no room for the copy, somebody writes, or what `verify` finds
                raw.execute("VACUUM")


def explained(error: DBAPIError, url: str) -> StoreError:
    """What an error of the driver means, and what to do."""
    if not isinstance(error, OperationalError):
        return StoreError(f"{shown_location(url)}: {error.orig}; is it a nearshot store?")
    reason = str(error.orig)
    if reason == "disk I/O error" and _is_full(url):
        reason = "database or disk is full"
    remedy = {
        "database or disk is full": "free some space and run again; what was committed is intact",
        "database is locked": "another process is writing; try again when it is done",
        "attempt to write a readonly database": "give write permission on the store's directory",
        "unable to open database file": "check that the store's directory exists and may be written",
    }
    if reason == "database is locked":
        return StoreBusyError(f"{shown_location(url)}: {remedy[reason]}")
    advice = remedy.get(reason, "`nearshot verify` looks for damage")
    return StoreError(f"{shown_location(url)}: {reason}; {advice}")


def _is_full(url: str) -> bool:
    """Tell whether the disk of a database has no room left: SQLite calls that a broken disk where it maps a file."""
    file = make_url(url).database
    try:
        return file is not None and shutil.disk_usage(Path(file).parent).free < ROOM
    except OSError:
        return False
