"""The spine: contents, images, backbones, embeddings, snapshots, runs and the revision counter."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nearshot.migrations.columns import SHA256, TEXT, WHOLE, VectorBytes

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables; ids of images are never reused (AUTOINCREMENT)."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE EXTENSION IF NOT EXISTS vector")
        op.execute("CREATE TABLE store_identity AS SELECT gen_random_uuid() AS id")
    counter = op.create_table(
        "revision",
        sa.Column("id", WHOLE, sa.CheckConstraint("id = 1"), primary_key=True),
        sa.Column("value", WHOLE, nullable=False),
    )
    op.bulk_insert(counter, [{"id": 1, "value": 0}])
    op.create_table(
        "roots",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("path", TEXT, nullable=False, unique=True),
    )
    op.create_table(
        "contents",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("sha256", SHA256, nullable=False, unique=True),
        sa.Column("size", WHOLE, nullable=False),
        sa.Column("width", WHOLE, nullable=False),
        sa.Column("height", WHOLE, nullable=False),
        sa.Column("format", TEXT, nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
    )
    op.create_table(
        "images",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("root_id", WHOLE, sa.ForeignKey("roots.id"), nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("category", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("label", TEXT),
        sa.Column("shot", TEXT),
        sa.Column("size", WHOLE, nullable=False),
        sa.Column("mtime_ns", WHOLE, nullable=False),
        sa.Column("ctime_ns", WHOLE, nullable=False),
        sa.Column("content_id", WHOLE, sa.ForeignKey("contents.id")),
        sa.Column("failure", TEXT),
        sa.Column("decoder", TEXT),
        sa.Column("present", sa.Boolean, nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
        sa.UniqueConstraint("root_id", "path", name="uq_images_root_path"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_images_category_role_revision", "images", ["category", "role", "revision"])
    op.create_index("ix_images_content", "images", ["content_id"])
    op.create_table(
        "backbones",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("fingerprint", SHA256, nullable=False),
        sa.Column("dimension", WHOLE, nullable=False),
        sa.Column("precision", TEXT, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("location", TEXT),
        sa.Column("signature", SHA256, nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
        sa.UniqueConstraint("name", "fingerprint", name="uq_backbones_name_fingerprint"),
    )
    op.create_table(
        "embeddings",
        sa.Column("content_id", WHOLE, sa.ForeignKey("contents.id"), nullable=False),
        sa.Column("backbone_id", WHOLE, sa.ForeignKey("backbones.id"), nullable=False),
        sa.Column("vector", VectorBytes),
        sa.Column("failure", TEXT),
        sa.Column("revision", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("content_id", "backbone_id"),
        postgresql_partition_by="LIST (backbone_id)",
    )
    op.create_index("ix_embeddings_backbone_revision", "embeddings", ["backbone_id", "revision"])
    none = sa.text("vector IS NULL")
    op.create_index(
        "ix_embeddings_failed", "embeddings", ["backbone_id", "content_id"], sqlite_where=none, postgresql_where=none
    )
    op.create_table(
        "snapshots",
        sa.Column("backbone_id", WHOLE, sa.ForeignKey("backbones.id"), nullable=False),
        sa.Column("category", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("file", TEXT, nullable=False),
        sa.Column("size", WHOLE, nullable=False),
        sa.Column("sha256", SHA256, nullable=False),
        sa.Column("vectors", WHOLE, nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("backbone_id", "category", "role"),
    )
    op.create_table(
        "runs",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("root_id", WHOLE, sa.ForeignKey("roots.id"), nullable=False),
        sa.Column("arguments", TEXT, nullable=False),
        sa.Column("started", TEXT, nullable=False),
        sa.Column("finished", TEXT),
        sa.Column("outcome", TEXT),
        sa.Column("report", TEXT),
        sa.Column("version", TEXT, nullable=False),
    )
