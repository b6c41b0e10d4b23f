"""What services share: their API keys, and their runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import SHA256, TEXT, WHOLE

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "api_keys",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("sha256", SHA256, nullable=False),
        sa.Column("scopes", TEXT, nullable=False),
        sa.Column("created", TEXT, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("told", TEXT, nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
        sa.Column("told_at", TEXT, nullable=False),
    )
