"""Freeze a store as SQL: `python -m tests.schema.freeze STORE > tests/schema/store-NNNN.sql`, once per schema revision.

Before a migration is added, freeze a store of the revision before it with a row in every table; its data directory is called
/data there. `test_database.py` upgrades every frozen store.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

from nearshot.schema.digests import FUNCTION, digest_of
from nearshot.schema.store import DATABASE_FILE

FROZEN = Path(__file__).parent

REVISIONS = sorted(path.stem.removeprefix("store-") for path in FROZEN.glob("store-*.sql"))
"""The revisions of the schema that a store was frozen of, oldest first."""


def statements(connection: sqlite3.Connection) -> Iterator[str]:
    """The SQL that makes a database again; the full-text index by its own rebuild, as its tables are SQLite's own affair."""
    for statement in connection.iterdump():
        ours = statement.startswith("CREATE TRIGGER") or statement == "COMMIT;"
        if not (ours or "captions_fts" in statement or "writable_schema" in statement):
            yield statement
    own = "SELECT sql FROM sqlite_master WHERE name = 'captions_fts' OR type = 'trigger' ORDER BY type, name"
    for (statement,) in connection.execute(own):
        yield f"{statement};"
    yield "INSERT INTO captions_fts(captions_fts) VALUES ('rebuild');"
    yield "COMMIT;"


def thaw(revision: str, directory: Path, data: Path | None = None) -> Path:
    """Make the frozen store of a revision again in a directory, its data directory called `data`; the database file."""
    file = directory / DATABASE_FILE
    script = (FROZEN / f"store-{revision}.sql").read_text()
    with sqlite3.connect(file) as connection:
        connection.executescript(script)
        connection.create_function(FUNCTION, -1, digest_of)  # the digest of a path is of the one before it was frozen
        connection.execute("UPDATE roots SET path = ?", [str(data or "/data")])
    connection.close()
    return file


if __name__ == "__main__":
    frozen = sqlite3.connect(Path(sys.argv[1]) / DATABASE_FILE)
    roots = [root for (root,) in frozen.execute("SELECT path FROM roots")]
    for line in statements(frozen):
        for root in roots:
            line = line.replace(root, "/data")
        sys.stdout.write(f"{line}\n")
