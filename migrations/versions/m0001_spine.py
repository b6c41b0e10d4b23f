"""The spine: contents, images, backbones, embeddings, snapshots, runs and the revision counter."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables; ids of images are never reused (AUTOINCREMENT)."""
    counter = op.create_table(
        "revision",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
        sa.Column("value", sa.Integer, nullable=False),
    )
    op.bulk_insert(counter, [{"id": 1, "value": 0}])
    op.create_table(
        "roots",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("path", sa.String, nullable=False, unique=True),
    )
    op.create_table(
        "contents",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("format", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
    )
    op.create_table(
        "images",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("root_id", sa.Integer, sa.ForeignKey("roots.id"), nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("label", sa.String),
        sa.Column("shot", sa.String),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("mtime_ns", sa.Integer, nullable=False),
        sa.Column("ctime_ns", sa.Integer, nullable=False),
        sa.Column("content_id", sa.Integer, sa.ForeignKey("contents.id")),
        sa.Column("failure", sa.String),
        sa.Column("decoder", sa.String),
        sa.Column("present", sa.Boolean, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.UniqueConstraint("root_id", "path", name="uq_images_root_path"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_images_category_role_revision", "images", ["category", "role", "revision"])
    op.create_index("ix_images_content", "images", ["content_id"])
    op.create_table(
        "backbones",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("dimension", sa.Integer, nullable=False),
        sa.Column("precision", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("location", sa.String),
        sa.Column("signature", sa.String(64), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.UniqueConstraint("name", "fingerprint", name="uq_backbones_name_fingerprint"),
    )
    op.create_table(
        "embeddings",
        sa.Column("content_id", sa.Integer, sa.ForeignKey("contents.id"), nullable=False),
        sa.Column("backbone_id", sa.Integer, sa.ForeignKey("backbones.id"), nullable=False),
        sa.Column("vector", sa.LargeBinary),
        sa.Column("failure", sa.String),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("content_id", "backbone_id"),
    )
    op.create_index("ix_embeddings_backbone_revision", "embeddings", ["backbone_id", "revision"])
    none = sa.text("vector IS NULL")
    op.create_index(
        "ix_embeddings_failed", "embeddings", ["backbone_id", "content_id"], sqlite_where=none, postgresql_where=none
    )
    op.create_table(
        "snapshots",
        sa.Column("backbone_id", sa.Integer, sa.ForeignKey("backbones.id"), nullable=False),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("file", sa.String, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("vectors", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("backbone_id", "category", "role"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("root_id", sa.Integer, sa.ForeignKey("roots.id"), nullable=False),
        sa.Column("arguments", sa.String, nullable=False),
        sa.Column("started", sa.String, nullable=False),
        sa.Column("finished", sa.String),
        sa.Column("outcome", sa.String),
        sa.Column("report", sa.String),
        sa.Column("version", sa.String, nullable=False),
    )
