"""Words: any query whatever is valid, and those who know the operators have them."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearshot.schema.fts5 import expression
from nearshot.schema.words import bigrams, match_of, plain_words

CAPTIONS = {
    1: "A red car parked on a wet street",
    2: "A blue car and a red bicycle",
    3: "Café with two cats sleeping",
    4: "一只红色的汽车停在路边",
    5: "赤い自転車に乗る猫",
    6: "고양이가 의자에 앉아 있다",
    7: "the car's door, a car-lot",
}


@pytest.fixture(scope="module")
def index() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE VIRTUAL TABLE f USING fts5(text, bigrams, tokenize = 'porter unicode61 remove_diacritics 2')"
    )
    connection.executemany(
        "INSERT INTO f(rowid, text, bigrams) VALUES (?, ?, ?)", [(i, t, bigrams(t)) for i, t in CAPTIONS.items()]
    )
    return connection


def find(index: sqlite3.Connection, query: str) -> set[int]:
    match = match_of(query)
    if match is None:
        return set()
    return {row[0] for row in index.execute("SELECT rowid FROM f WHERE f MATCH ?", (expression(match),))}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("car", {1, 2, 7}),
        ("cars red", {1, 2}),
        ('"red car"', {1}),
        ("red NOT bicycle", {1}),
        ("street OR bicycle", {1, 2}),
        ("street OR bicycle red", {1, 2}),
        ("bicyc*", {2}),
        ("cafe", {3}),
        ("CAFÉ", {3}),
        ("sleep cat", {3}),
        ("car's", {7}),
        ("car-lot", {7}),
        ("汽车", {4}),
        ("红色", {4}),
        ("车", {4}),
        ("边", {4}),
        ("猫", {5}),
        ("自転車", {5}),
        ("고양이", {6}),
        ("의자", {6}),
        ("汽车 red", set()),
        ("NOT", set()),
        ("AND car", {1, 2, 7}),
        ("car OR", {1, 2, 7}),
        ("", set()),
        ('* " ( ) : ^ -', set()),
        ("_", set()),
        ("car _ __", {1, 2, 7}),
        ('"unclosed red', set()),
        ('"red car', {1}),
    ],
)
def test_queries_find_what_they_mean(index: sqlite3.Connection, query: str, expected: set[int]) -> None:
    assert find(index, query) == expected


@given(
    st.text()
    | st.lists(st.sampled_from(['"', "AND", "NOT", "OR", "car", "*", "(", "红色", "'", "a:b", "^", "NEAR("])).map(
        " ".join
    )
)
def test_no_query_whatever_is_an_error(index: sqlite3.Connection, query: str) -> None:
    find(index, query)


@pytest.mark.parametrize(
    "query",
    [
        " ".join(f"word{n}" for n in range(1000)),
        " ".join(f"word{n} {('OR', 'AND', 'NOT')[n % 3]}" for n in range(1000)),
        " ".join("红色的猫car" for _ in range(1000)),
        '"' * 1001,
    ],
)
def test_no_query_is_too_long(index: sqlite3.Connection, query: str) -> None:
    assert find(index, query) <= {1, 2, 3, 4, 5, 6, 7}


def test_operators_hold_from_left_to_right(index: sqlite3.Connection) -> None:
    assert find(index, "street OR bicycle car NOT red") == set()
    assert find(index, "cats OR car NOT red") == {3, 7}
    assert find(index, "car NOT red OR cats") == {3, 7}
    assert find(index, "car NOT red NOT lot") == set()


@given(st.text())
def test_every_character_of_unspaced_script_begins_a_bigram(text: str) -> None:
    parts = bigrams(text).split()
    assert all(1 <= len(part) <= 2 for part in parts)
    assert "".join(part[0] for part in parts) == "".join(ch for ch in text if bigrams(ch))


@pytest.mark.parametrize(
    ("query", "plain"),
    [
        ("red car", "red car"),
        ('"red car" AND bicyc* OR dog', "red car bicyc dog"),
        ("car NOT red wheel", "car wheel"),
        ('NOT "red car"', ""),
        ("NOT", ""),
        ('" * "', ""),
        ("猫 cat's", "猫 cat's"),
    ],
)
def test_plain_words_are_what_is_wanted_without_operators(query: str, plain: str) -> None:
    assert plain_words(query) == plain


@pytest.mark.parametrize(
    ("query", "choice"), [("a OR b", True), ("a b", False), ("OR b", False), ("a OR", False), ("a NOT b", False)]
)
def test_only_or_gives_a_choice(query: str, choice: bool) -> None:
    match = match_of(query)
    assert match is not None
    assert match.has_choice == choice
