"""A store: the directory that holds the database and the segments, or a database in PostgreSQL; and the lock of long jobs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import xxhash
from filelock import FileLock, Timeout

from nearshot.schema import postgres
from nearshot.schema.catalog import Catalog
from nearshot.schema.database import Database, is_made
from nearshot.schema.disk import cache_directory
from nearshot.schema.editor import Editor
from nearshot.schema.errors import StoreBusyError, StoreError, UsageError, option
from nearshot.schema.location import Location, is_address, shown_location

DATABASE_FILE = "nearshot.db"
SEGMENT_DIRECTORY = "segments"
SNAPSHOT_DIRECTORY = "snapshots"
"""Where earlier versions kept what is in segments now."""


class Store:
    """An open store. Reading needs no lock and goes on while another process writes.

    `location` opens it again, `shown_location` is what people are told of it, `directory` has what lies on this machine. In
    SQLite it `has_segments`; in PostgreSQL the rows are the index. `mirror` is the address of the engine that is asked for the
    nearest vectors; None: they are compared in this process, or by PostgreSQL.
    """

    location: Location
    shown_location: str
    has_segments: bool

    def __init__(
        self,
        location: Location,
        *,
        create: bool = False,
        upgrade: bool = True,
        unfinished: bool = False,
        mirror: str | None = None,
    ) -> None:
        """Open a store, upgrading it to this version's schema.

        Raises UsageError where there is none (unless `create`), StoreError where it cannot be opened; without `upgrade`, also
        where its schema is another; unless `unfinished`, also where a copy into it is not finished.
        """
        self._holds: list[postgres.Hold] = []
        self.mirror = mirror
        if is_address(location):
            self.location, self.shown_location, self.has_segments = location, shown_location(location), False
            self.directory = cache_directory() / "stores" / xxhash.xxh3_64_hexdigest(self.shown_location.encode())
            self._database = Database(str(location), create=create, upgrade=upgrade, unfinished=unfinished)
            if self._database.is_empty:
                self._database.close()
                raise _no_store(self.shown_location)
            return
        self.directory = Path(location).absolute()
        self.location, self.shown_location, self.has_segments = self.directory, str(self.directory), True
        database = self.directory / DATABASE_FILE
        if not create and not database.is_file():
            raise _no_store(location)
        if not create and database.stat().st_size == 0:
            raise StoreError(f"{database} is empty: what it held is lost; restore it from a backup, or delete it")
        try:
            self.segment_directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make the store {location}: {error.strerror}; choose another with {option('store')}"
            ) from error
        self._database = Database(f"sqlite:///{database}", upgrade=upgrade, unfinished=unfinished)

    @property
    def segment_directory(self) -> Path:
        """Location of the segments. Everything in it is derived from the database."""
        return self.directory / SEGMENT_DIRECTORY

    @property
    def snapshot_directory(self) -> Path:
        """Location of what earlier versions derived from the database; nobody reads it any more."""
        return self.directory / SNAPSHOT_DIRECTORY

    @contextmanager
    def reading(self) -> Iterator[Catalog]:
        """A catalog that sees one state of the store, whatever is written meanwhile. Safe from any thread."""
        with self._database.reading() as connection:
            yield Catalog(connection, self.segment_directory)

    @contextmanager
    def writing(self) -> Iterator[Editor]:
        """An editor whose changes are committed together, or not at all. Safe from any thread; writers take turns."""
        with self._database.writing() as connection:
            if self._holds and not postgres.still_hold(connection, self._holds):
                raise StoreError(f"{self.shown_location}: the connection that held the store was lost; run it again")
            yield Editor(connection, self.segment_directory)

    def maintain(self, *, shrunk: bool) -> None:
        """Do what is due after much was written: give the disk back what the database no longer needs, where that is much or
        its rows have `shrunk`; tell PostgreSQL's planner how many rows there are. For the holder of the store.
        """
        self._database.maintain(shrunk=shrunk)

    @contextmanager
    def held(self, purpose: str, part: str | None = None, *, apart: bool = False) -> Iterator[None]:
        """Hold the store for a long job; raises StoreBusyError, naming the holder, where another process does.

        In PostgreSQL, jobs on different parts of it (a data directory, captions) go on at once. One that stands `apart`, and
        changes no row that decides an answer, keeps only others of its part out. The lock is the operating system's, or the
        database's, so a killed process never leaves one behind.
        """
        record = {"pid": os.getpid(), "host": platform.node(), "purpose": purpose, "since": utc_now()}
        if not self.has_segments:
            with self._held_in_database(record, part, apart=apart):
                yield
            return
        name = f"-{xxhash.xxh3_64_hexdigest(str(part).encode())}" if apart else ""
        holder = self.directory / f"holder{name}.json"
        lock = FileLock(self.directory / f"lock{name}", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreBusyError(
                f"{self.shown_location} is in use by {_describe(holder)}; wait for it to end"
            ) from error
        except OSError as error:
            raise StoreError(f"cannot lock {self.directory}: {error.strerror}") from error
        try:
            with _disk_errors(holder):
                holder.write_text(json.dumps(record))
            yield
        finally:
            with suppress(OSError):  # it only names who holds the lock, and the next holder writes it anew
                holder.unlink(missing_ok=True)
            lock.release()

    @contextmanager
    def _held_in_database(self, record: Mapping[str, object], part: str | None, *, apart: bool) -> Iterator[None]:
        with self._database.explaining():
            hold = postgres.Hold(self._database.engine, record, part, where=self.shown_location, apart=apart)
        self._holds.append(hold)
        try:
            yield
        finally:
            self._holds.remove(hold)
            hold.end()

    def close(self) -> None:
        """Close the store's connections."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_there(location: Location) -> bool:
    """Tell whether there is a store, also in a database in PostgreSQL; StoreError where that cannot be reached."""
    if not is_address(location):
        return (Path(location) / DATABASE_FILE).is_file()
    return is_made(str(location))


def _no_store(location: Location) -> UsageError:
    return UsageError(
        f"no store at {shown_location(location)}; make one with `nearshot index DATA`, or name it with {option('store')}"
    )


def utc_now() -> str:
    """The time now, UTC, in ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _describe(holder: Path) -> str:
    try:
        record = json.loads(holder.read_text())
        return f"`{record['purpose']}`, process {record['pid']} on {record['host']}, since {record['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
