"""Captions and their full-text index, which triggers keep in step."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INDEX = """
CREATE VIRTUAL TABLE captions_fts USING fts5(
    text, bigrams, content = 'captions', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
)
"""
ADD = "INSERT INTO captions_fts(rowid, text, bigrams) VALUES (new.id, new.text, new.bigrams);"
TAKE = "INSERT INTO captions_fts(captions_fts, rowid, text, bigrams) VALUES ('delete', old.id, old.text, old.bigrams);"


def upgrade() -> None:
    """Create the table; on SQLite, the FTS5 index over it (external content) and its triggers."""
    op.create_table(
        "captions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("content_id", sa.Integer, sa.ForeignKey("contents.id"), nullable=False),
        sa.Column("task", sa.String, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("bigrams", sa.String, nullable=False),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("created", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.UniqueConstraint("content_id", "task", name="uq_captions_content_task"),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(INDEX)
        op.execute(f"CREATE TRIGGER captions_added AFTER INSERT ON captions BEGIN {ADD} END")
        op.execute(f"CREATE TRIGGER captions_removed AFTER DELETE ON captions BEGIN {TAKE} END")
        op.execute(f"CREATE TRIGGER captions_edited AFTER UPDATE OF text, bigrams ON captions BEGIN {TAKE} {ADD} END")
