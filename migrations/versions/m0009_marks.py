"""Marks: which hits of a query people said are right, and which are not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "marks",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("query_id", sa.Integer, sa.ForeignKey("contents.id")),
        sa.Column("words", sa.String),
        sa.Column("mode", sa.String),
        sa.Column("backbone_id", sa.Integer, sa.ForeignKey("backbones.id")),
        sa.Column("content_id", sa.Integer, sa.ForeignKey("contents.id"), nullable=False),
        sa.Column("rank", sa.Integer),
        sa.Column("score", sa.Float),
        sa.Column("right", sa.Boolean, nullable=False),
        sa.Column("created", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.CheckConstraint("(query_id IS NULL) <> (words IS NULL)", name="ck_marks_one_query"),
    )
