"""Feedback: what people said of query images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("content_id", sa.Integer, sa.ForeignKey("contents.id"), nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("label", sa.String),
        sa.Column("shot_path", sa.String),
        sa.Column("created", sa.String, nullable=False),
        sa.Column("undone", sa.String),
        sa.Column("revision", sa.Integer, nullable=False),
    )
    op.create_index("ix_feedback_category_action", "feedback", ["category", "action"])
