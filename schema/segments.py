"""Segments in the database: their records, and what has changed since the revision that they reflect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, delete, func, insert, select, update

from nearshot.schema import tables
from nearshot.schema.catalog import CHUNK, BackboneRow, Catalog
from nearshot.schema.digests import intact
from nearshot.schema.editor import Editor
from nearshot.schema.errors import StoreError
from nearshot.schema.vocabulary import Role

images, embeddings, segments = tables.images.c, tables.embeddings.c, tables.segments.c

NONE = np.empty(0, dtype=np.int64)

MANY = 50_000
"""Contents of which more are found by walking all that a backbone has seen than one by one."""


class SegmentRow(NamedTuple):
    """The record of a segment: its file, bytes, digest and number of vectors; it reflects what changed after `since`, up to
    `revision`.
    """

    id: int
    backbone_id: int
    role: str
    file: str
    size: int
    xxh3: str
    vectors: int
    since: int
    revision: int


class Group(NamedTuple):
    """A label of a category (None: without one), and where its images stand among others: from `first` up to `last`."""

    category: str
    label: str | None
    first: int
    last: int


class LabelSpans(NamedTuple):
    """The labels of all categories among groups; of each group (g,) that has one its number, and where it begins and ends."""

    names: list[tuple[str, str]]
    numbers: NDArray[np.int64]
    firsts: NDArray[np.int64]
    lasts: NDArray[np.int64]

    @classmethod
    def of(cls, groups: Iterable[Group]) -> LabelSpans:
        """Those of some groups."""
        names: dict[tuple[str, str], int] = {}
        spans = [
            (names.setdefault((category, label), len(names)), first, last)
            for category, label, first, last in groups
            if label is not None
        ]
        return cls(list(names), *np.array(spans, dtype=np.int64).reshape(-1, 3).T)


class UsableImages(NamedTuple):
    """Images that a backbone has a vector of: ids (n,) and contents (n,), those of a group together, within it by id."""

    ids: NDArray[np.int64]
    contents: NDArray[np.int64]
    groups: list[Group]

    def of_label(self, label: str) -> UsableImages:
        """Those of a label, of any category."""
        own = [group for group in self.groups if group.label == label]
        rows = np.concatenate([NONE, *(np.arange(group.first, group.last) for group in own)])
        ends = np.cumsum([0, *(group.last - group.first for group in own)]).tolist()
        groups = [group._replace(first=ends[i], last=ends[i + 1]) for i, group in enumerate(own)]
        return UsableImages(self.ids[rows], self.contents[rows], groups)


def segment_rows(
    catalog: Catalog, backbone_id: int | None = None, role: Role | None = None
) -> dict[tuple[int, str], list[SegmentRow]]:
    """The records of a backbone and role, or of all, oldest first, by backbone id and role.

    None of those of which one is damaged, or does not follow on the one before it, or is of a revision that is yet to come.
    """
    query = select(*(segments[name] for name in SegmentRow._fields), intact(tables.segments).label("whole"))
    wanted = {"backbone_id": backbone_id, "role": role}
    query = query.filter_by(**{name: value for name, value in wanted.items() if value is not None})
    newest = catalog.revision()
    chains: dict[tuple[int, str], list[SegmentRow]] = {}
    broken = set()
    for *values, whole in catalog.connection.execute(query.order_by(segments.since)):
        row = SegmentRow(*values)
        key = (row.backbone_id, row.role)
        chain = chains.setdefault(key, [])
        if not whole or row.since != (chain[-1].revision if chain else 0) or row.revision > newest:
            broken.add(key)
        chain.append(row)
    return {key: chain for key, chain in sorted(chains.items()) if key not in broken}


def recorded_segments(catalog: Catalog, backbone_id: int) -> list[SegmentRow]:
    """The records of a backbone of any role, those of broken chains as well; not damaged ones."""
    query = select(*(segments[name] for name in SegmentRow._fields)).where(
        segments.backbone_id == backbone_id, intact(tables.segments)
    )
    return list(starmap(SegmentRow, catalog.connection.execute(query)))


def broken_chains(catalog: Catalog) -> set[tuple[int, str]]:
    """The backbones, by id, and roles whose records are not used."""
    rows = catalog.connection.execute(select(segments.backbone_id, segments.role).distinct())
    return {(backbone_id, role) for backbone_id, role in rows} - segment_rows(catalog).keys()


def segment_files(catalog: Catalog, *, whole: bool = False) -> set[str]:
    """The files that any record names, damaged ones as well, or only those that are `whole`."""
    kept = [intact(tables.segments)] if whole else []
    files = select(segments.file).where(*kept).union_all(select(tables.ann_indexes.c.file))
    return set(catalog.connection.execute(files).scalars())


def record_segment(editor: Editor, row: SegmentRow, merged: Sequence[SegmentRow] = ()) -> None:
    """Record a segment (its `id` does not count), in the place of those that were merged into it."""
    if merged:
        _delete(editor, segments.id.in_([old.id for old in merged]))
    values = row._asdict()
    del values["id"]
    editor.connection.execute(insert(tables.segments).values(values))


def move_segment(editor: Editor, row: SegmentRow, revision: int) -> None:
    """Record that a segment reflects a later revision as well: nothing of it has changed since."""
    editor.connection.execute(update(tables.segments).where(segments.id == row.id).values(revision=revision))


def forget_segments(editor: Editor, backbone_id: int | None = None, role: str | None = None) -> None:
    """Forget the segments of a backbone and role, or all; the rows still hold all that was in them."""
    own = [] if backbone_id is None else [segments.backbone_id == backbone_id, segments.role == role]
    _delete(editor, *own)


def _delete(editor: Editor, *conditions: ColumnElement[bool]) -> None:
    """Delete records, and those of the approximate indexes over them."""
    gone = select(segments.id).where(*conditions)
    editor.connection.execute(delete(tables.ann_indexes).where(tables.ann_indexes.c.segment_id.in_(gone)))
    editor.connection.execute(delete(tables.segments).where(*conditions))


def touched(
    catalog: Catalog, backbone: BackboneRow, role: Role, since: int, category: str | None = None
) -> NDArray[np.int64]:
    """Ids (n,), ascending, of the images of a role (and category) that changed, or whose vectors did, after a revision."""
    by_category = touched_by_category(catalog, backbone, role, since)
    chosen = by_category.values() if category is None else [by_category.get(category, [])]
    return np.array(sorted(image_id for ids in chosen for image_id in ids), dtype=np.int64)


def touched_by_category(catalog: Catalog, backbone: BackboneRow, role: Role, since: int) -> dict[str, list[int]]:
    """The images of a role that changed, or whose vectors did, after a revision, by their category."""
    if catalog.revision() == since:
        return {}
    # Which rows are newer is asked alone, and the rest of it afterwards: a planner may otherwise walk all of a role.
    shown = select(images.id, images.category, images.role)
    newer = select(embeddings.content_id).where(embeddings.backbone_id == backbone.id, embeddings.revision > since)
    contents = list(catalog.connection.execute(newer).scalars())
    queries = [shown.where(images.role == role, images.revision > since)]
    queries += [shown.where(images.content_id.in_(chunk)) for chunk in _chunks(contents)]
    ids: dict[str, set[int]] = {}
    for query in queries:
        for image_id, category, its_role in catalog.connection.execute(query):
            if its_role == role:
                ids.setdefault(category, set()).add(image_id)
    return {category: sorted(own) for category, own in ids.items()}


def usable_images(
    catalog: Catalog,
    backbone: BackboneRow,
    role: Role,
    *,
    category: str | None = None,
    among: NDArray[np.int64] | None = None,
) -> UsableImages:
    """The usable images of a role (of a category, among some ids) that a backbone has a vector of; no vector is read.

    StoreError where a row is not what was written.
    """
    query = select(
        images.id,
        images.content_id,
        images.category,
        images.role,
        images.label,
        images.present,
        intact(tables.images).label("whole"),
    )
    if among is None:  # else a planner may walk all of a role to find the few; what they are of is looked at afterwards
        query = query.where(images.role == role, *([] if category is None else [images.category == category]))
    has = select(embeddings.content_id).where(embeddings.backbone_id == backbone.id)
    # Whether there is a vector is asked of indexes: looking at the vectors themselves would read a page of the file for each.
    lacks = has.where(embeddings.vector.is_(None))
    numbers: dict[tuple[str, str | None], int] = {}
    chunks = [query] if among is None else [query.where(images.id.in_(chunk)) for chunk in _chunks(among.tolist())]
    rows = (row for chunk in chunks for row in _numbered(catalog, chunk, numbers, role, category))
    table: NDArray[np.int64] = np.fromiter(rows, dtype=np.dtype((np.int64, 3)))
    ids, contents, groups = table.reshape(-1, 3).T
    if len(contents) > MANY:
        embedded = _numbers(catalog, has)
    else:
        own = [_numbers(catalog, has.where(embeddings.content_id.in_(chunk))) for chunk in _chunks(contents.tolist())]
        embedded = np.concatenate(own) if own else NONE
    kept = np.isin(contents, embedded) & ~np.isin(contents, _numbers(catalog, lacks))
    ids, contents, groups = ids[kept], contents[kept], groups[kept]
    names = sorted(numbers, key=group_order)
    ranks = np.empty(len(names), dtype=np.int64)
    ranks[[numbers[name] for name in names]] = np.arange(len(names))
    order = np.lexsort((ids, ranks[groups]))
    bounds = np.searchsorted(ranks[groups][order], np.arange(len(names) + 1)).tolist()
    spans = [Group(*name, *bounds[i : i + 2]) for i, name in enumerate(names) if bounds[i + 1] > bounds[i]]
    return UsableImages(ids[order], contents[order], spans)


def count_labels(
    catalog: Catalog, backbone: BackboneRow, role: Role, category: str | None = None, label: str | None = None
) -> dict[tuple[str, str | None], int]:
    """How many usable images of a role (of a category, of a label) that a backbone has a vector of there are, by category and
    label. No row is checked, and no vector is looked at.
    """
    own = embeddings.backbone_id == backbone.id
    has = select(embeddings.content_id).where(own, embeddings.content_id == images.content_id).exists()
    lacks = select(embeddings.content_id).where(own, embeddings.vector.is_(None))
    wanted = {images.category: category, images.label: label}
    query = (
        select(images.category, images.label, func.count())
        .where(images.role == role, images.present, images.content_id.is_not(None), has)
        .where(images.content_id.not_in(lacks), *(own == name for own, name in wanted.items() if name is not None))
        .group_by(images.category, images.label)
    )
    return {(category, label): count for category, label, count in catalog.connection.execute(query)}


def union(*numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers (n,) that are in any of some arrays, ascending, each once. To sort a million takes a hundredth of the time
    of NumPy's own `union1d`, which hashes them (2.4).
    """
    every = np.sort(np.concatenate(numbers))
    return every[np.append(True, every[1:] != every[:-1])] if len(every) else every


def group_order(name: tuple[str, str | None]) -> tuple[str, bool, str]:
    """The key by which groups are sorted: by category, images without a label first, then by label."""
    category, label = name
    return category, label is not None, label or ""


def _numbered(
    catalog: Catalog,
    query: Select[Any],
    numbers: dict[tuple[str, str | None], int],
    role: Role,
    category: str | None,
) -> Iterator[tuple[int, int, int]]:
    """Id, content, and the number of its category and label, of each usable image of a role among the rows of a query."""
    for row in catalog.connection.execute(query, execution_options={"yield_per": CHUNK}):
        if not row.whole:
            raise StoreError(
                f"a row of images is damaged (id {row.id}); `nearshot verify --repair` mends what can be mended"
            )
        is_of_it = row.role == role and category in (None, row.category)
        if row.present and row.content_id is not None and is_of_it:
            yield row.id, row.content_id, numbers.setdefault((row.category, row.label), len(numbers))


def _numbers(catalog: Catalog, query: Select[Any]) -> NDArray[np.int64]:
    return np.fromiter(catalog.connection.execute(query).scalars(), dtype=np.int64)


def _chunks(numbers: Sequence[int]) -> Iterator[list[int]]:
    return (list(numbers[start : start + CHUNK]) for start in range(0, len(numbers), CHUNK))
