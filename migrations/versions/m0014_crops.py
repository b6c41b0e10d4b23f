"""Crops: which raw pictures were looked at, by which detector, and what was cut out of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

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
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("signature", sa.String(64), nullable=False),
        sa.Column("location", sa.String),
        sa.Column("digest", sa.BigInteger),
        sa.UniqueConstraint("name", "fingerprint", name="uq_detectors_name_fingerprint"),
    )
    op.create_table(
        "croppings",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("root_id", sa.Integer, sa.ForeignKey("roots.id"), nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("mtime_ns", sa.Integer, nullable=False),
        sa.Column("ctime_ns", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("words", sa.String, nullable=False),
        sa.Column("detector_id", sa.Integer, sa.ForeignKey("detectors.id"), nullable=False),
        sa.Column("options", sa.String, nullable=False),
        sa.Column("failure", sa.String),
        sa.Column("decoder", sa.String, nullable=False),
        sa.Column("created", sa.String, nullable=False),
        sa.Column("digest", sa.BigInteger),
        sa.UniqueConstraint("root_id", "path", "role", "label", "words", name="uq_croppings_picture"),
    )
    op.create_table(
        "crops",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("cropping_id", sa.Integer, sa.ForeignKey("croppings.id"), nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("box_left", sa.Integer, nullable=False),
        sa.Column("box_top", sa.Integer, nullable=False),
        sa.Column("box_right", sa.Integer, nullable=False),
        sa.Column("box_bottom", sa.Integer, nullable=False),
        sa.Column("name", sa.String),
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
