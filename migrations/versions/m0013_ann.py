"""Approximate indexes over large segments, for backbones that are to have them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import TEXT, WHOLE, XXH3

revision = "0013"
down_revision = "0012"

COVERED = {
    "ann_choices": ("backbone_id", "kind"),
    "ann_indexes": ("segment_id", "kind", "file", "xxh3", "effort", "recall", "words_effort", "words_recall"),
}


def upgrade() -> None:
    """Add the tables, and the digests of their rows."""
    op.create_table(
        "ann_choices",
        sa.Column("backbone_id", WHOLE, sa.ForeignKey("backbones.id"), primary_key=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("digest", sa.BigInteger),
    )
    op.create_table(
        "ann_indexes",
        sa.Column("segment_id", WHOLE, sa.ForeignKey("segments.id"), primary_key=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("file", TEXT, nullable=False),
        sa.Column("xxh3", XXH3, nullable=False),
        sa.Column("effort", WHOLE, nullable=False),
        sa.Column("recall", sa.Float, nullable=False),
        sa.Column("words_effort", WHOLE),
        sa.Column("words_recall", sa.Float),
        sa.Column("digest", sa.BigInteger),
    )
    if op.get_bind().dialect.name != "sqlite":
        return
    held = "CASE typeof(NEW.{0}) WHEN 'text' THEN CAST(NEW.{0} AS BLOB) ELSE NEW.{0} END"
    for table, columns in COVERED.items():
        new = ", ".join(held.format(name) for name in columns)
        keep = f"BEGIN UPDATE {table} SET digest = nearshot_digest({new}) WHERE rowid = NEW.rowid; END"
        op.execute(f"CREATE TRIGGER {table}_added_digest AFTER INSERT ON {table} {keep}")
        op.execute(f"CREATE TRIGGER {table}_edited_digest AFTER UPDATE OF {', '.join(columns)} ON {table} {keep}")
