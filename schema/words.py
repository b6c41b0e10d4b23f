"""Words: how captions are split for the full-text index, and how a person's query becomes one for it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

# Scripts whose words stand in a run without spaces (or, in Hangul, with endings attached): kana, ideographs, Hangul.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f"
_RUN = re.compile(f"[{_UNSPACED}]+")
_TOKEN = re.compile(r'"([^"]*)"?|([^\s"]+)')
_OPERATORS = {"AND", "OR", "NOT"}

MOST_TERMS = 64
"""Largest number of words and phrases taken from a query; any more are passed over."""


@dataclass(frozen=True, slots=True)
class Term:
    """A word, a phrase or the start of a word, as the full-text index asks for it; or an operator between two."""

    expression: str
    operator: bool = False


def bigrams(text: str) -> str:
    """Every two neighbouring characters of unspaced script, and the last one of each run, separated by spaces.

    A word inside a run is then a phrase of its own bigrams; one character is the start of a bigram, or a last one.
    """
    return " ".join(
        part for run in _RUN.findall(text) for part in (*("".join(pair) for pair in pairwise(run)), run[-1])
    )


@dataclass(frozen=True, slots=True)
class Match:
    """An FTS5 expression; `has_choice` tells whether captions may match it by different words (OR)."""

    expression: str
    has_choice: bool = False


def match_expression(query: str) -> Match | None:
    """An FTS5 expression for what a person typed; None where it holds nothing that can be searched for.

    Words must all occur; "quoted words" in that order; AND, OR and NOT (in capitals) and prefix* mean what they say, as
    far as they make sense where they stand. Whatever is typed, the expression is valid: each word is quoted.
    A prefix is compared with stems (those of English, by Porter's rules), as every word is: car* finds carrying, while
    bicy* is stemmed to bici and misses bicycle.
    """
    terms: list[Term] = []
    for phrase, word in _TOKEN.findall(query):
        if sum(not term.operator for term in terms) == MOST_TERMS:
            break
        if word in _OPERATORS:
            terms.append(Term(word, operator=True))
        elif expression := _expression(phrase or word, prefix=word.endswith("*")):
            terms.append(Term(expression))
    return _joined(terms)


def plain_words(query: str) -> str:
    """Turn what a person typed into plain words, for models that know no operators; what follows NOT is left out."""
    words: list[str] = []
    unwanted = False
    for phrase, word in _TOKEN.findall(query):
        if word in _OPERATORS:
            unwanted = word == "NOT"
            continue
        plain = (phrase or word.rstrip("*")).strip()
        if not unwanted and re.search(r"\w", plain):
            words.append(plain)
        unwanted = False
    return " ".join(words)


def _expression(words: str, *, prefix: bool) -> str | None:
    """One term: its unspaced runs as bigrams, the rest as a phrase of words; all of them."""
    parts = []
    for run in _RUN.findall(words):
        pairs = " ".join("".join(pair) for pair in pairwise(run))
        parts.append(f'bigrams : "{pairs}"' if pairs else f'bigrams : "{run}" *')
    spaced = " ".join(re.findall(r"\w+", _RUN.sub(" ", words)))
    if spaced:
        parts.append(f'text : "{spaced}"' + (" *" if prefix else ""))
    return f"({' AND '.join(parts)})" if parts else None


def _joined(terms: list[Term]) -> Match | None:
    """Terms with the operators that stand between two of them, from left to right; AND where none does; others are passed over.

    Parentheses stand only where the operator changes: FTS5 takes no more than some hundred, one inside the other.
    """
    joined, last = "", ""
    pending: str | None = None
    has_choice = False
    for term in terms:
        if term.operator:
            pending = term.expression if joined else None
            continue
        operator = pending or "AND"
        if not joined:
            joined = term.expression
        else:
            left = joined if last in ("", operator) else f"({joined})"
            joined, last = f"{left} {operator} {term.expression}", operator
            has_choice |= operator == "OR"
        pending = None
    return Match(joined, has_choice) if joined else None
