"""Mirrors of a store's vectors in Milvus: brought up to date, and searched.

The rows remain the truth. A mirror reflects a revision; what changed since is read from the rows, and counts in its place.
Before anything is written to it, the database is told up to which revision: so a reader knows what may be there, whenever a
writer died.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import OutdatedError, StoreError, UsageError
from nearshot.schema.mirrors import MirrorRow, mirror_row, record_mirror
from nearshot.schema.segments import NONE, UsableImages, touched, usable_images
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.milvus import MOST, Milvus, connected
from nearshot.vectors.nominated import CHANGED, NominatedStore
from nearshot.vectors.nominator import LabelName, Wanted
from nearshot.vectors.protocol import Neighbours
from nearshot.vectors.segments import read_since
from nearshot.vectors.stored import checked_vectors

AT_ONCE = 4096
"""Images that are in memory at a time while a mirror is written."""

ANOTHER = "what is there is of another store, or of another state of this one"
"""Why a mirror cannot be gone on with that is left alone: a copy of a store, or a backup, has the same record."""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What was done to a mirror: how many images were put there, and taken out; how many it holds, as of which revision.

    `anew` is why it was made anew, where there was one.
    """

    backbone: str
    role: Role
    put: int
    gone: int
    vectors: int
    revision: int
    anew: str | None = None

    def as_json(self) -> dict[str, object]:
        """The object that `nearshot mirror --json` prints."""
        return asdict(self)

    def in_words(self) -> str:
        """Say what was done."""
        done = f"{self.put:,} put there, {self.gone:,} taken out" if self.put or self.gone else "nothing to do"
        why = f" (made anew: {self.anew})" if self.anew else ""
        return f"{self.backbone}, {self.role}: {done}; it holds {self.vectors:,} images{why}"


class Mirroring:
    """Brings the mirror of a backbone's vectors of a role up to the newest revision. For the holder of the mirrors.

    Iterating over it writes, and tells from time to time how many images are there, of how many; then `report` says what was
    done. Where it is cut off, the next one goes on.
    """

    def __init__(self, store: Store, engine: Milvus, backbone: BackboneRow, role: Role, *, anew: bool = False) -> None:
        self._store, self._engine, self._backbone, self._role, self._anew = store, engine, backbone, role, anew
        self.report: Mirrored

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Write. UnreachableError where the engine does not answer; StoreError where it does not hold what was written."""
        engine, backbone, role = self._engine, self._backbone, self._role
        with self._store.reading() as catalog:
            revision = catalog.revision()
            old = mirror_row(catalog, engine.address, backbone.id, role)
            wrong = self._wrong(old) or ("as asked" if self._anew else None)
            base = old if wrong is None else None
            since = 0 if base is None else base.newest if base.is_unfinished else base.revision
            ids = touched(catalog, backbone, role, since) if base is not None else NONE
            whole = base is None or base.is_unfinished
            usable = usable_images(catalog, backbone, role, among=None if whole else ids)
            if base is not None and base.next_token is None and not len(ids):
                if base.revision < revision:
                    self._record(base._replace(revision=revision))  # the next one need not look at the same revisions
                self.report = Mirrored(backbone.name, role, 0, 0, base.vectors, revision)
                return
            if base is None and old is not None and wrong != ANOTHER:
                engine.drop(old.name)
            row = base or MirrorRow(engine.address, backbone.id, role, _new_name(backbone, role), 0, 0, 0, 0)
            token = secrets.randbits(62) + 1
            row = row._replace(next_token=token, next_revision=revision)
            self._record(row)
            if base is None:
                engine.create(row.name, backbone.dimension)
            engine.put_token(row.name, token, backbone.dimension)
            before, there = engine.count(row.name), engine.held(row.name, ids)
            gone = np.setdiff1d(there, usable.ids)
            engine.delete(row.name, gone)
            put = yield from self._put(catalog, row.name, usable, again=ids if whole else None)
            ready = engine.now()
            expected = len(usable.ids) if whole else before - len(there) + len(usable.ids)
            self._require(row.name, expected, NONE if whole else usable.ids, gone)
        self._record(
            row._replace(
                token=token, revision=revision, vectors=expected, ready=ready, next_token=None, next_revision=None
            )
        )
        replaced = wrong if old is not None else None
        self.report = Mirrored(backbone.name, role, put, len(gone), expected, revision, replaced)

    def _wrong(self, row: MirrorRow | None) -> str | None:
        """Why a mirror that is recorded cannot be gone on with, if anything."""
        if row is None:
            return "there was none"
        if not self._engine.exists(row.name):
            return "it was not there any more"
        if not row.may_hold(self._engine.token(row.name, 0)):
            return "it was hardly begun" if row.is_unfinished else ANOTHER
        if row.next_token is None and self._engine.count(row.name) != row.vectors:
            return "it did not hold what was written"
        return None

    def _put(
        self, catalog: Catalog, name: str, usable: UsableImages, *, again: NDArray[np.int64] | None
    ) -> Generator[tuple[int, int], None, int]:
        """Put images there; where only some are to be put `again`, but for others that are there. How many were put."""
        groups = (repeat((group.category, group.label), group.last - group.first) for group in usable.groups)
        names: list[LabelName] = [*chain.from_iterable(groups)]
        put = 0
        for start in range(0, len(usable.ids), AT_ONCE):
            rows = np.arange(start, min(start + AT_ONCE, len(usable.ids)))
            if again is not None:
                there = self._engine.held(name, usable.ids[rows])
                rows = rows[~np.isin(usable.ids[rows], np.setdiff1d(there, again))]
            done = 0
            for vectors in checked_vectors(catalog, self._backbone, usable.contents[rows]):
                own = rows[done : done + len(vectors)]
                self._engine.put(name, usable.ids[own], [names[row] for row in own.tolist()], vectors)
                done += len(vectors)
            put += len(rows)
            yield min(start + AT_ONCE, len(usable.ids)), len(usable.ids)
        return put

    def _require(self, name: str, expected: int, there: NDArray[np.int64], gone: NDArray[np.int64]) -> None:
        """Read what was written: engines have lost updates, and kept rows beside those that were to replace them."""
        count = self._engine.count(name)
        held = self._engine.held(name, np.concatenate([there, gone]))
        if count != expected or not np.array_equal(held, np.sort(there)):
            raise StoreError(
                f"{self._engine.address} holds {count} images of {self._backbone.name} where {expected} were written; "
                "`nearshot mirror ADDRESS --anew` makes the mirror again"
            )

    def _record(self, row: MirrorRow) -> None:
        with self._store.writing() as editor:
            record_mirror(editor, row)


def _new_name(backbone: BackboneRow, role: Role) -> str:
    readable = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in backbone.name)[:40]
    return f"nearshot_{readable}_{role}_{secrets.token_hex(8)}"


class Mirror:
    """A mirror as a nominator, as a state of the store had it recorded."""

    most = MOST

    def __init__(self, engine: Milvus, row: MirrorRow, role: Role, revision: int) -> None:
        self._engine, self._row, self._role, self._revision = engine, row, role, revision

    def near(self, catalog: Catalog, queries: NDArray[np.float32], k: int, wanted: Wanted) -> list[Neighbours]:
        """The k nearest of each query."""
        return self._engine.near(self._row.name, queries, k, wanted, ready=self._row.ready)

    def require_same(self, catalog: Catalog) -> None:
        """OutdatedError where anything may have been written to it that is newer than the state that it was opened for."""
        now = mirror_row(catalog, self._row.engine, self._row.backbone_id, self._role)
        if now is None or now.name != self._row.name or now.newest > self._revision:
            raise OutdatedError(CHANGED)


def open_mirror(
    store: Store,
    catalog: Catalog,
    backbone: BackboneRow,
    role: Role,
    *,
    category: str | None = None,
    label: str | None = None,
) -> NominatedStore:
    """The vectors of a backbone and role (of a category, of a label) as the catalog's state has them, in the store's mirror.

    UsageError where there is no mirror yet, StoreError where it is of another store or state.
    """
    assert store.mirror is not None
    engine = connected(store.mirror)
    row = mirror_row(catalog, engine.address, backbone.id, role)
    if row is None or row.is_unfinished:
        raise UsageError(
            f"{engine.address} has no mirror of {backbone.name} ({role}) yet; run `nearshot mirror {engine.address}`"
        )
    _require_own(store, engine, row, role)
    changed = touched(catalog, backbone, role, row.revision)
    tail = read_since(catalog, backbone, role, row.revision, category=category, label=label) if len(changed) else None
    nominator = Mirror(engine, row, role, catalog.revision())
    return NominatedStore(
        store, catalog, backbone, role, nominator, category=category, label=label, tail=tail, changed=changed
    )


_own: set[tuple[str, str, int]] = set()
"""The mirrors, by address, name and token, that were seen to be what is recorded of them."""


def _require_own(store: Store, engine: Milvus, row: MirrorRow, role: Role) -> None:
    """Raise StoreError unless an engine holds the state that is recorded of it, or one that was begun since."""
    key = (engine.address, row.name, row.token)
    if key in _own:
        return
    token = engine.token(row.name, row.ready) if engine.exists(row.name) else None
    with store.reading() as catalog:  # a writer may have gone on meanwhile
        now = mirror_row(catalog, engine.address, row.backbone_id, role)
    if not any(each is not None and each.may_hold(token) for each in (row, now)):
        raise StoreError(
            f"what {engine.address} holds is not the mirror that this store has recorded; run `nearshot mirror "
            f"{engine.address}`, which makes it anew where it must"
        )
    _own.add(key)
