"""Captions in the full-text index by length: those of fewest words first."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

# The number of words, those of both columns, above the id: a place in the index that is unique and ascends with length.
WORDS = "length(text) - length(replace(text, ' ', '')) + length(bigrams) - length(replace(bigrams, ' ', ''))"
PLACE = f"(min({WORDS}, 65535) << 40) | id"
INDEX = """
CREATE VIRTUAL TABLE captions_fts USING fts5(
    text, bigrams, content = 'captions', content_rowid = 'place', tokenize = 'porter unicode61 remove_diacritics 2'
)
"""
ADD = "INSERT INTO captions_fts(rowid, text, bigrams) VALUES (new.place, new.text, new.bigrams);"
TAKE = (
    "INSERT INTO captions_fts(captions_fts, rowid, text, bigrams) VALUES ('delete', old.place, old.text, old.bigrams);"
)


def upgrade() -> None:
    """On SQLite, make the full-text index anew, ordered by place."""
    if op.get_bind().dialect.name != "sqlite":
        return
    for trigger in ("captions_added", "captions_removed", "captions_edited"):
        op.execute(f"DROP TRIGGER {trigger}")
    op.execute("DROP TABLE captions_fts")
    op.execute(f"ALTER TABLE captions ADD COLUMN place INTEGER GENERATED ALWAYS AS ({PLACE}) VIRTUAL")
    op.execute("CREATE UNIQUE INDEX ix_captions_place ON captions (place)")
    op.execute(INDEX)
    op.execute("INSERT INTO captions_fts(captions_fts) VALUES ('rebuild')")
    op.execute(f"CREATE TRIGGER captions_added AFTER INSERT ON captions BEGIN {ADD} END")
    op.execute(f"CREATE TRIGGER captions_removed AFTER DELETE ON captions BEGIN {TAKE} END")
    op.execute(f"CREATE TRIGGER captions_edited AFTER UPDATE OF text, bigrams ON captions BEGIN {TAKE} {ADD} END")
