"""The nominated store: vectors that lie elsewhere. A nominator names who may be near; the rows say who they are, and how near.

So what it holds need be neither the newest nor beyond doubt: a score, a label and a path are never its word.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import OutdatedError, StoreError
from nearshot.schema.segments import NONE, UsableImages, count_labels, group_order, touched, usable_images
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.nominator import LabelName, Nominator, Reading, Wanted
from nearshot.vectors.protocol import ROUNDING, Neighbours, best, check_unit_vectors, exact_scores
from nearshot.vectors.segmented import SegmentedStore
from nearshot.vectors.stored import checked_vectors

ROOM = 8
"""How many more are asked for than are wanted: those that tie with the last, and what has changed."""

WIDE = 64
"""How many are looked at where a second label is wanted: mostly one is among them, and need not be asked for by itself."""

LABELS = 256
"""How many images of further labels are asked for at a time, where the nearest of each label is wanted."""

CHANGED = "the store has changed meanwhile; ask again"


class NominatedStore:
    """The vectors of a backbone and role (of a category, of a label) as a state of the store has them, held by a nominator.

    What changed after the state that the nominator has is in a `tail`, and no longer holds of what it names: `changed`. Any
    number of threads may ask. OutdatedError where what it was opened for has changed: then it is opened anew.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        backbone: BackboneRow,
        role: Role,
        nominator: Nominator,
        *,
        category: str | None = None,
        label: str | None = None,
        tail: SegmentedStore | None = None,
        changed: NDArray[np.int64] = NONE,
    ) -> None:
        self._store, self._backbone, self._role, self._nominator = store, backbone, role, nominator
        self._wanted = Wanted(category, label)
        self._tail, self._changed = tail, changed
        self._revision, self._opening = catalog.revision(), (threading.get_ident(), catalog)
        # Of queries, of which there may be any number, nobody asks how many there are.
        self._counted = count_labels(catalog, backbone, role, category, label) if role == Role.SUPPORT else None

    @property
    def dimension(self) -> int:
        """The length of its vectors."""
        return self._backbone.dimension

    def __len__(self) -> int:
        """Return the number of vectors it holds."""
        return sum(self._counts().values())

    def labels(self) -> dict[str, dict[str, int]]:
        """How many images each label of each category has, both in order; without images it is not there."""
        labels: dict[str, dict[str, int]] = {}
        for (category, label), count in sorted(self._counts().items(), key=lambda item: group_order(item[0])):
            if label is not None:
                labels.setdefault(category, {})[label] = count
        return labels

    def _counts(self) -> dict[LabelName, int]:
        if self._counted is None:
            with self._reading() as (catalog, newer):
                self._require_none(newer)
                self._counted = count_labels(
                    catalog, self._backbone, self._role, self._wanted.category, self._wanted.label
                )
        return self._counted

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        return np.sort(self._usable().ids)

    def labelled(self) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
        """Category and label of each, in order, and the ids (n,), ascending, of its images."""
        usable = self._usable()
        for category, label, first, last in usable.groups:
            if label is not None:
                yield category, label, usable.ids[first:last]

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors under some ids; KeyError for an id that it does not hold."""
        known = _Known(self._reading, self._backbone, self._role)
        known.read(ids)
        missing = [image_id for image_id in ids.tolist() if image_id not in known.names]
        if missing:
            raise KeyError(min(missing))
        return known.vectors(ids)

    def recall(self, *, words: bool = False) -> float | None:
        """None: all are compared."""
        return None

    def search(self, queries: NDArray[np.float32], k: int) -> list[Neighbours]:
        """The nearest vectors of each query."""
        return self.search_labels(queries, k, 0)

    def search_near(self, queries: NDArray[np.float32], k: int, *, words: bool = False) -> list[Neighbours]:
        """The nearest vectors of each query."""
        return self.search_labels(queries, k, 0)

    def search_labels(self, queries: NDArray[np.float32], k: int, labels: int | None) -> list[Neighbours]:
        """The k nearest vectors of each query and, of each of the nearest labels (None: of all), the nearest of it.

        Of whatever ties with the last vector, the last label or the nearest of one, all. In the order of `Neighbours`.
        """
        check_unit_vectors(queries, self.dimension)
        if not len(queries):
            return []
        try:
            answers = self._answers(queries, k, labels)
        except OutdatedError:
            raise
        except StoreError:
            self._nominator.require_same(self._store)  # where it is not, that is why
            raise
        self._nominator.require_same(self._store)
        return answers

    def _answers(self, queries: NDArray[np.float32], k: int, labels: int | None) -> list[Neighbours]:
        enough = k if labels == 0 else max(k, WIDE)
        asked = min(enough + ROOM, self._nominator.most)
        first = self._nominator.near(self._reading, queries, asked, self._wanted)
        pairs = zip(queries, first, strict=True)
        near = [self._complete(query[None], each, enough, asked, self._wanted) for query, each in pairs]
        known = _Known(self._reading, self._backbone, self._role)
        known.read(np.concatenate([each.ids for each in near]))
        return [self._answer(known, query[None], each, k, labels) for query, each in zip(queries, near, strict=True)]

    def _answer(
        self, known: _Known, query: NDArray[np.float32], near: Neighbours, k: int, labels: int | None
    ) -> Neighbours:
        named = _scored(known, query, near, self._wanted)
        # Of what is named beyond so many and their ties, there may be more that tie.
        leads = self._leads(known, query, _first(named, max(k, WIDE)), labels) if labels != 0 else {}
        parts = [named, *([] if self._tail is None else self._tail.search(query, k))]
        answer = _first(_sorted(parts), k)
        if labels == 0:
            return answer
        if self._tail is not None:
            [newer] = self._tail.search_labels(query, 0, None)
            known.read(newer.ids)
            leads = _best_of_labels([leads, known.by_label(newer)])
        highest = sorted((float(each.scores[0]) for each in leads.values()), reverse=True)
        least = highest[min(labels or len(highest), len(highest)) - 1] if highest else 0.0
        return _sorted([answer, *(each for each in leads.values() if each.scores[0] >= least)])

    def _leads(
        self, known: _Known, query: NDArray[np.float32], named: Neighbours, labels: int | None
    ) -> dict[LabelName, Neighbours]:
        """Of each of the nearest labels (None: of all) among what the nominator has, the nearest images."""
        leads = known.by_label(named)
        without_label = {name for name in self._counts() if name[1] is None}
        while labels is None or len(leads) < labels:
            wanted = replace(self._wanted, but=frozenset(leads) | without_label)
            k = 1 if labels is not None else LABELS
            asked = min(k + ROOM, self._nominator.most)
            [more] = self._nominator.near(self._reading, query, asked, wanted)
            more = self._complete(query, more, k, asked, wanted)
            known.read(more.ids)
            others = known.by_label(_first(_scored(known, query, more, wanted), k))
            if not others:
                break
            leads |= others
        return leads

    def _complete(self, query: NDArray[np.float32], near: Neighbours, k: int, asked: int, wanted: Wanted) -> Neighbours:
        """All among which the k nearest and their ties are, whichever way float32 was rounded, of what has not changed.

        `near` is what was named when so many were `asked` for. Where it names no more at a time, its ids are asked by halves.
        """
        while True:
            kept = ~np.isin(near.ids, self._changed)
            ids, scores = near.ids[kept], near.scores[kept]
            are_all, enough = len(near.ids) < asked, max(k, 1)
            least = scores[enough - 1] - 2 * ROUNDING if len(ids) >= enough else -np.inf
            if are_all or near.scores[-1] < least:
                return Neighbours(ids[scores >= least], scores[scores >= least])
            if asked == self._nominator.most:
                break
            asked = min(4 * asked, self._nominator.most)
            [near] = self._nominator.near(self._reading, query, asked, wanted)
        middle = int(np.median(near.ids)) + 1
        parts = []
        for half in (replace(wanted, last=middle), replace(wanted, first=middle)):
            [near] = self._nominator.near(self._reading, query, asked, half)
            parts.append(self._complete(query, near, k, asked, half))
        return Neighbours(*(np.concatenate(own) for own in zip(*parts, strict=True)))

    def _usable(self) -> UsableImages:
        with self._reading() as (catalog, newer):
            self._require_none(newer)
            usable = usable_images(catalog, self._backbone, self._role, category=self._wanted.category)
        return usable if self._wanted.label is None else usable.of_label(self._wanted.label)

    @contextmanager
    def _reading(self) -> Iterator[tuple[Catalog, NDArray[np.int64]]]:
        """The newest state, and the images that have changed since the one that this holds: which it is while it is opened."""
        opener, catalog = self._opening
        if opener == threading.get_ident() and not catalog.connection.closed:
            yield catalog, NONE
            return
        with self._store.reading() as catalog:
            yield catalog, touched(catalog, self._backbone, self._role, self._revision, self._wanted.category)

    @staticmethod
    def _require_none(newer: NDArray[np.int64]) -> None:
        if len(newer):
            raise OutdatedError(CHANGED)


class _Known:
    """What the rows say of images, by id: whether they count, their category and label, and their vectors. OutdatedError for
    those that have changed since the state that is searched.
    """

    def __init__(self, reading: Reading, backbone: BackboneRow, role: Role) -> None:
        self._reading, self._backbone, self._role = reading, backbone, role
        self.names: dict[int, LabelName] = {}
        self._vectors: dict[int, NDArray[np.float32]] = {}
        self._read: set[int] = set()

    def read(self, ids: NDArray[np.int64]) -> None:
        """Read what is not known of some images yet."""
        unread = sorted(set(ids.tolist()) - self._read)
        if not unread:
            return
        with self._reading() as (catalog, newer):
            if not set(newer.tolist()).isdisjoint(unread):
                raise OutdatedError(CHANGED)
            usable = usable_images(catalog, self._backbone, self._role, among=np.array(unread, dtype=np.int64))
            contents, places = np.unique(usable.contents, return_inverse=True)
            parts = [self._none(), *checked_vectors(catalog, self._backbone, contents)]
        self._read.update(unread)
        for category, label, first, last in usable.groups:
            self.names |= dict.fromkeys(usable.ids[first:last].tolist(), (category, label))
        self._vectors |= zip(usable.ids.tolist(), np.concatenate(parts)[places], strict=True)

    def _none(self) -> NDArray[np.float32]:
        return np.empty((0, self._backbone.dimension), dtype=np.float32)

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors (n, dimension) of images that count."""
        own = [self._vectors[image_id] for image_id in ids.tolist()]
        return np.stack(own) if own else self._none()

    def by_label(self, near: Neighbours) -> dict[LabelName, Neighbours]:
        """Of each label that some neighbours (by descending score) have, the nearest, and what ties with it."""
        rows: dict[LabelName, list[int]] = {}
        for row, image_id in enumerate(near.ids.tolist()):
            name = self.names[image_id]
            if name[1] is not None:
                own = rows.setdefault(name, [])
                if not own or near.scores[own[0]] == near.scores[row]:
                    own.append(row)
        return {name: Neighbours(near.ids[own], near.scores[own]) for name, own in rows.items()}


def _scored(known: _Known, query: NDArray[np.float32], near: Neighbours, wanted: Wanted) -> Neighbours:
    """What was named, with exact scores. StoreError where the nominator has other vectors, or images that are not wanted."""
    ids = near.ids.tolist()
    others = [image_id for image_id in ids if image_id not in known.names or not wanted.has(known.names[image_id])]
    if not others:
        scores = exact_scores(query[0], known.vectors(near.ids))
        others = near.ids[np.abs(scores - near.scores) > ROUNDING].tolist()
    if others:
        raise StoreError(
            f"what is searched elsewhere is not what the store has (image {others[0]}); "
            "`nearshot mirror ADDRESS --anew` makes a mirror again"
        )
    return _sorted([Neighbours(near.ids, scores)])


def _best_of_labels(parts: Iterable[dict[LabelName, Neighbours]]) -> dict[LabelName, Neighbours]:
    """Of each label the nearest among some parts."""
    joined: dict[LabelName, list[Neighbours]] = {}
    for part in parts:
        for name, near in part.items():
            joined.setdefault(name, []).append(near)
    whole = {name: _sorted(own) for name, own in joined.items()}
    return {name: best(near.ids, near.scores, 1) for name, near in whole.items()}


def _first(near: Neighbours, k: int) -> Neighbours:
    """The k best of some neighbours, and those that tie with the last of them."""
    return best(near.ids, near.scores, k) if k else Neighbours(near.ids[:0], near.scores[:0])


def _sorted(parts: Iterable[Neighbours]) -> Neighbours:
    """Some neighbours as one, each once, in their order."""
    ids, scores = (np.concatenate(own) for own in zip(*parts, strict=True))
    ids, rows = np.unique(ids, return_index=True)
    scores = scores[rows]
    order = np.lexsort((ids, -scores))
    return Neighbours(ids[order], scores[order])
