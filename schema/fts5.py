"""SQLite's full-text index of captions (FTS5), which triggers keep in step."""

from __future__ import annotations

import json

from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError

from nearshot.schema.digests import check_captions
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.vocabulary import BY_HAND
from nearshot.schema.words import CaptionHit, Match, Phrase, Term

# Okapi BM25 as FTS5 has it (k1 = 1.2, b = 0.75; lower is better), and the same with an idf of 1: from how many words of a
# caption would be highlighted (each lengthens it by a full stop) and how many it has (above its id in `place`).
BM25 = ("bm25(captions_fts)", "measure")
BM25_WITHOUT_IDF = (
    "length(highlight(captions_fts, 0, '', '.')) + length(highlight(captions_fts, 1, '', '.'))"
    " - length(captions.text) - length(captions.bigrams)",
    "-measure / (measure + 1.2 * (0.25 + 0.75 * words / avg(words) OVER ()))",
)


def expression(match: Match) -> str:
    """The match in FTS5's own language. Whatever was typed, it is valid: each word is quoted.

    Parentheses stand only where the operator changes: FTS5 takes no more than some hundred, one inside the other.
    """
    first, *more = match.terms
    joined, last = _term(first), ""
    for term in more:
        left = joined if last in ("", term.operator) else f"({joined})"
        joined, last = f"{left} {term.operator} {_term(term)}", term.operator
    return joined


def _term(term: Term) -> str:
    return f"({' AND '.join(map(_phrase, term.phrases))})"


def _phrase(phrase: Phrase) -> str:
    column = "bigrams" if phrase.in_bigrams else "text"
    return f'{column} : "{" ".join(phrase.words)}"' + (" *" if phrase.prefix else "")


def search(
    connection: Connection, match: Match, wanted: ImageFilter, *, limit: int, weighed: bool, most: int | None
) -> list[CaptionHit]:
    """As `caption_search.search_captions`: of the `most` shortest captions that match (None: of all), ranked by BM25 with words
    `weighed` by how few captions have them, or all alike. (The index yields the shortest first; ranking 100,000 takes 200 ms.)
    """
    # The clauses are fixed words; every value is a parameter. Of an image's captions, min() picks the best one's row.
    # CROSS JOIN makes SQLite walk the full-text index in its own order, and stop when it has enough.
    clauses = " AND ".join(["images.present", *wanted.clauses()])
    measure, score = BM25 if weighed else BM25_WITHOUT_IDF
    best = text(
        f"""
        WITH matching AS MATERIALIZED (
            SELECT captions_fts.rowid AS place, captions.content_id, captions.text,
            (captions_fts.rowid >> 40) + 1 AS words, {measure} AS measure
            FROM captions_fts CROSS JOIN captions ON captions.place = captions_fts.rowid
            WHERE captions_fts MATCH :expression
            AND (captions.task = :by_hand OR NOT EXISTS (
                SELECT 1 FROM captions AS own WHERE own.content_id = captions.content_id AND own.task = :by_hand))
            AND EXISTS (SELECT 1 FROM images WHERE images.content_id = captions.content_id AND {clauses})
            ORDER BY captions_fts.rowid LIMIT :candidates
        ),
        candidates AS MATERIALIZED (SELECT place, content_id, text, {score} AS score FROM matching)
        SELECT images.id AS image_id, candidates.place, candidates.text, min(candidates.score) AS score
        FROM candidates CROSS JOIN images ON images.content_id = candidates.content_id
        WHERE {clauses} GROUP BY images.id ORDER BY score, images.id LIMIT :limit
        """
    )
    candidates = -1 if most is None else most
    values = {"by_hand": BY_HAND, "limit": limit, "candidates": candidates, **wanted.parameters()}
    matches = connection.execute(best, {"expression": expression(match), **values}).all()
    check_captions(connection, [row.image_id for row in matches])
    # Between the first place and the last, one walk; to look each place up anew takes longer than all the rest.
    marked = text(
        """
        SELECT rowid, snippet(captions_fts, 0, '[', ']', '...', 16) FROM captions_fts
        WHERE captions_fts MATCH :expression AND rowid BETWEEN :first AND :last
        AND +rowid IN (SELECT value FROM json_each(:places))
        """
    )
    places = [row.place for row in matches]
    ends = {"first": min(places, default=0), "last": max(places, default=0)}
    marks = connection.execute(marked, {"expression": expression(match), "places": json.dumps(places), **ends})
    snippets = dict(map(tuple, marks))
    return [CaptionHit(row.image_id, row.text, snippets[row.place], row.score) for row in matches]


def problem(connection: Connection) -> str | None:
    """Describe what SQLite's own check of the full-text index against the captions finds. (It counts as a write.)"""
    try:
        connection.exec_driver_sql("INSERT INTO captions_fts(captions_fts, rank) VALUES ('integrity-check', 1)")
    except DatabaseError:
        return "the full-text index differs from the captions"
    return None


def rebuild(connection: Connection) -> None:
    """Make the full-text index anew from the captions."""
    connection.exec_driver_sql("INSERT INTO captions_fts(captions_fts) VALUES ('rebuild')")
