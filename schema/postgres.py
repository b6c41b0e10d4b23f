"""PostgreSQL: how it is reached, how writers take turns, who holds a store, and what its errors mean."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Column, Connection, Engine, Table, create_engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from nearshot.migrations.columns import VectorBytes, sent_vector
from nearshot.schema.catalog import DAMAGED_VECTOR
from nearshot.schema.errors import NearshotError, StoreBusyError, StoreError, UnreachableError, UsageError, option
from nearshot.schema.location import shown_location

READING: Mapping[str, Any] = {"isolation_level": "REPEATABLE READ"}
"""Options of a transaction that reads: it sees one state of the database, whatever is committed meanwhile."""

CONNECTIONS = 32
"""Connections that one process has at most."""

WAIT_S = 30
"""Seconds that a writer waits for its turn."""

CONNECT_S = 10
"""Seconds that reaching a machine may take, unless the address says otherwise."""

PLAIN = 2000
"""Numbers of a vector that a row of a page has room for; longer ones PostgreSQL lays aside, and takes longer to read."""


HEADER, TRAILER = 19, 2
"""Bytes before and after the rows of a COPY in binary form: a signature, flags and the length of an extension; minus one."""


def engine_of(url: str) -> Engine:
    """A pool of connections to an address, which is libpq's own: several hosts, TLS and all its parameters are as it has them.

    UsageError where what it needs is not installed.
    """
    try:
        import psycopg
        from pgvector.psycopg import register_vector
    except ImportError as error:
        raise UsageError(f"PostgreSQL needs {error.name}: pip install 'nearshot[postgres]'") from error

    try:
        parameters = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:  # its words may have a part of the password
        raise UsageError(
            f"{shown_location(url)} cannot be read; an address is postgresql://USER@HOST/DATABASE, with libpq's "
            "parameters after a ?, and what is special in its parts is percent-encoded"
        ) from None
    patient = "connect_timeout" in parameters or "PGCONNECT_TIMEOUT" in os.environ or "service" in parameters
    wait: dict[str, Any] = {} if patient else {"connect_timeout": CONNECT_S}

    def connect() -> Any:
        connection = psycopg.connect(url, **wait)
        try:
            with suppress(psycopg.ProgrammingError):  # before the first migration there is no such type
                register_vector(connection)
            connection.rollback()
        except BaseException:
            connection.close()
            raise
        return connection

    return create_engine(
        "postgresql+psycopg://",
        creator=connect,
        isolation_level="READ COMMITTED",  # a writer that waited for its turn sees what was committed meanwhile
        pool_pre_ping=True,
        pool_size=4,
        max_overflow=CONNECTIONS - 4,
    )


def begin_to_write(connection: Connection) -> None:
    """Wait for the turn: of those who write one store, one has a transaction open, and revisions come in their order."""
    connection.execute(text(f"SET LOCAL lock_timeout = '{WAIT_S}s'"))
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended('nearshot writes ' || current_schema(), 0))")
    )


def maintain(engine: Engine, *, shrunk: bool) -> None:
    """Have the planner know how many rows there are, where many have come: until autovacuum tells it, a minute later, it takes
    some hundred for all that there are, and a query for the nearest images takes six times as long. Space is autovacuum's own.
    """
    stale = text(
        "SELECT EXISTS (SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        " WHERE inhparent = 'embeddings'::regclass AND reltuples < 0) OR"
        " (SELECT reltuples FROM pg_class WHERE oid = 'images'::regclass) < 0.9 * (SELECT max(id) FROM images)"
    )
    with engine.begin() as connection:
        if connection.execute(stale).scalar_one():
            connection.execute(text("ANALYZE contents, images, embeddings"))


def add_partition(connection: Connection, backbone_id: int, dimension: int) -> None:
    """Make the table that holds the vectors of a backbone; readers go on meanwhile."""
    name = f"embeddings_{int(backbone_id)}"
    connection.execute(text(f"CREATE TABLE {name} (LIKE embeddings INCLUDING ALL)"))
    if dimension <= PLAIN:
        connection.execute(text(f"ALTER TABLE {name} ALTER COLUMN vector SET STORAGE PLAIN"))
    connection.execute(text(f"ALTER TABLE embeddings ATTACH PARTITION {name} FOR VALUES IN ({int(backbone_id)})"))


def copy_in(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, each of the values of some columns, by COPY."""
    columns = [table.c[name] for name in names]
    vectors = [number for number, column in enumerate(columns) if isinstance(column.type, VectorBytes)]
    quoted = ", ".join(connection.dialect.identifier_preparer.quote(name) for name in names)
    kinds = [_type(connection, column) for column in columns]
    with _copying(connection, f"COPY {table.name} ({quoted}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(kinds)
        for row in rows:
            values = list(row)
            for number in vectors:
                values[number] = values[number] and sent_vector(values[number])
            copy.write_row(values)


def copied_vectors(
    connection: Connection, backbone_id: int, dimension: int, contents: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Those of some contents (n,) that have a vector, ascending, and the vectors (n, dimension), by COPY: in a third of the
    time of a query, for nothing is done for a row. StoreError for a vector of another dimension.
    """
    row = np.dtype(
        [
            *(("fields", ">i2"), ("bytes_of_content", ">i4"), ("content", ">i8"), ("bytes_of_vector", ">i4")),
            *(("dimension", ">i2"), ("unused", ">i2"), ("vector", ">f4", (dimension,))),
        ]
    )
    wanted = ",".join(map(str, contents.tolist()))
    query = (
        f"SELECT content_id, vector FROM embeddings WHERE backbone_id = {int(backbone_id)} AND vector IS NOT NULL"
        f" AND content_id = ANY('{{{wanted}}}'::bigint[]) ORDER BY content_id"
    )
    with _copying(connection, f"COPY ({query}) TO STDOUT (FORMAT BINARY)") as copy:
        data = b"".join(copy)[HEADER:-TRAILER]
    if len(data) % row.itemsize:
        raise StoreError(DAMAGED_VECTOR)
    rows = np.frombuffer(data, dtype=row)
    if (rows["dimension"] != dimension).any():
        raise StoreError(DAMAGED_VECTOR)
    return rows["content"].astype(np.int64), rows["vector"].astype(np.float32)


@contextmanager
def _copying(connection: Connection, command: str) -> Iterator[Any]:
    """Run a COPY; its errors are as SQLAlchemy has all others, though it knows nothing of this cursor."""
    cursor: Any = connection.connection.cursor()
    error_of_driver: Any = connection.dialect.dbapi.Error  # type: ignore[union-attr]
    try:
        with cursor, cursor.copy(command) as copy:
            yield copy
    except error_of_driver as error:
        raise DBAPIError(command, None, error) from error


def _type(connection: Connection, column: Column[Any]) -> str:
    """PostgreSQL's name of a column's type; of a vector, what its bytes are sent as."""
    name = str(column.type.compile(connection.dialect)).partition(" ")[0].partition("(")[0].lower()
    return {"bigint": "int8", "float": "float8", "boolean": "bool", "vector": "bytea"}.get(name, name)


def continue_ids(connection: Connection, of_tables: Sequence[Table]) -> None:
    """Have the next rows of tables numbered after the highest that there are."""
    for table in of_tables:
        name = table.name
        sequence = f"pg_get_serial_sequence('{name}', 'id')"
        connection.execute(text(f"SELECT setval({sequence}, max(id)) FROM {name} HAVING max(id) IS NOT NULL"))


class Hold:
    """A lock that a connection of its own has, until it ends; a killed process leaves none behind."""

    def __init__(
        self, engine: Engine, record: Mapping[str, Any], part: str | None, *, where: str, apart: bool = False
    ) -> None:
        """Take the lock of a store (of a part of it, `part`; of that alone, `apart`); StoreBusyError, naming who has it, where
        one has.
        """
        self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            own = text("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
            self.process, self.since = self._connection.execute(own).one()
            # Whoever holds a part shares the hold of all with those who hold other parts.
            parts = [part] if part is None or apart else [None, part]
            self.keys = [_key(self._connection, each) for each in parts]
            for number, key in enumerate(self.keys):
                if not self._take(key, record, shared=len(parts) > 1 and number == 0):
                    raise StoreBusyError(f"{where} is in use by {_holder(self._connection, key)}; wait for it to end")
        except BaseException:
            self.end()
            raise

    def _take(self, key: int, record: Mapping[str, Any], *, shared: bool) -> bool:
        # Whoever is kept out reads in `pg_stat_activity` what the holder's connection ran last.
        function = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
        query = f"/* {_said(record)} */ SELECT {function}({key})"
        return bool(self._connection.exec_driver_sql(query.replace("%", "%%")).scalar_one())

    def end(self) -> None:
        """Let go."""
        try:
            with suppress(SQLAlchemyError):  # a connection that was lost has no lock
                self._connection.execute(text("SELECT pg_advisory_unlock_all()"))
        finally:
            self._connection.invalidate()
            self._connection.close()


SAID = 900
"""Characters of what a holder says of itself; PostgreSQL keeps 1,024 bytes of a query (`track_activity_query_size`)."""


def _said(record: Mapping[str, Any]) -> str:
    """What a holder says of itself, as JSON that is no end and no beginning of a comment."""
    said = json.dumps(record)
    if len(said) > SAID:
        said = json.dumps({**record, "purpose": record["purpose"][: SAID // 12] + "..."})
    return said.replace("*", "\\u002a")


def still_hold(connection: Connection, holds: Sequence[Hold]) -> bool:
    """Tell whether the database knows of all these locks: it ends a connection that it cannot reach, and its locks with it."""
    query = text(
        f"SELECT count(DISTINCT {KEY}) FROM pg_locks JOIN pg_stat_activity AS holder USING (pid) WHERE {OF_THIS_DATABASE}"
        f" AND pid = :pid AND backend_start = :since AND {KEY} = ANY(:keys)"
    )
    held = (
        connection.execute(query, {"pid": hold.process, "since": hold.since, "keys": hold.keys}).scalar_one()
        for hold in holds
    )
    return all(count == len(hold.keys) for count, hold in zip(held, holds, strict=True))


KEY = "((classid::bigint << 32) | objid::bigint)"
OF_THIS_DATABASE = (
    "locktype = 'advisory' AND objsubid = 1 AND granted"
    " AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def _key(connection: Connection, part: str | None) -> int:
    query = text("SELECT hashtextextended('nearshot holds ' || current_schema() || coalesce(' ' || :part, ''), 0)")
    return int(connection.execute(query, {"part": part}).scalar_one())


def _holder(connection: Connection, key: int) -> str:
    """Say who has a lock, as far as the database shows it."""
    query = text(
        f"SELECT query FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE {OF_THIS_DATABASE} AND {KEY} = :key LIMIT 1"
    )
    said = connection.execute(query, {"key": key}).scalar() or ""
    try:
        record = json.loads(said.partition("/* ")[2].rpartition(" */")[0])
        return f"`{record['purpose']}`, process {record['pid']} on {record['host']}, since {record['since']}"
    except (ValueError, KeyError):
        return "another process"


def require_utf8(connection: Connection) -> None:
    """Raise StoreError for a database that cannot keep all texts."""
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise StoreError(
            f"this database is of {encoding}; make it with `createdb --encoding UTF8 --template template0`"
        )


_REMEDIES = {
    "28P01": "check the user and the password in the address",
    "28000": "the server does not let this user in: check pg_hba.conf, and the address",
    "3D000": "make the database first: `createdb`",
    "53100": "free some space on the database's machine and run again; what was committed is intact",
    "53300": "the server has no more connections to give: raise max_connections, or run fewer services",
    "25006": "this server can only be read (a replica): name the primary",
    "42501": "give the user the right to make tables and indexes in this database",
    "40001": "run it again",
    "40P01": "run it again",
    "42P07": "is it a database of its own? nearshot wants one that is empty",
    "XX001": "a page of the database is damaged: restore it from a backup",
    "XX002": "an index of the database is damaged: REINDEX DATABASE makes it anew",
}


_REFUSALS = {
    "password authentication failed": "28P01",
    "no password supplied": "28P01",
    "no pg_hba.conf entry": "28000",
    'role "': "28P01",
    'database "': "3D000",
    "too many clients": "53300",
    "remaining connection slots": "53300",
}
"""The states of refusals to connect, of which libpq has the words alone: by what comes after FATAL."""


def explained(error: DBAPIError, url: str) -> NearshotError:
    """What an error of the driver means, and what to do."""
    state = getattr(error.orig, "sqlstate", None)
    reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else "the connection was lost"
    where = shown_location(url)
    if "cannot contain NUL" in reason or state == "22021":
        return UsageError(f"{where}: a name or text has a NUL character, which PostgreSQL keeps nowhere")
    if state is None:
        refusal = reason.partition("FATAL:")[2].strip()
        state = next((known for words, known in _REFUSALS.items() if words in refusal), None)
    if state == "55P03":
        return StoreBusyError(f"{where}: another process is writing; try again when it is done")
    if 'extension "vector"' in reason and state == "42501":
        return StoreError(f"{where}: {reason}; have whoever may run `CREATE EXTENSION vector` in it, once")
    if 'extension "vector"' in reason:
        return StoreError(f"{where}: {reason}; install pgvector on the database's machine")
    if state is None or state[:2] == "08" or state in ("57P01", "57P02", "57P03", "57P05"):
        return UnreachableError(
            f"{where}: {reason}; is the database running, and is the address right ({option('store')})? "
            "What was committed is intact: run it again"
        )
    return StoreError(f"{where}: {reason}; {_REMEDIES.get(state, 'is it a nearshot store?')}")
