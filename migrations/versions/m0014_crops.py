"""Crops: which raw pictures were looked at, by which detector, and what was cut out of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import SHA256, TEXT, WHOLE

revision = "0014"
down_revision = "0013"

COVERED = {
    "detectors": ("id", "name", "fingerprint", "signature", "location"),
    "croppings": (
        *("id", "root_id", "path", "category", "size", "mtime_ns", "ctime_ns", "sha256", "role", "label", "words"),
        *("detector_id", "options", "failure", "decoder", "created"),
    ),
    "crops": (
        *("id", "cropping_id", "path", "sha256", "box_left", "box_top", "box_right", "box_bottom", "name", "score"),
        "mask",
    ),
}


def upgrade() -> None:
    """Add the tables, and the digests of their rows."""
    op.create_table(
        "detectors",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("fingerprint", SHA256, nullable=False),
        sa.Column("signature", SHA256, nullable=False),
        sa.Column("location", TEXT),
        sa.Column("digest", sa.BigInteger),
        sa.UniqueConstraint("name", "fingerprint", name="uq_detectors_name_fingerprint"),
    )
    op.create_table(
        "croppings",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("root_id", WHOLE, sa.ForeignKey("roots.id"), nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("category", TEXT, nullable=False),
        sa.Column("size", WHOLE, nullable=False),
        sa.Column("mtime_ns", WHOLE, nullable=False),
        sa.Column("ctime_ns", WHOLE, nullable=False),
        sa.Column("sha256", SHA256),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("label", TEXT, nullable=False),
        sa.Column("words", TEXT, nullable=False),
        sa.Column("detector_id", WHOLE, sa.ForeignKey("detectors.id"), nullable=False),
        sa.Column("options", TEXT, nullable=False),
        sa.Column("failure", TEXT),
        sa.Column("decoder", TEXT, nullable=False),
        sa.Column("created", TEXT, nullable=False),
        sa.Column("digest", sa.BigInteger),
        sa.UniqueConstraint("root_id", "path", "role", "label", "words", name="uq_croppings_picture"),
    )
    op.create_table(
        "crops",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("cropping_id", WHOLE, sa.ForeignKey("croppings.id"), nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("sha256", SHA256, nullable=False),
        sa.Column("box_left", WHOLE, nullable=False),
        sa.Column("box_top", WHOLE, nullable=False),
        sa.Column("box_right", WHOLE, nullable=False),
        sa.Column("box_bottom", WHOLE, nullable=False),
        sa.Column("name", TEXT),
        sa.Column("score", sa.Float),
        sa.Column("mask", sa.LargeBinary),
        sa.Column("digest", sa.BigInteger),
    )
    op.create_index("ix_crops_cropping", "crops", ["cropping_id"])
    op.create_index("ix_crops_path", "crops", ["path"])
    if op.get_bind().dialect.name != "sqlite":
        return
    held = "CASE typeof(NEW.{0}) WHEN 'text' THEN CAST(NEW.{0} AS BLOB) ELSE NEW.{0} END"
    for table, columns in COVERED.items():
        new = ", ".join(held.format(name) for name in columns)
        keep = f"BEGIN UPDATE {table} SET digest = nearshot_digest({new}) WHERE rowid = NEW.rowid; END"
        op.execute(f"CREATE TRIGGER {table}_added_digest AFTER INSERT ON {table} {keep}")
        op.execute(f"CREATE TRIGGER {table}_edited_digest AFTER UPDATE OF {', '.join(columns)} ON {table} {keep}")
