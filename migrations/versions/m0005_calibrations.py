"""Calibrations: thresholds and margin floors found from the user's own images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "calibrations",
        sa.Column("backbone_id", sa.Integer, sa.ForeignKey("backbones.id"), nullable=False),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("score", sa.String, nullable=False),
        sa.Column("threshold", sa.Float, nullable=False),
        sa.Column("margin_floor", sa.Float, nullable=False),
        sa.Column("facts", sa.String, nullable=False),
        sa.Column("support_digest", sa.String(64), nullable=False),
        sa.Column("created", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("backbone_id", "category", "score"),
    )
