"""Picture hashes: what a content shows, in 64 numbers that hardly change when it is encoded again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import WHOLE

revision = "0015"
down_revision = "0014"

COLUMNS = ("content_id", "frequencies", "rules")


def upgrade() -> None:
    """Add the table, and the digests of its rows."""
    op.create_table(
        "picture_hashes",
        sa.Column("content_id", WHOLE, sa.ForeignKey("contents.id"), primary_key=True),
        sa.Column("frequencies", sa.LargeBinary),
        sa.Column("rules", WHOLE, nullable=False),
        sa.Column("digest", sa.BigInteger),
    )
    if op.get_bind().dialect.name != "sqlite":
        return
    held = "CASE typeof(NEW.{0}) WHEN 'text' THEN CAST(NEW.{0} AS BLOB) ELSE NEW.{0} END"
    new = ", ".join(held.format(name) for name in COLUMNS)
    keep = f"BEGIN UPDATE picture_hashes SET digest = nearshot_digest({new}) WHERE rowid = NEW.rowid; END"
    op.execute(f"CREATE TRIGGER picture_hashes_added_digest AFTER INSERT ON picture_hashes {keep}")
    op.execute(
        f"CREATE TRIGGER picture_hashes_edited_digest AFTER UPDATE OF {', '.join(COLUMNS)} ON picture_hashes {keep}"
    )
