"""Fusions: backbones whose vectors are made of those of others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import WHOLE

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "fusions",
        sa.Column("backbone_id", WHOLE, sa.ForeignKey("backbones.id"), nullable=False),
        sa.Column("place", WHOLE, nullable=False),
        sa.Column("part_id", WHOLE, sa.ForeignKey("backbones.id"), nullable=False),
        sa.Column("weight", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("backbone_id", "place"),
    )
