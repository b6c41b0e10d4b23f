"""Chains of segments: whatever the order of adding, changing, removing and merging, they answer as the exact store does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearshot.schema.segment_file import Segment, write_segment
from nearshot.schema.segments import NONE, Group, UsableImages, group_order
from nearshot.vectors.chain import Chain, Layer, Tail, merge
from nearshot.vectors.exact import ExactStore
from nearshot.vectors.normalise import normalise
from nearshot.vectors.segmented import SegmentedStore

DIMENSION = 4
NAMES: list[tuple[str, str | None]] = [("a", None), ("a", "x"), ("a", "y"), ("b", "x"), ("b", "z")]
POOL = normalise(np.random.default_rng(0).integers(-2, 3, (40, DIMENSION)) + 0.1)
"""Few directions, so that there are ties."""

Held = dict[int, tuple[int, int]]
"""By id the number of the vector in the pool and of the name."""


def usable(held: Held) -> tuple[UsableImages, NDArray[np.float32]]:
    order = sorted(held, key=lambda i: (group_order(NAMES[held[i][1]]), i))
    groups: list[Group] = []
    for position, image_id in enumerate(order):
        name = NAMES[held[image_id][1]]
        if groups and groups[-1][:2] == name:
            groups[-1] = groups[-1]._replace(last=position + 1)
        else:
            groups.append(Group(*name, position, position + 1))
    ids = np.array(order, dtype=np.int64)
    return UsableImages(ids, ids, groups), POOL[[held[i][0] for i in order]].reshape(-1, DIMENSION)


def write(
    path: Path, images: UsableImages, superseded: NDArray[np.int64], vectors: list[NDArray[np.float32]]
) -> Segment:
    written = write_segment(
        path,
        vectors,
        ids=images.ids,
        groups=images.groups,
        superseded=superseded,
        dimension=DIMENSION,
        of=["f", "support"],
    )
    return Segment(path, size=written.size, digest=written.digest)


class Model:
    """A chain in a directory, and what it should hold."""

    def __init__(self, here: Path) -> None:
        self.here, self.count = here, 0
        self.held: Held = {}
        self.segments: list[Segment] = []
        self.newer: set[int] = set()
        self.followed = Tail(self.layer())

    def path(self) -> Path:
        self.count += 1
        return self.here / str(self.count)

    def layer(self, of: Iterable[int] | None = None) -> Layer:
        """What is newer, or some of it."""
        newer = self.newer if of is None else set(of)
        images, vectors = usable({i: self.held[i] for i in newer if i in self.held})
        return Layer(np.array(sorted(newer), dtype=np.int64), images, vectors)

    def change(self, number: int) -> None:
        """Take an image as changed; a reader follows change by change."""
        self.newer.add(number)
        self.followed = self.followed.then(Tail(self.layer([number])))

    def flush(self) -> None:
        layer = self.layer()
        gone = Chain(self.segments, DIMENSION).holding(layer.touched)
        self.segments.append(write(self.path(), layer.current, gone, [layer.vectors]))
        self.newer = set()
        self.followed = Tail(self.layer())

    def merge(self, first: int) -> None:
        newest = Chain(self.segments[first:], DIMENSION)
        if not newest.segments:
            return
        merged = merge(newest, from_the_first=first == 0)
        images = UsableImages(merged.ids, NONE, merged.groups)
        vectors = list(merged.vectors(newest.segments, at_once=3))
        self.segments[first:] = [write(self.path(), images, merged.superseded, vectors)]

    def opened(self, category: str | None = None, label: str | None = None) -> SegmentedStore:
        return Chain(self.segments, DIMENSION).store(self.followed, category, label)

    def exact(self, category: str | None = None, label: str | None = None) -> ExactStore:
        kept = [
            i
            for i, (_, name) in self.held.items()
            if category in (None, NAMES[name][0]) and label in (None, NAMES[name][1])
        ]
        vectors = POOL[[self.held[i][0] for i in kept]].reshape(-1, DIMENSION)
        return ExactStore(np.array(kept, dtype=np.int64), vectors)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 15), st.integers(0, 39), st.integers(0, 4)),
        st.tuples(st.just("drop"), st.integers(0, 15), st.just(0), st.just(0)),
        st.tuples(st.just("flush"), st.just(0), st.just(0), st.just(0)),
        st.tuples(st.just("merge"), st.integers(0, 3), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, k=st.integers(0, 8))
def test_no_history_of_changes_and_merges_changes_an_answer(steps: list[tuple[str, int, int, int]], k: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        model = Model(Path(directory))
        for step, number, vector, name in steps:
            if step == "put":
                # An image keeps its category and label: its path tells them, but for a label that is corrected.
                model.held[number] = (vector, name)
                model.change(number)
            elif step == "drop":
                model.held.pop(number, None)
                model.change(number)
            elif step == "flush":
                model.flush()
            else:
                model.merge(number)
        layer, followed = model.layer(), reduce(Layer.merged, model.followed.layers)
        assert followed.touched.tolist() == layer.touched.tolist()
        assert followed.current.groups == layer.current.groups
        assert followed.current.ids.tolist() == layer.current.ids.tolist()
        assert followed.current.contents.tolist() == layer.current.contents.tolist()
        np.testing.assert_array_equal(followed.vectors, layer.vectors)
        for category, label in ((None, None), ("a", None), ("b", "x"), (None, "x")):
            held, truth = model.opened(category, label), model.exact(category, label)
            assert held.ids().tolist() == truth.ids().tolist()
            np.testing.assert_array_equal(held.vectors(truth.ids()), truth.vectors(truth.ids()))
            for near, expected in zip(held.search(POOL, k), truth.search(POOL, k) if k else [], strict=k > 0):
                assert near.ids.tolist() == expected.ids.tolist()
                np.testing.assert_array_equal(near.scores, expected.scores)
        check_labels(model)


def test_what_follows_change_by_change_copies_each_vector_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = 0
    merged = Layer.merged

    def counted(older: Layer, newer: Layer) -> Layer:
        nonlocal copied
        both = merged(older, newer)
        copied += len(both.vectors)
        return both

    monkeypatch.setattr(Layer, "merged", counted)
    count, base = 1000, 20_000
    vectors = normalise(np.random.default_rng(0).standard_normal((base + count, DIMENSION)))

    def layer(ids: NDArray[np.int64], touched: NDArray[np.int64]) -> Layer:
        return Layer(touched, UsableImages(ids, ids, [Group("a", "x", 0, len(ids))]), vectors[ids])

    tail = Tail(layer(np.arange(base), NONE))
    for number in range(base, base + count):
        ids = np.array([number])
        tail = tail.then(Tail(layer(ids, ids)))
    assert len(tail.layers) <= 1 + count.bit_length()
    assert copied <= 1.5 * count * count.bit_length() < base, "and none of those that were there before"
    held = Chain([], DIMENSION).store(tail)
    assert held.ids().tolist() == list(range(base + count))


def check_labels(model: Model) -> None:
    labelled = {
        name: [i for i, (_, number) in model.held.items() if NAMES[number] == name]
        for name in NAMES
        if name[1] is not None
    }
    opened = model.opened()
    assert {(c, label): ids.tolist() for c, label, ids in opened.labelled()} == {
        name: sorted(ids) for name, ids in labelled.items() if ids
    }
    assert [(c, label, n) for c, own in opened.labels().items() for label, n in own.items()] == [
        (*name, len(ids)) for name, ids in sorted(labelled.items()) if ids
    ]
    exact = model.exact()
    whose = {i: NAMES[number] for i, (_, number) in model.held.items()}
    for query in POOL[:6]:
        every = exact.search(query[None], len(exact))[0] if len(exact) else None
        for most in (1, 2, None):
            near = opened.search_labels(query[None], 1, most)[0]
            best: dict[tuple[str, str | None], float] = {}
            scores = zip(every.ids.tolist(), every.scores.tolist(), strict=True) if every else ()
            for image_id, score in scores:
                if whose[image_id][1] is not None:
                    best.setdefault(whose[image_id], score)
            leading = sorted(best.values(), reverse=True)[:most]
            wanted = {name for name, score in best.items() if score >= leading[-1]}
            found_best: dict[tuple[str, str | None], float] = {}
            for image_id, score in zip(near.ids.tolist(), near.scores.tolist(), strict=True):
                if whose[image_id][1] is not None:
                    found_best.setdefault(whose[image_id], score)
            assert {name: found_best.get(name) for name in wanted} == {name: best[name] for name in wanted}
            assert near.scores.tolist() == sorted(near.scores.tolist(), reverse=True)
            assert len(set(near.ids.tolist())) == len(near.ids)


def test_what_is_superseded_is_told_no_more_once_all_is_one(tmp_path: Path) -> None:
    model = Model(tmp_path)
    model.held = {1: (0, 0), 2: (1, 1)}
    model.newer = {1, 2}
    model.flush()
    model.held, model.newer = {2: (1, 1)}, {1}
    model.flush()
    assert Chain(model.segments, DIMENSION).sizes() == [1, 1]
    model.merge(0)
    assert model.segments[0].superseded.tolist() == [2]


def test_a_vector_that_was_superseded_can_still_be_had(tmp_path: Path) -> None:
    model = Model(tmp_path)
    for vector in (3, 5):
        model.held, model.newer = {1: (vector, 0)}, {1}
        model.flush()
    chain = Chain(model.segments, DIMENSION)
    np.testing.assert_array_equal(list(chain.written(1)), POOL[[5, 3]])
    assert list(chain.written(2)) == []


def test_many_queries_are_as_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearshot.vectors.segmented.SCORES", 50)  # so few queries at a time
    model = Model(tmp_path)
    model.held = {i: (i % 40, i % 5) for i in range(17)}
    model.newer = set(model.held)
    model.flush()
    opened = model.opened()
    together = opened.search_labels(POOL, 3, 2)
    for query, near in zip(POOL, together, strict=True):
        alone = opened.search_labels(query[None], 3, 2)[0]
        assert near.ids.tolist() == alone.ids.tolist()
        np.testing.assert_array_equal(near.scores, alone.scores)


def test_where_all_are_alike_they_are_scored_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearshot.vectors.segmented.AT_ONCE", 7)
    model = Model(tmp_path)
    model.held = {i: (3, 1 + i % 4) for i in range(50)}
    model.newer = set(model.held)
    model.flush()
    fetched: list[int] = []
    real = SegmentedStore._fetch

    def fetch(self: SegmentedStore, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        fetched.append(len(rows))
        return real(self, rows)

    monkeypatch.setattr(SegmentedStore, "_fetch", fetch)
    [near] = model.opened().search(POOL[3:4], 2)
    assert near.ids.tolist() == list(range(50)), "all tie"
    assert max(fetched) == 7
