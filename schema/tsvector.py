"""PostgreSQL's full-text index of captions (tsvector), which whoever writes captions keeps in step.

What it finds, and how it ranks, is what SQLite's (`schema.fts5`) does: the same words, Porter's stems, without diacritics, by
BM25. PostgreSQL has no such ranking, so candidates are ranked here.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import starmap
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, select, text

from nearshot.schema import tables
from nearshot.schema.catalog import CHUNK, USABLE
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.vocabulary import BY_HAND
from nearshot.schema.words import CaptionHit, Match, Phrase

MOST = 10_000
"""Number of captions that are ranked where a query has a choice of words: the shortest of those that match."""

SNIPPET = 16
"""Words of a caption that are shown of it."""

K1, B = 1.2, 0.75
"""What BM25 is computed with, as in FTS5."""

_WORD = re.compile(r"[^\W_]+")
_LEXEME = re.compile(r"'((?:[^']|'')*)':([0-9ABCD,]+)")

_INDEXED = "setweight(to_tsvector('nearshot', {0}), 'A') || setweight(to_tsvector('nearshot', {1}), 'B')"

images, captions = tables.images.c, tables.captions.c


class _Written(NamedTuple):
    """A caption by id, and the bigrams of its unspaced script."""

    id: int
    text: str
    bigrams: str


def plain(words: str) -> str:
    """The words of a text as they are indexed: in small letters, without diacritics, separated by spaces."""
    apart = unicodedata.normalize("NFD", words.lower())
    together = unicodedata.normalize("NFC", "".join(c for c in apart if not "\u0300" <= c <= "\u036f"))
    return " ".join(_WORD.findall(together))


def keep(connection: Connection, content_ids: Sequence[int], task: str) -> None:
    """Bring the index up to what a task wrote of some contents."""
    written = select(captions.id, captions.text, captions.bigrams).where(
        captions.task == task, captions.content_id.in_(bindparam("ids", expanding=True))
    )
    for start in range(0, len(content_ids), CHUNK):
        rows = connection.execute(written, {"ids": content_ids[start : start + CHUNK]})
        _index(connection, list(starmap(_Written, rows)))


def _index(connection: Connection, rows: Sequence[_Written]) -> None:
    statement = f"""
        INSERT INTO caption_lexemes (caption_id, lexemes, spaces, words)
        SELECT id, {_INDEXED.format("written", "pairs")}, spaces, words FROM {_GIVEN}
        ON CONFLICT (caption_id) DO UPDATE
        SET lexemes = excluded.lexemes, spaces = excluded.spaces, words = excluded.words
    """
    connection.execute(text(statement), _given(rows))


_GIVEN = """
    unnest(CAST(:ids AS bigint[]), CAST(:texts AS text[]), CAST(:bigrams AS text[]), CAST(:spaces AS int[]),
    CAST(:words AS int[])) AS given(id, written, pairs, spaces, words)
"""


def _given(rows: Sequence[_Written]) -> dict[str, list[Any]]:
    texts, pairs = [plain(row.text) for row in rows], [plain(row.bigrams) for row in rows]
    return {
        "ids": [row.id for row in rows],
        "texts": texts,
        "bigrams": pairs,
        "spaces": [row.text.count(" ") + row.bigrams.count(" ") for row in rows],
        "words": [len(own.split()) + len(more.split()) for own, more in zip(texts, pairs, strict=True)],
    }


def problem(connection: Connection) -> str | None:
    """Describe what is wrong with the index, held against the captions."""
    differs = text(
        f"""
        SELECT count(*) FROM {_GIVEN} LEFT JOIN caption_lexemes AS held ON held.caption_id = given.id
        WHERE (held.lexemes, held.spaces, held.words)
        IS DISTINCT FROM ({_INDEXED.format("written", "pairs")}, given.spaces, given.words)
        """
    )
    for rows in _every_caption(connection):
        if connection.execute(differs, _given(rows)).scalar_one():
            return "the full-text index differs from the captions"
    return None


def rebuild(connection: Connection) -> None:
    """Make the index anew from the captions."""
    connection.execute(text("DELETE FROM caption_lexemes"))
    for rows in _every_caption(connection):
        _index(connection, rows)


def _every_caption(connection: Connection) -> Iterator[list[_Written]]:
    query = select(captions.id, captions.text, captions.bigrams).where(captions.id > bindparam("last"))
    last = 0
    while rows := list(starmap(_Written, connection.execute(query.order_by(captions.id).limit(CHUNK), {"last": last}))):
        yield rows
        last = rows[-1].id


class _Candidate(NamedTuple):
    """A caption that matches: its number of words, and where its lexemes stand, by column (A: text, B: bigrams)."""

    caption_id: int
    content_id: int
    text: str
    words: int
    places: Mapping[str, Mapping[str, Sequence[int]]]

    def occurrences(self, phrase: Sequence[str], column: str, *, prefix: bool) -> list[int]:
        """Where a phrase of lexemes begins, ascending."""
        held = self.places[column]
        starts: set[int] | None = None
        for offset, lexeme in enumerate(phrase):
            whole = not (prefix and offset == len(phrase) - 1)
            words = [lexeme] if whole else [word for word in held if word.startswith(lexeme)]
            begins = {position - offset for word in words for position in held.get(word, ())}
            starts = begins if starts is None else starts & begins
        return sorted(starts or ())


def search(
    connection: Connection, match: Match, wanted: ImageFilter, *, limit: int, weighed: bool, most: int | None
) -> list[CaptionHit]:
    """As `schema.fts5.search`; but no more than 10,000 captions are ranked."""
    phrases = match.phrases()
    lexemes = [_lexemes(connection, phrase) for phrase in phrases]
    candidates = list(_candidates(connection, match, wanted, MOST if most is None else most))
    columns = ["B" if phrase.in_bigrams else "A" for phrase in phrases]
    starts_by_phrase = [
        _counted(
            match,
            [
                candidate.occurrences(own, column, prefix=phrase.prefix)
                for phrase, own, column in zip(phrases, lexemes, columns, strict=True)
            ],
        )
        for candidate in candidates
    ]
    numbers = [[len(starts) for starts in own] for own in starts_by_phrase]
    scores = _bm25(connection, phrases, candidates, numbers) if weighed else _bm25_without_idf(candidates, numbers)
    best = _best(connection, candidates, scores, wanted)
    ranked = sorted((scores[number], image_id, number) for image_id, number in best.items())[:limit]
    hits = []
    for score, image_id, number in ranked:
        spans = [
            (start, start + len(own))
            for own, column, starts in zip(lexemes, columns, starts_by_phrase[number], strict=True)
            if column == "A"
            for start in starts
        ]
        caption = candidates[number].text
        hits.append(CaptionHit(image_id, caption, snippet(caption, spans), score))
    return hits


def _counted(match: Match, starts_by_phrase: Sequence[list[int]]) -> list[list[int]]:
    """Where each phrase stands in a caption that matches, as far as FTS5 counts it: only if all that it is a part of holds.

    In "a NOT b OR c", a counts where b is not there, and b never. (Where its walk over the index happens to stand there, FTS5
    counts it all the same.)
    """
    starts = iter(starts_by_phrase)
    own = [[next(starts) for _ in term.phrases] for term in match.terms]
    holds: list[bool] = []
    for term, phrases in zip(match.terms, own, strict=True):
        has = all(phrases)
        before = holds[-1] if holds else has
        holds.append(
            {"AND": before and has, "OR": before or has, "NOT": before and not has}[term.operator if holds else "AND"]
        )
    counted: list[list[int]] = []
    for number, phrases in enumerate(own):
        counts = all(phrases) and all(holds[number:])
        counted += phrases if counts else [[] for _ in phrases]
    return counted


def _lexemes(connection: Connection, phrase: Phrase) -> list[str]:
    """The stems of a phrase's words, in order."""
    own = connection.execute(text("SELECT to_tsvector('nearshot', :words)"), {"words": plain(" ".join(phrase.words))})
    places = _places(own.scalar_one(), {"D"})["D"]
    by_position = {position: lexeme for lexeme, at in places.items() for position in at}
    return [by_position[position] for position in sorted(by_position)]


def _places(lexemes: str, columns: set[str]) -> dict[str, dict[str, list[int]]]:
    """Where each lexeme stands, by column, as PostgreSQL writes a tsvector; what is of no column is in D."""
    places: dict[str, dict[str, list[int]]] = {column: {} for column in columns}
    for lexeme, at in _LEXEME.findall(lexemes):
        for position in at.split(","):
            column = position[-1] if position[-1] in "ABCD" else "D"
            places[column].setdefault(lexeme.replace("''", "'"), []).append(int(position.rstrip("ABCD")))
    return places


def _tsquery(match: Match) -> tuple[str, dict[str, str]]:
    """The match as an expression of type tsquery, and its parameters."""
    parameters: dict[str, str] = {}

    def phrase(own: Phrase) -> str:
        column = "B" if own.in_bigrams else "A"
        words = plain(" ".join(own.words)).split()
        ends = ["*" if own.prefix and number == len(words) - 1 else "" for number in range(len(words))]
        name = f"phrase_{len(parameters)}"
        parameters[name] = " <-> ".join(f"'{word}':{end}{column}" for word, end in zip(words, ends, strict=True))
        return f"to_tsquery('nearshot', :{name})"

    joined = ""
    for term in match.terms:
        own = "(" + " && ".join(map(phrase, term.phrases)) + ")"
        operator = {"AND": " && ", "OR": " || ", "NOT": " && !! "}[term.operator]
        joined = f"({joined}{operator}{own})" if joined else own
    return joined, parameters


def _candidates(connection: Connection, match: Match, wanted: ImageFilter, most: int) -> Iterator[_Candidate]:
    query, parameters = _tsquery(match)
    clauses = " AND ".join(["images.present", *wanted.clauses()])
    statement = text(
        f"""
        SELECT captions.id, captions.content_id, captions.text, held.words, CAST(held.lexemes AS text) AS lexemes
        FROM caption_lexemes AS held JOIN captions ON captions.id = held.caption_id
        WHERE held.lexemes @@ {query}
        AND (captions.task = :by_hand OR NOT EXISTS (
            SELECT 1 FROM captions AS own WHERE own.content_id = captions.content_id AND own.task = :by_hand))
        AND EXISTS (SELECT 1 FROM images WHERE images.content_id = captions.content_id AND {clauses})
        ORDER BY held.spaces, captions.id LIMIT :most
        """
    )
    values = {"by_hand": BY_HAND, "most": most, **parameters, **wanted.parameters()}
    for row in connection.execute(statement, values):
        yield _Candidate(row.id, row.content_id, row.text, row.words, _places(row.lexemes, {"A", "B", "D"}))


def _bm25(
    connection: Connection,
    phrases: Sequence[Phrase],
    candidates: Sequence[_Candidate],
    numbers: Sequence[Sequence[int]],
) -> list[float]:
    """Okapi BM25 as FTS5 has it, lower is better: a phrase that is in more than half of all captions weighs next to nothing."""
    count, words = connection.execute(text("SELECT count(*), coalesce(sum(words), 0) FROM caption_lexemes")).one()
    weights = []
    for phrase in phrases:
        query, parameters = _tsquery(Match.of(phrase))
        having = text(f"SELECT count(*) FROM caption_lexemes WHERE lexemes @@ {query}")
        held = connection.execute(having, parameters).scalar_one()
        weight = math.log((count - held + 0.5) / (held + 0.5))
        weights.append(weight if weight > 0 else 1e-6)
    mean = float(words) / max(1, count)
    return [
        -sum(
            weight * number * (K1 + 1) / (number + K1 * (1 - B + B * candidate.words / mean))
            for weight, number in zip(weights, own, strict=True)
        )
        for candidate, own in zip(candidates, numbers, strict=True)
    ]


def _bm25_without_idf(candidates: Sequence[_Candidate], numbers: Sequence[Sequence[int]]) -> list[float]:
    """The same where all words weigh alike, without its constant factor."""
    mean = sum(candidate.words for candidate in candidates) / max(1, len(candidates))
    totals = [sum(own) for own in numbers]
    return [
        -total / (total + K1 * (1 - B + B * candidate.words / mean))
        for candidate, total in zip(candidates, totals, strict=True)
    ]


def _best(
    connection: Connection, candidates: Sequence[_Candidate], scores: Sequence[float], wanted: ImageFilter
) -> dict[int, int]:
    """Of each wanted image of the candidates, by id, the number of the best of its captions."""
    by_content: dict[int, int] = {}
    for number, candidate in enumerate(candidates):
        before = by_content.setdefault(candidate.content_id, number)
        if scores[number] < scores[before]:
            by_content[candidate.content_id] = number
    query = select(images.id, images.content_id).where(
        USABLE,
        images.content_id.in_(bindparam("contents", expanding=True)),
        *(getattr(images, name) == value for name, value in wanted.parameters().items()),
    )
    contents = list(by_content)
    best: dict[int, int] = {}
    for start in range(0, len(contents), CHUNK):
        for image_id, content_id in connection.execute(query, {"contents": contents[start : start + CHUNK]}):
            best[image_id] = by_content[content_id]
    return best


def snippet(caption: str, spans: Sequence[tuple[int, int]]) -> str:
    """A caption with brackets around what matched (spans of its words, counted from 1), or the 16 words with most of that."""
    words = list(_WORD.finditer(caption))
    merged: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    start = 0
    if len(words) > SNIPPET:
        first_words = [first - 1 for first, _ in merged] or [0]
        latest = len(words) - SNIPPET
        start = max(
            (min(word, latest) for word in (0, *first_words)),
            key=lambda begin: sum(begin <= word < begin + SNIPPET for word in first_words),
        )
    end = min(len(words), start + SNIPPET)
    if not words:
        return caption
    left = words[start].start() if start else 0
    right = words[end - 1].end() if end < len(words) else len(caption)
    pieces, done = [], left
    for first, last in merged:
        if first - 1 < start or last - 1 > end:
            continue
        begin, finish = words[first - 1].start(), words[last - 2].end()
        pieces += [caption[done:begin], f"[{caption[begin:finish]}]"]
        done = finish
    pieces.append(caption[done:right])
    return ("..." if start else "") + "".join(pieces) + ("..." if end < len(words) else "")
