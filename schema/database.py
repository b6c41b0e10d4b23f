"""The database: connections, transactions, and bringing its schema up to date. What the dialects have of their own lies in
`schema.sqlite` and `schema.postgres`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from nearshot.schema import postgres, sqlite
from nearshot.schema.errors import NearshotError, StoreBusyError, StoreError
from nearshot.schema.location import is_address

HEAD = "0018"
"""The newest migration; a test holds it to the scripts in migrations/, so that opening a store need not import Alembic."""

COPYING = f"copying {HEAD} "
"""What stands in the place of the migration while a store is being copied into a database, followed by which store."""


class _Dialect(Protocol):
    """What a dialect has of its own: `schema.sqlite` and `schema.postgres`."""

    READING: Mapping[str, Any]

    def shown_location(self, url: str) -> str: ...
    def engine_of(self, url: str) -> Engine: ...
    def begin_to_write(self, connection: Connection) -> None: ...
    def maintain(self, engine: Engine, *, shrunk: bool) -> None: ...
    def explained(self, error: DBAPIError, url: str) -> NearshotError: ...


class Database:
    """A connection pool on an up-to-date schema. Safe to share between threads; each call takes its own connection."""

    def __init__(self, url: str, *, create: bool = True, upgrade: bool = True, unfinished: bool = False) -> None:
        """Open the database at an SQLAlchemy URL, or a PostgreSQL one, upgrading an older schema and refusing a newer one
        (StoreError). `create` makes one where there is none; else `is_empty` tells.

        Without `upgrade`, an older one is refused, too; and one that a store was not wholly copied into, unless `unfinished`.
        """
        self.url = url
        self._unfinished = unfinished
        self._dialect: _Dialect = postgres if is_address(url) else sqlite
        self.engine = self._dialect.engine_of(url)
        self.is_empty = False
        try:
            with self.explaining():
                try:
                    self._bring_up_to_date(create=create, upgrade=upgrade)
                except OperationalError as error:
                    if str(error.orig) not in sqlite.UNWRITABLE or not self._open_to_read():
                        raise
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction: every query inside sees one state of the database."""
        with (
            self.explaining(),
            self.engine.connect().execution_options(**self._dialect.READING) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction, exclusive from its first statement: committed whole at the end, or not at all."""
        with self.explaining(), self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            self._dialect.begin_to_write(connection)
            yield connection

    def maintain(self, *, shrunk: bool) -> None:
        """Do what is due after much was written; not while others write."""
        with self.explaining():
            self._dialect.maintain(self.engine, shrunk=shrunk)

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    def _open_to_read(self) -> bool:
        """Open a database that cannot be written, to read it; False where that fails, or where it is not up to date."""
        for engine in sqlite.engines_to_read(self.url):
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

    def _bring_up_to_date(self, *, create: bool, upgrade: bool) -> None:
        with self.engine.begin() as connection:
            current = _version(connection)
        if current == HEAD:
            return
        if current is None and not create:
            self.is_empty = True
            return
        if current is not None and current.startswith(COPYING.split()[0]):
            self._require_unfinished(current)
            return
        if not upgrade:
            raise StoreError("this store is of another version; `nearshot status` brings an earlier one up to date")
        with self.writing() as connection:
            if _version(connection) != HEAD:  # another process may have upgraded it meanwhile
                _upgrade(connection)
        self.engine.dispose()  # what a connection knows of the database's types, it asked when it was opened

    def _require_unfinished(self, current: str) -> None:
        where = self._dialect.shown_location(self.url)
        if not self._unfinished:
            raise StoreError(
                f"{where}: a copy into it is not finished; run the same `nearshot copy` again, or delete it"
            )
        if not current.startswith(COPYING):
            raise StoreError(f"{where}: another version of nearshot has begun a copy into it; delete it and begin anew")

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Turn the driver's errors into a StoreError that says what to do."""
        try:
            yield
        except NoConnectionError as error:
            where = self._dialect.shown_location(self.url)
            raise StoreBusyError(f"{where}: all connections of this process are in use; try again") from error
        except DBAPIError as error:
            raise self._dialect.explained(error, self.url) from error
        except UnicodeDecodeError as error:
            raise StoreError(
                f"{self._dialect.shown_location(self.url)}: a text in it is damaged; `nearshot verify` looks for more"
            ) from error


def is_made(url: str) -> bool:
    """Tell whether a PostgreSQL database has tables of any version, and change nothing; StoreError where it cannot be asked."""
    engine = postgres.engine_of(url)
    try:
        with engine.begin() as connection:
            return _version(connection) is not None
    except DBAPIError as error:
        raise postgres.explained(error, url) from error
    finally:
        engine.dispose()


def copied_from(connection: Connection) -> str | None:
    """Which store is being copied into a database, as `begin_copy` was told; None where none is."""
    version = _version(connection) or ""
    return version.removeprefix(COPYING) if version.startswith(COPYING) else None


def begin_copy(connection: Connection, key: str) -> None:
    """Have nobody open a database, until `end_copy`, but to go on copying a store into it: which one, the key tells (up to 16
    letters).
    """
    _set_version(connection, COPYING + key)


def end_copy(connection: Connection) -> None:
    """Let a database be opened as the whole store that it is now."""
    _set_version(connection, HEAD)


def _set_version(connection: Connection, version: str) -> None:
    connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})


def _version(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        postgres.require_utf8(connection)
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
