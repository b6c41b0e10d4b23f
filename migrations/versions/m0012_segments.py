"""Segments in the place of snapshots, which are made anew from the rows; what changed since a revision is found by an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import TEXT, WHOLE, XXH3

revision = "0012"
down_revision = "0011"

COVERED = ("id", "backbone_id", "role", "file", "size", "xxh3", "vectors", "since", "revision")


def upgrade() -> None:
    """Replace the table, and add indexes that hold what is asked of them."""
    op.drop_table("snapshots")
    op.create_table(
        "segments",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("backbone_id", WHOLE, sa.ForeignKey("backbones.id"), nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("file", TEXT, nullable=False),
        sa.Column("size", WHOLE, nullable=False),
        sa.Column("xxh3", XXH3, nullable=False),
        sa.Column("vectors", WHOLE, nullable=False),
        sa.Column("since", WHOLE, nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
        sa.Column("digest", sa.BigInteger),
        sa.UniqueConstraint("backbone_id", "role", "since", name="uq_segments_backbone_role_since"),
    )
    op.create_index("ix_images_role_revision", "images", ["role", "revision"])
    op.create_index(
        "ix_images_usable",
        "images",
        ["role", "category", "label", "content_id"],
        sqlite_where=sa.text("present = 1 AND content_id IS NOT NULL"),
        postgresql_where=sa.text("present AND content_id IS NOT NULL"),
    )
    op.drop_index("ix_embeddings_backbone_revision", "embeddings")
    op.create_index("ix_embeddings_backbone_revision", "embeddings", ["backbone_id", "revision", "content_id"])
    if op.get_bind().dialect.name == "sqlite":
        held = "CASE typeof(NEW.{0}) WHEN 'text' THEN CAST(NEW.{0} AS BLOB) ELSE NEW.{0} END"
        new = ", ".join(held.format(name) for name in COVERED)
        keep = f"BEGIN UPDATE segments SET digest = nearshot_digest({new}) WHERE rowid = NEW.rowid; END"
        op.execute(f"CREATE TRIGGER segments_added_digest AFTER INSERT ON segments {keep}")
        op.execute(f"CREATE TRIGGER segments_edited_digest AFTER UPDATE OF {', '.join(COVERED)} ON segments {keep}")
