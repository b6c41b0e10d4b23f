"""Intents: files that are about to be written or deleted in a data directory, recorded before they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "intents",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("root_id", sa.Integer, sa.ForeignKey("roots.id"), nullable=False),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("content_id", sa.Integer, sa.ForeignKey("contents.id")),
        sa.Column("label", sa.String),
        sa.Column("query", sa.String),
        sa.Column("feedback_id", sa.Integer, sa.ForeignKey("feedback.id")),
        sa.Column("created", sa.String, nullable=False),
    )
