"""How a store keeps its vectors: as float32, or as float16 and once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import TEXT, WHOLE

revision = "0016"
down_revision = "0015"

COLUMNS = ("id", "kind")


def upgrade() -> None:
    """Add the tables, and the digest of what was chosen; that of a pending vector is in the row that refers to it."""
    op.create_table(
        "pending_vectors",
        sa.Column("content_id", WHOLE, sa.ForeignKey("contents.id"), nullable=False),
        sa.Column("backbone_id", WHOLE, sa.ForeignKey("backbones.id"), nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("backbone_id", "content_id"),
    )
    op.create_table(
        "vector_storage",
        sa.Column("id", WHOLE, sa.CheckConstraint("id = 1"), primary_key=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("digest", sa.BigInteger),
    )
    if op.get_bind().dialect.name != "sqlite":
        return
    held = "CASE typeof(NEW.{0}) WHEN 'text' THEN CAST(NEW.{0} AS BLOB) ELSE NEW.{0} END"
    new = ", ".join(held.format(name) for name in COLUMNS)
    keep = f"BEGIN UPDATE vector_storage SET digest = nearshot_digest({new}) WHERE rowid = NEW.rowid; END"
    op.execute(f"CREATE TRIGGER vector_storage_added_digest AFTER INSERT ON vector_storage {keep}")
    op.execute(
        f"CREATE TRIGGER vector_storage_edited_digest AFTER UPDATE OF {', '.join(COLUMNS)} ON vector_storage {keep}"
    )
