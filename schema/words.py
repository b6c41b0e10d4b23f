"""Words: how captions are split for the full-text index, and how a person's query becomes one for it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

# Scripts whose words stand in a run without spaces (or, in Hangul, with endings attached): kana, ideographs, Hangul.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f"
_RUN = re.compile(f"[{_UNSPACED}]+")
_TOKEN = re.compile(r'"([^"]*)"?|([^\s"]+)')
_OPERATORS = {"AND", "OR", "NOT"}

MOST_TERMS = 64
"""Largest number of words and phrases taken from a query; any more are passed over."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words (of which unspaced script counts as its bigrams) that stand one after the other; the last may be a word's start."""

    words: tuple[str, ...]
    in_bigrams: bool = False
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Term:
    """Phrases that must all occur; `operator` is what stands between this and all that was before it (AND, OR, NOT)."""

    phrases: tuple[Phrase, ...]
    operator: str = "AND"


@dataclass(frozen=True, slots=True)
class Match:
    """What captions must have: one or more terms, each taken together with all before it."""

    terms: tuple[Term, ...]

    @classmethod
    def of(cls, phrase: Phrase) -> Match:
        """What has a phrase."""
        return cls((Term((phrase,)),))

    @property
    def has_choice(self) -> bool:
        """Tell whether captions may match by different words (OR)."""
        return any(term.operator == "OR" for term in self.terms[1:])

    def phrases(self) -> list[Phrase]:
        """All its phrases."""
        return [phrase for term in self.terms for phrase in term.phrases]


class CaptionHit(NamedTuple):
    """An image whose caption matches; `snippet` marks what matched with brackets; a lower `rank` is better."""

    image_id: int
    text: str
    snippet: str
    rank: float


def bigrams(text: str) -> str:
    """Every two neighbouring characters of unspaced script, and the last one of each run, separated by spaces.

    A word inside a run is then a phrase of its own bigrams; one character is the start of a bigram, or a last one.
    """
    return " ".join(
        part for run in _RUN.findall(text) for part in (*("".join(pair) for pair in pairwise(run)), run[-1])
    )


def match_of(query: str) -> Match | None:
    """What a person typed as a search; None where it holds nothing that can be searched for.

    Words must all occur; "quoted words" in that order; AND, OR and NOT (in capitals) and prefix* mean what they say, as
    far as they make sense where they stand: between two terms, from left to right; others are passed over. Whatever is typed
    can be searched for. A prefix is compared with stems (those of English, by Porter's rules), as every word is: car* finds
    carrying, while bicy* is stemmed to bici and misses bicycle.
    """
    terms: list[Term] = []
    operator = "AND"
    number = 0
    for phrase, word in _TOKEN.findall(query):
        if number == MOST_TERMS:
            break
        if word in _OPERATORS:
            operator = word if terms else "AND"
        elif phrases := _phrases(phrase or word, prefix=word.endswith("*")):
            terms.append(Term(phrases, operator))
            operator = "AND"
            number += 1
    return Match(tuple(terms)) if terms else None


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


def _phrases(words: str, *, prefix: bool) -> tuple[Phrase, ...]:
    """Those of one term: its unspaced runs as bigrams, the rest as a phrase of words."""
    phrases = []
    for run in _RUN.findall(words):
        pairs = tuple("".join(pair) for pair in pairwise(run))
        phrases.append(Phrase(pairs or (run,), in_bigrams=True, prefix=not pairs))
    if spaced := tuple(word for word in re.findall(r"\w+", _RUN.sub(" ", words)) if word.strip("_")):
        phrases.append(Phrase(spaced, prefix=prefix))
    return tuple(phrases)
