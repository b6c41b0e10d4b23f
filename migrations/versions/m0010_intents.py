"""Intents: files that are about to be written or deleted in a data directory, recorded before they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import SHA256, TEXT, WHOLE

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "intents",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("sha256", SHA256, nullable=False),
        sa.Column("root_id", WHOLE, sa.ForeignKey("roots.id"), nullable=False),
        sa.Column("category", TEXT, nullable=False),
        sa.Column("content_id", WHOLE, sa.ForeignKey("contents.id")),
        sa.Column("label", TEXT),
        sa.Column("query", TEXT),
        sa.Column("feedback_id", WHOLE, sa.ForeignKey("feedback.id")),
        sa.Column("created", TEXT, nullable=False),
    )
