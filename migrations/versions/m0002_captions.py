"""Captions and their full-text index, which triggers keep in step."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

from nearshot.migrations.columns import SHA256, TEXT, WHOLE

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
    """Create the table, and the full-text index over it: in SQLite FTS5 (external content) and its triggers."""
    op.create_table(
        "captions",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("content_id", WHOLE, sa.ForeignKey("contents.id"), nullable=False),
        sa.Column("task", TEXT, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("bigrams", TEXT, nullable=False),
        sa.Column("fingerprint", SHA256),
        sa.Column("created", TEXT, nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
        sa.UniqueConstraint("content_id", "task", name="uq_captions_content_task"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TEXT SEARCH DICTIONARY nearshot_stem (TEMPLATE = snowball, LANGUAGE = porter)")
        op.execute("CREATE TEXT SEARCH CONFIGURATION nearshot (COPY = simple)")
        op.execute("ALTER TEXT SEARCH CONFIGURATION nearshot ALTER MAPPING REPLACE simple WITH nearshot_stem")
        op.create_table(
            "caption_lexemes",
            sa.Column("caption_id", WHOLE, sa.ForeignKey("captions.id", ondelete="CASCADE"), primary_key=True),
            sa.Column("lexemes", TSVECTOR, nullable=False),
            sa.Column("spaces", WHOLE, nullable=False),
            sa.Column("words", WHOLE, nullable=False),
        )
        op.create_index("ix_caption_lexemes", "caption_lexemes", ["lexemes"], postgresql_using="gin")
    if op.get_bind().dialect.name == "sqlite":
        op.execute(INDEX)
        op.execute(f"CREATE TRIGGER captions_added AFTER INSERT ON captions BEGIN {ADD} END")
        op.execute(f"CREATE TRIGGER captions_removed AFTER DELETE ON captions BEGIN {TAKE} END")
        op.execute(f"CREATE TRIGGER captions_edited AFTER UPDATE OF text, bigrams ON captions BEGIN {TAKE} {ADD} END")
