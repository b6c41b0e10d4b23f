"""Calibrations: thresholds and margin floors found from the user's own images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import SHA256, TEXT, WHOLE

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "calibrations",
        sa.Column("backbone_id", WHOLE, sa.ForeignKey("backbones.id"), nullable=False),
        sa.Column("category", TEXT, nullable=False),
        sa.Column("score", TEXT, nullable=False),
        sa.Column("threshold", sa.Float, nullable=False),
        sa.Column("margin_floor", sa.Float, nullable=False),
        sa.Column("facts", TEXT, nullable=False),
        sa.Column("support_digest", SHA256, nullable=False),
        sa.Column("created", TEXT, nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("backbone_id", "category", "score"),
    )
