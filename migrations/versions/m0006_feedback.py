"""Feedback: what people said of query images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import TEXT, WHOLE

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "feedback",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("category", TEXT, nullable=False),
        sa.Column("content_id", WHOLE, sa.ForeignKey("contents.id"), nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("label", TEXT),
        sa.Column("shot_path", TEXT),
        sa.Column("created", TEXT, nullable=False),
        sa.Column("undone", TEXT),
        sa.Column("revision", WHOLE, nullable=False),
    )
    op.create_index("ix_feedback_category_action", "feedback", ["category", "action"])
