"""The database: connections, transactions, and bringing its schema up to date. The dialect's own rules live here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, OperationalError

from nearshot.schema.digests import FUNCTION, INTACT, digest_of, intact_or_empty
from nearshot.schema.errors import StoreBusyError, StoreError

HEAD = "0011"
"""The newest migration; a test holds it to the scripts in migrations/, so that opening a store need not import Alembic."""

BUSY_TIMEOUT_S = 30.0


class Database:
    """A connection pool on an up-to-date schema. Safe to share between threads; each call takes its own connection."""

    def __init__(self, url: str) -> None:
        """Open the database at an SQLAlchemy URL, upgrading an older schema and refusing a newer one (StoreError)."""
        self.url = url
        self.engine = _engine(url)
        with _translated(url):
            self._bring_up_to_date()

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

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    def _bring_up_to_date(self) -> None:
        with self.engine.begin() as connection:
            current = _version(connection)
        if current == HEAD:
            return
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


def _engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, never by the driver in mid-statement
        connection.create_function(FUNCTION, -1, digest_of, deterministic=True)
        connection.create_function(INTACT, -1, intact_or_empty, deterministic=True)
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once: a deferred transaction that turns writer can fail half way.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn the driver's errors into a StoreError that says what to do."""
    try:
        yield
    except OperationalError as error:
        reason = str(error.orig)
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


def _place(url: str) -> str:
    parsed = make_url(url)
    return parsed.database or parsed.render_as_string(hide_password=True)
