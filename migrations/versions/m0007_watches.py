"""Watches: how the scores of queries compare with those that a calibration rests on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "watches",
        sa.Column("backbone_id", sa.Integer, sa.ForeignKey("backbones.id"), nullable=False),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("score", sa.String, nullable=False),
        sa.Column("calibrated", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("backbone_id", "category", "score"),
    )
