"""Digests: what each row that decides an answer says, by a trigger; of a snapshot's file one that is quick to compute."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import XXH3

revision = "0011"
down_revision = "0010"

COVERED = {
    "revision": "id value",
    "roots": "id path",
    "contents": "id sha256 size width height format revision",
    "images": "id root_id path category role label shot size mtime_ns ctime_ns content_id failure decoder present revision",
    "backbones": "id name fingerprint dimension precision source location signature revision",
    "fusions": "backbone_id place part_id weight",
    "embeddings": "content_id backbone_id vector failure revision",
    "captions": "id content_id task text bigrams fingerprint created revision",
    "calibrations": "backbone_id category score threshold margin_floor facts support_digest created revision",
    "feedback": "id action category content_id path label shot_path created undone revision",
    "marks": "id query_id words mode backbone_id content_id rank score right created revision",
    "snapshots": "backbone_id category role file size sha256 vectors revision xxh3",
}


def upgrade() -> None:
    """Add the columns, and on SQLite the triggers; compute the digests of what is there."""
    op.add_column("snapshots", sa.Column("xxh3", XXH3))
    for table in COVERED:
        op.add_column(table, sa.Column("digest", sa.BigInteger))
    if op.get_bind().dialect.name != "sqlite":
        return
    for table, columns in COVERED.items():
        names = [f'"{name}"' for name in columns.split()]
        op.execute(f"UPDATE {table} SET digest = nearshot_digest({', '.join(map(_as_held, names))})")
        new = ", ".join(_as_held(f"NEW.{name}") for name in names)
        keep = f"BEGIN UPDATE {table} SET digest = nearshot_digest({new}) WHERE rowid = NEW.rowid; END"
        op.execute(f"CREATE TRIGGER {table}_added_digest AFTER INSERT ON {table} {keep}")
        op.execute(f"CREATE TRIGGER {table}_edited_digest AFTER UPDATE OF {', '.join(names)} ON {table} {keep}")


def _as_held(column: str) -> str:
    """A value with texts as their bytes, which may be no UTF-8 any more where they are damaged."""
    return f"CASE typeof({column}) WHEN 'text' THEN CAST({column} AS BLOB) ELSE {column} END"
