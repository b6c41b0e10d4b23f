"""The nominated store: what names who may be near need only be nearly right; the answers are exact, whatever changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearshot.schema.catalog import BackboneRow
from nearshot.schema.errors import OutdatedError, StoreError
from nearshot.schema.segments import NONE, Group, UsableImages
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.chain import Chain, Layer, Tail
from nearshot.vectors.nominated import NominatedStore
from nearshot.vectors.nominator import Reading, Wanted
from nearshot.vectors.normalise import normalise
from nearshot.vectors.protocol import ROUNDING, Neighbours, best, exact_scores
from nearshot.vectors.searchable import open_searchable
from nearshot.vectors.segmented import SegmentedStore
from nearshot.vectors.segments import read_rows
from tests.made_up import Place, add_images

DIMENSION = 8
NOTHING = Neighbours(NONE, np.empty(0, dtype=np.float32))


@dataclass
class Careless:
    """A nominator over vectors in memory: it rounds, names few at a time, and those that tie in any order."""

    held: SegmentedStore
    names: dict[int, tuple[str, str]]
    most: int = 1 << 20
    asked: int = 0

    @classmethod
    def of(cls, held: SegmentedStore, **more: Any) -> Self:
        names = {i: (category, label) for category, label, ids in held.labelled() for i in ids.tolist()}
        return cls(held, names, **more)

    def near(self, reading: Reading, queries: NDArray[np.float32], k: int, wanted: Wanted) -> list[Neighbours]:
        self.asked += 1
        chance = np.random.default_rng(self.asked)
        ids = np.array([i for i in self.held.ids().tolist() if self._is_wanted(i, wanted)], dtype=np.int64)
        vectors = self.held.vectors(ids)
        answers = []
        for query in queries:
            scores = exact_scores(query, vectors) + chance.uniform(-ROUNDING / 2, ROUNDING / 2, len(ids))
            order = np.argsort(-scores, kind="stable")[:k]
            answers.append(Neighbours(ids[order], scores[order].astype(np.float32)))
        return answers

    def _is_wanted(self, image_id: int, wanted: Wanted) -> bool:
        category, label = self.names[image_id]
        return (
            wanted.category in (None, category)
            and wanted.label in (None, label)
            and (category, label) not in wanted.but
            and wanted.first <= image_id < wanted.last
        )

    def require_same(self, store: Store) -> None:
        pass


def unit_vectors(n: int, seed: int = 0) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(seed).standard_normal((n, DIMENSION)))


def rows(store: Store, backbone: BackboneRow, category: str | None = None, label: str | None = None) -> SegmentedStore:
    with store.reading() as catalog:
        return read_rows(catalog, backbone, Role.SUPPORT, category=category, label=label)


def nominated(
    store: Store,
    backbone: BackboneRow,
    nominator: Careless,
    category: str | None = None,
    tail: SegmentedStore | None = None,
    changed: NDArray[np.int64] = NONE,
) -> NominatedStore:
    with store.reading() as catalog:
        return NominatedStore(
            store, catalog, backbone, Role.SUPPORT, nominator, category=category, tail=tail, changed=changed
        )


def expected(held: SegmentedStore, query: NDArray[np.float32], k: int, labels: int | None) -> dict[int, float]:
    """The k nearest and their ties, and of the nearest labels and theirs the nearest, by comparing all."""
    ids = held.ids()
    every = best(ids, exact_scores(query, held.vectors(ids)), len(ids)) if len(ids) else NOTHING
    scores = dict(zip(every.ids.tolist(), every.scores.tolist(), strict=True))
    near = best(every.ids, every.scores, k).ids.tolist() if k and scores else []
    leads = {(category, label): max(scores[i] for i in own.tolist()) for category, label, own in held.labelled()}
    wanted = labels if labels is not None else len(leads)
    least = sorted(leads.values(), reverse=True)[min(wanted, len(leads)) - 1] if leads and wanted else 2.0
    for category, label, own in held.labelled():
        lead = leads[category, label]
        near += [i for i in own.tolist() if lead >= least and scores[i] == lead]
    return {i: scores[i] for i in near}


def as_dict(near: Neighbours) -> dict[int, float]:
    assert len(set(near.ids.tolist())) == len(near.ids)
    order = np.lexsort((near.ids, -near.scores))
    assert order.tolist() == list(range(len(order)))
    return dict(zip(near.ids.tolist(), near.scores.tolist(), strict=True))


PLACES: list[Place] = [("a", "one"), ("a", "two"), ("b", "one"), ("b", "three"), ("a", "four")]


@dataclass
class Stale(Careless):
    """One that has other vectors of what has changed."""

    changed: frozenset[int] = frozenset()

    def near(self, reading: Reading, queries: NDArray[np.float32], k: int, wanted: Wanted) -> list[Neighbours]:
        assert k <= self.most
        every = super().near(reading, queries, len(self.names), wanted)
        return [self._otherwise(each, k) for each in every]

    def _otherwise(self, near: Neighbours, k: int) -> Neighbours:
        scores = np.where(np.isin(near.ids, list(self.changed)), -near.scores, near.scores)
        order = np.argsort(-scores, kind="stable")[:k]
        return Neighbours(near.ids[order], scores[order])


def in_memory(held: SegmentedStore, ids: NDArray[np.int64]) -> SegmentedStore:
    """Some of what is held, as what changed last."""
    own = [(category, label, mine[np.isin(mine, ids)]) for category, label, mine in held.labelled()]
    ends = np.cumsum([0, *(len(mine) for *_, mine in own)]).tolist()
    order = np.concatenate([NONE, *(mine for *_, mine in own)])
    groups = [Group(*own[i][:2], ends[i], ends[i + 1]) for i in range(len(own)) if ends[i + 1] > ends[i]]
    layer = Layer(NONE, UsableImages(order, order, groups), held.vectors(order))
    return Chain([], DIMENSION).store(Tail(layer))


_numbers = count(1)


def made(store: Store, kinds: Sequence[tuple[int, Place]], distinct: NDArray[np.float32]) -> BackboneRow:
    """A backbone of its own, with images that show one thing of a few each."""
    number = next(_numbers)
    vectors = distinct[[kind for kind, _ in kinds]]
    return add_images(store, f"made{number}", vectors, [name for _, name in kinds], first=1000 * number)


@pytest.mark.both_stores
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(PLACES)), min_size=1, max_size=40),
    k=st.integers(0, 45),
    labels=st.sampled_from([0, 1, 2, 3, None]),
    category=st.sampled_from([None, "a", "b"]),
    most=st.sampled_from([4, 1 << 20]),
    newer=st.integers(0, 40),
    seed=st.integers(0, 100),
)
def test_it_answers_as_comparing_all_does_ties_and_changes_included(
    kinds: list[tuple[int, Place]],
    k: int,
    labels: int | None,
    category: str | None,
    most: int,
    newer: int,
    seed: int,
    store: Store,
) -> None:
    distinct = unit_vectors(6, seed)
    backbone = made(store, kinds, distinct)
    whole = rows(store, backbone, category)
    changed = whole.ids()[len(whole) - min(newer, len(whole)) :]
    stale = Stale.of(whole, most=most, changed=frozenset(changed.tolist()))
    opened = nominated(store, backbone, stale, category, in_memory(whole, changed), changed)
    assert opened.labels() == whole.labels()
    assert len(opened) == len(whole)
    for query, near in zip(distinct, opened.search_labels(distinct, k, labels), strict=True):
        assert as_dict(near) == expected(whole, query, k, labels)
    if not store.has_segments:
        with store.reading() as catalog:
            asked = open_searchable(store, catalog, backbone, Role.SUPPORT, category=category, once=True)
        assert isinstance(asked, NominatedStore)
        for query, near in zip(distinct, asked.search_labels(distinct, k, labels), strict=True):
            assert as_dict(near) == expected(whole, query, k, labels)


def test_it_holds_what_the_rows_do_of_a_category_and_a_label(store: Store) -> None:
    kinds = [(number % 6, PLACES[number % 5]) for number in range(20)]
    backbone = made(store, kinds, unit_vectors(6))
    for category, label in ((None, None), ("a", None), (None, "one"), ("a", "one")):
        whole = rows(store, backbone, category, label)
        with store.reading() as catalog:
            opened = NominatedStore(
                store, catalog, backbone, Role.SUPPORT, Careless.of(whole), category=category, label=label
            )
        assert opened.ids().tolist() == whole.ids().tolist()
        assert len(opened) == len(whole)
        assert opened.labels() == whole.labels()
        assert [(*name, ids.tolist()) for *name, ids in opened.labelled()] == [
            (*name, ids.tolist()) for *name, ids in whole.labelled()
        ]
        np.testing.assert_array_equal(opened.vectors(whole.ids()[::-1]), whole.vectors(whole.ids()[::-1]))
    with pytest.raises(KeyError):
        opened.vectors(np.array([10**9]))
    with pytest.raises(ValueError, match="length 1"):
        opened.search(np.ones((1, DIMENSION), dtype=np.float32), 1)


@pytest.mark.parametrize("wrong", ["another vector", "another label", "an image that is gone"])
def test_one_that_holds_something_else_is_no_answer(store: Store, wrong: str) -> None:
    distinct = unit_vectors(6)
    backbone = made(store, [(number, PLACES[number % 5]) for number in range(6)], distinct)
    whole = rows(store, backbone)
    if wrong == "another vector":
        stale: Careless = Stale.of(whole, changed=frozenset(whole.ids()[:1].tolist()))
    elif wrong == "another label":
        stale = Careless.of(whole)
        stale.names |= dict.fromkeys(stale.names, ("b", "three"))
    else:
        stale = Careless.of(whole)
        with store.writing() as editor:
            editor.remove_images(whole.ids()[:1].tolist())
    opened = nominated(store, backbone, stale, "b" if wrong == "another label" else None)
    with pytest.raises(StoreError, match="--anew"):
        opened.search(distinct, 6)


@pytest.mark.both_stores
def test_what_changes_while_it_is_asked_is_told_and_never_answered(store: Store) -> None:
    distinct = unit_vectors(6)
    backbone = made(store, [(number, PLACES[number % 5]) for number in range(6)], distinct)
    whole = rows(store, backbone)
    opened = nominated(store, backbone, Careless.of(whole))
    with store.reading() as catalog:
        asked = open_searchable(store, catalog, backbone, Role.SUPPORT, once=True)
    with store.writing() as editor:
        editor.relabel_images({int(whole.ids()[0]): "two"})
    kept = opened.search(whole.vectors(whole.ids()[1:2]), 1)
    assert kept[0].ids.tolist() == [whole.ids()[1]]  # of what has not changed, as before
    for ask in (
        lambda: opened.search(distinct, 6),
        lambda: list(opened.labelled()),
        lambda: opened.vectors(whole.ids()),
    ):
        with pytest.raises(OutdatedError):
            ask()
    if not store.has_segments:
        with pytest.raises(OutdatedError):
            asked.search(distinct, 1)
