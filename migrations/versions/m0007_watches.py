"""Watches: how the scores of queries compare with those that a calibration rests on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import TEXT, WHOLE

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "watches",
        sa.Column("backbone_id", WHOLE, sa.ForeignKey("backbones.id"), nullable=False),
        sa.Column("category", TEXT, nullable=False),
        sa.Column("score", TEXT, nullable=False),
        sa.Column("calibrated", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("backbone_id", "category", "score"),
    )
