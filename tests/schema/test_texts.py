"""Texts: what goes in comes out."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearshot.schema.texts import Texts

TEXTS = st.lists(
    st.none() | st.text(st.characters()) | st.sampled_from(["", "ÿ", "\udcff", "shot 1", "猫", "\ud800"]), max_size=8
)


def packed(texts: list[str | None]) -> Texts[str | None]:
    many = Texts[str | None]()
    for text in texts:
        many.append(text)
    return many


@given(TEXTS, TEXTS)
def test_they_are_a_sequence_like_any_other(texts: list[str | None], others: list[str | None]) -> None:
    many = packed(texts)
    assert list(many) == texts == [many[index] for index in range(len(many))]
    assert list(many[1:-1]) == texts[1:-1]
    assert many[::-1] == tuple(texts[::-1])
    assert (many == packed(others)) == (texts == others) == (many == tuple(others))
    assert [text in many for text in others] == [text in texts for text in others]
    if texts:
        assert many[-1] == texts[-1]
    with pytest.raises(IndexError):
        many[len(texts)]


def test_a_sha256_takes_little_more_than_its_digits() -> None:
    count = 5000
    tracemalloc.start()
    many = Texts[str]()
    for number in range(count):
        many.append(f"{number:064x}")
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(many) == count
    assert size < count * (64 + 8) * 1.2, "121 bytes each as Python's own, and their places"
