"""Reciprocal rank fusion: rankings of unlike kinds made one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearshot.retriever.fusion import fuse


@given(
    st.lists(st.permutations(range(6)), min_size=1, max_size=3),
    st.integers(0, 5),
)
def test_what_leads_every_ranking_leads_their_fusion(rankings: list[list[int]], leader: int) -> None:
    led = [[leader, *(thing for thing in ranking if thing != leader)] for ranking in rankings]
    fused = fuse((ranking, 1.0) for ranking in led)
    assert max(fused, key=lambda thing: fused[thing]) == leader
    assert fused[leader] == pytest.approx(len(led) / 61)
    assert set(fused) == set(range(6))


def test_a_ranking_of_no_weight_changes_nothing() -> None:
    alone = fuse([(["a", "b"], 1.0)])
    assert fuse([(["a", "b"], 1.0), (["b", "a"], 0.0)]) == alone


def test_scores_are_those_of_the_formula() -> None:
    fused = fuse([(["a", "b"], 1.0), (["b"], 2.0)])
    assert fused == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 2 / 61})
    assert fuse([]) == {}
