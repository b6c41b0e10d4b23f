"""The database: connections, transactions, and bringing its schema up to date. The dialect's own rules live here."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import QueuePool

from nearshot.schema.digests import FUNCTION, INTACT, digest_of, intact_or_empty
from nearshot.schema.errors import StoreBusyError, StoreError

HEAD = "0016"
"""The newest migration; a test holds it to the scripts in migrations/, so that opening a store need not import Alembic."""

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


class Database:
    """A connection pool on an up-to-date schema. Safe to share between threads; each call takes its own connection."""

    def __init__(self, url: str, *, upgrade: bool = True) -> None:
        """Open the database at an SQLAlchemy URL, upgrading an older schema and refusing a newer one (StoreError).

        Without `upgrade`, an older one is refused, too.
        """
        self.url = url
        self.engine = _engine(url)
        with _translated(url):
            try:
                self._bring_up_to_date(upgrade=upgrade)
            except OperationalError as error:
                if str(error.orig) not in UNWRITABLE or not self._open_to_read():
                    raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction: every query inside sees one state of the database."""
        with _translated(self.url), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction, exclusive from its first statement: committed whole at the end, or not at all."""
        with (
            _translated(self.url),
            self.engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    def give_back_space(self, *, shrunk: bool) -> None:
        """Give the disk back free pages, where they are many and more than the others, or rows have `shrunk` that leave theirs
        half empty; not while others write.
        """
        with self.engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            pages, free, size = (
                raw.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
            )
            if shrunk or (2 * free > pages and free * size >= SPARE):
                with suppress(sqlite3.DatabaseError):  # no room for the copy, somebody writes, or what `verify` finds
                    raw.execute("VACUUM")

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    def _open_to_read(self) -> bool:
        """Open a database that cannot be written, to read it; False where that fails, or where it is not up to date."""
        file = make_url(self.url).database
        if file is None or not Path(file).is_file():
            return False
        # Where there is nothing beside it that was not written into it, the file alone is all there is.
        alone = not Path(f"{file}-wal").exists()
        for how in ("mode=ro", *(["mode=ro&immutable=1"] if alone else [])):
            engine = _read_only_engine(f"file:{quote(file)}?{how}")
            try:
                with engine.begin() as connection:
                    if _version(connection) == HEAD:
                        self.engine.dispose()
                        self.engine = engine
                        return True
            except DatabaseError:
                pass
            engine.dispose()
        return False

    def _bring_up_to_date(self, *, upgrade: bool) -> None:
        with self.engine.begin() as connection:
            current = _version(connection)
        if current == HEAD:
            return
        if not upgrade:
            raise StoreError("this store is of another version; `nearshot status` brings an earlier one up to date")
        with self.writing() as connection:
            if _version(connection) != HEAD:  # another process may have upgraded it meanwhile
                _upgrade(connection)


def _version(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("path_separator", "os")
    config.set_main_option("script_location", str(resources.files("nearshot.migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    current = _version(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise StoreError(
            f"this store was written by a newer nearshot (schema {current}, this one knows {HEAD}); upgrade nearshot"
        )
    command.upgrade(config, "head")


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


def _engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url)
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


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn the driver's errors into a StoreError that says what to do."""
    try:
        yield
    except OperationalError as error:
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
            raise StoreBusyError(f"{_place(url)}: {remedy[reason]}") from error
        advice = remedy.get(reason, "`nearshot verify` looks for damage")
        raise StoreError(f"{_place(url)}: {reason}; {advice}") from error
    except UnicodeDecodeError as error:
        raise StoreError(f"{_place(url)}: a text in it is damaged; `nearshot verify` looks for more") from error
    except DatabaseError as error:
        raise StoreError(f"{_place(url)}: {error.orig}; is it a nearshot store?") from error


def _is_full(url: str) -> bool:
    """Tell whether the disk of a database has no room left: SQLite calls that a broken disk where it maps a file."""
    file = make_url(url).database
    try:
        return file is not None and shutil.disk_usage(Path(file).parent).free < ROOM
    except OSError:
        return False


def _place(url: str) -> str:
    parsed = make_url(url)
    return parsed.database or parsed.render_as_string(hide_password=True)
