"""Mirrors: copies of vectors in an engine that shards, and the state of the store that each reflects."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import TEXT, WHOLE

revision = "0017"
down_revision = "0016"

COLUMNS = (
    "id",
    "engine",
    "backbone_id",
    "role",
    "name",
    "token",
    "revision",
    "vectors",
    "ready",
    "next_token",
    "next_revision",
)


def upgrade() -> None:
    """Add the table, and the digests of its rows."""
    op.create_table(
        "mirrors",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("engine", TEXT, nullable=False),
        sa.Column("backbone_id", WHOLE, sa.ForeignKey("backbones.id"), nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("token", WHOLE, nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
        sa.Column("vectors", WHOLE, nullable=False),
        sa.Column("ready", WHOLE, nullable=False),
        sa.Column("next_token", WHOLE),
        sa.Column("next_revision", WHOLE),
        sa.Column("digest", sa.BigInteger),
        sa.UniqueConstraint("engine", "backbone_id", "role", name="uq_mirrors_engine_backbone_role"),
    )
    if op.get_bind().dialect.name != "sqlite":
        return
    held = "CASE typeof(NEW.{0}) WHEN 'text' THEN CAST(NEW.{0} AS BLOB) ELSE NEW.{0} END"
    new = ", ".join(held.format(name) for name in COLUMNS)
    keep = f"BEGIN UPDATE mirrors SET digest = nearshot_digest({new}) WHERE rowid = NEW.rowid; END"
    op.execute(f"CREATE TRIGGER mirrors_added_digest AFTER INSERT ON mirrors {keep}")
    op.execute(f"CREATE TRIGGER mirrors_edited_digest AFTER UPDATE OF {', '.join(COLUMNS)} ON mirrors {keep}")
