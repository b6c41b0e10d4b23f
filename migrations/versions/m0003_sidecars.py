"""Sidecars: which caption files beside images were taken up, and in which state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import WHOLE

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "sidecars",
        sa.Column("image_id", WHOLE, sa.ForeignKey("images.id"), primary_key=True),
        sa.Column("content_id", WHOLE, sa.ForeignKey("contents.id"), nullable=False),
        sa.Column("size", WHOLE, nullable=False),
        sa.Column("mtime_ns", WHOLE, nullable=False),
        sa.Column("ctime_ns", WHOLE, nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
    )
    op.create_index("ix_sidecars_content", "sidecars", ["content_id"])
