"""Mirrors of a store's vectors in Milvus: brought up to date, and searched.

The rows remain the truth. A mirror reflects a revision; what changed since is read from the rows, and counts in its place.
Before anything is written to it, the database is told up to which revision: so a reader knows what may be there, whenever a
writer died.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import OutdatedError, StoreError, UnreachableError, UsageError
from nearshot.schema.mirrors import MirrorRow, mirror_row, record_mirror
from nearshot.schema.segments import NONE, UsableImages, count_labels, touched, usable_images
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.milvus import MOST, Milvus, connected
from nearshot.vectors.nominated import CHANGED, NominatedStore
from nearshot.vectors.nominator import LabelName, Reading, Wanted
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
            whole = base is None or base.is_unfinished
            ids = NONE if base is None else touched(catalog, backbone, role, base.newest if whole else base.revision)
            usable = usable_images(catalog, backbone, role, among=None if whole else ids)
            # After one that was cut off, what is there cannot be told from what was.
            counted = base is not None and base.next_token is not None and not whole
            total = sum(count_labels(catalog, backbone, role).values()) if counted else len(usable.ids)
        if base is not None and base.next_token is None and not len(ids):
            if base.revision < revision:
                self._record(base._replace(revision=revision))  # the next one need not look at the same revisions
            self.report = Mirrored(backbone.name, role, 0, 0, base.vectors, revision)
            return
        row = base or MirrorRow(engine.address, backbone.id, role, _new_name(backbone, role), 0, 0, 0, 0)
        token = secrets.randbits(62) + 1
        # An unfinished one has what the first run of it wrote: what changed since that began is to be written again.
        begun = row.next_revision if row.is_unfinished and row.next_revision is not None else revision
        self._record(row._replace(next_token=token, next_revision=begun))
        if base is None:
            engine.create(row.name, backbone.dimension)
        if old is not None and base is None and wrong != ANOTHER:
            engine.drop(old.name)
        engine.put_token(row.name, token, backbone.dimension)
        # Once this is counted, whoever finds anything of what follows finds the token, too.
        before, there = engine.count(row.name), engine.held(row.name, ids)
        gone = np.setdiff1d(there, usable.ids)
        engine.delete(row.name, gone)
        put = yield from self._put(row.name, usable, again=ids if whole else None)
        expected = total if whole or counted else before - len(there) + len(usable.ids)
        ready = engine.now()
        self._require(row.name, token, expected, NONE if whole else usable.ids, gone)
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
        self, name: str, usable: UsableImages, *, again: NDArray[np.int64] | None
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
            with self._store.reading() as catalog:  # a vector of a content stays what it is
                vectors = [*checked_vectors(catalog, self._backbone, usable.contents[rows])]
            if len(rows):
                own = [names[row] for row in rows.tolist()]
                self._engine.put(name, usable.ids[rows], own, np.concatenate(vectors))
            put += len(rows)
            yield min(start + AT_ONCE, len(usable.ids)), len(usable.ids)
        return put

    def _require(self, name: str, token: int, expected: int, there: NDArray[np.int64], gone: NDArray[np.int64]) -> None:
        """Read what was written: engines have lost updates, and kept rows beside those that were to replace them."""
        count = self._engine.count(name)
        held = self._engine.held(name, np.concatenate([there, gone]))
        if self._engine.token(name, 0) != token:
            raise StoreError(
                f"another process has written to the mirror of {self._backbone.name} in {self._engine.address} meanwhile: "
                "that of a copy of this store? run it again"
            )
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

    def near(self, reading: Reading, queries: NDArray[np.float32], k: int, wanted: Wanted) -> list[Neighbours]:
        """The k nearest of each query."""
        return self._engine.near(self._row.name, queries, k, wanted, ready=self._row.ready)

    def require_same(self, store: Store) -> None:
        """OutdatedError where anything may have been written to it that is newer than the state that it was opened for;
        StoreError where that was another store.
        """
        token: int | None = None
        with suppress(UnreachableError):  # it may have been made anew, under another name
            token = self._engine.token(self._row.name, self._row.ready)
        with store.reading() as catalog:
            now = mirror_row(catalog, self._row.engine, self._row.backbone_id, self._role)
        if now is None or now.name != self._row.name or now.newest > self._revision:
            raise OutdatedError(CHANGED)
        if token is not None and not (now.may_hold(token) or self._row.may_hold(token)):
            raise StoreError(_not_own(self._engine))


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
"""The mirrors, by address, name and token, that were seen to hold what is recorded of them."""


def _require_own(store: Store, engine: Milvus, row: MirrorRow, role: Role) -> None:
    """Raise StoreError unless an engine holds the state that is recorded of it, all of it, or one that was begun since."""
    key = (engine.address, row.name, row.token)
    if key in _own:
        return
    token = count = None
    if engine.exists(row.name):
        count = engine.count(row.name)
        token = engine.token(row.name, row.ready)
    with store.reading() as catalog:  # a writer may have gone on meanwhile
        now = mirror_row(catalog, engine.address, row.backbone_id, role)
    if not any(each is not None and each.may_hold(token) for each in (row, now)):
        raise StoreError(_not_own(engine))
    if token == row.token and now == row and row.next_token is None and count != row.vectors:
        raise StoreError(
            f"{engine.address} holds {count} images of a mirror that had {row.vectors}; run `nearshot mirror "
            f"{engine.address}`, which makes it anew"
        )
    _own.add(key)


def _not_own(engine: Milvus) -> str:
    return (
        f"what {engine.address} holds is not the mirror that this database has recorded: a copy of the store has gone on with "
        f"it, or this is a replica that is behind; `nearshot mirror {engine.address}` makes one of its own"
    )
