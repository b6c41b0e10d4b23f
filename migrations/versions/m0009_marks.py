"""Marks: which hits of a query people said are right, and which are not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import TEXT, WHOLE

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "marks",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("query_id", WHOLE, sa.ForeignKey("contents.id")),
        sa.Column("words", TEXT),
        sa.Column("mode", TEXT),
        sa.Column("backbone_id", WHOLE, sa.ForeignKey("backbones.id")),
        sa.Column("content_id", WHOLE, sa.ForeignKey("contents.id"), nullable=False),
        sa.Column("rank", WHOLE),
        sa.Column("score", sa.Float),
        sa.Column("right", sa.Boolean, nullable=False),
        sa.Column("created", TEXT, nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
        sa.CheckConstraint("(query_id IS NULL) <> (words IS NULL)", name="ck_marks_one_query"),
    )
