"""Lacking: the usable images that a backbone has not dealt with yet, read once and then by what has changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Select, or_, select

from nearshot.schema import tables
from nearshot.schema.catalog import CHUNK, DROPPED, USABLE, BackboneRow, Catalog
from nearshot.schema.segments import touched_by_category
from nearshot.schema.vocabulary import Role

images, embeddings = tables.images.c, tables.embeddings.c


class _State(NamedTuple):
    """The ids of the images that lack a vector as of a revision, by category and role."""

    revision: int
    ids: Mapping[tuple[str, str], frozenset[int]]


class Lacking:
    """Which images backbones have not dealt with. Any number of threads may ask, with catalogs of any state.

    To find it out, a row of every image may have to be looked at; what is found is remembered, and then what has changed
    since is looked at alone.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], _State] = {}

    def count(self, catalog: Catalog, row: BackboneRow, categories: Collection[str], roles: Collection[Role]) -> int:
        """The number of usable images of some categories and roles that a backbone has neither a vector of nor a reason for
        none, as the catalog's state has it.
        """
        ids = self._ids(catalog, row)
        return sum(len(ids.get((category, role), ())) for category in categories for role in roles)

    def _ids(self, catalog: Catalog, row: BackboneRow) -> Mapping[tuple[str, str], frozenset[int]]:
        key, revision = (catalog.identity(), row.id), catalog.revision()
        known = self._known.get(key)
        # What is known may be newer than this reader, or of a database that an older state was put back into.
        if known is None or known.revision > revision:
            known = _State(revision, _all(catalog, row))
        elif known.revision < revision:
            known = _State(revision, _since(catalog, row, known))
        self._known[key] = known
        return known.ids


def count_failed(catalog: Catalog, row: BackboneRow, categories: Collection[str], role: Role) -> int:
    """The number of usable images of some categories and a role of which a backbone could make no vector."""
    failed = select(embeddings.content_id).where(
        embeddings.backbone_id == row.id, embeddings.vector.is_(None), embeddings.failure.is_not(None)
    )
    # Which role they are of is asked of what was read: a planner may otherwise walk all of a role.
    rows = catalog.connection.execute(select(images.category, images.role).where(USABLE, images.content_id.in_(failed)))
    return sum(category in categories and its_role == role for category, its_role in rows)


def _all(catalog: Catalog, row: BackboneRow) -> Mapping[tuple[str, str], frozenset[int]]:
    query = _lacking(row)
    if catalog.has_rows_of_all(row.id):
        query = query.where(images.content_id.in_(_dropped(row)))
    return _grouped(catalog, [query])


def _since(catalog: Catalog, row: BackboneRow, known: _State) -> Mapping[tuple[str, str], frozenset[int]]:
    by_category = [touched_by_category(catalog, row, role, known.revision) for role in Role]
    touched = [image_id for categories in by_category for ids in categories.values() for image_id in ids]
    chunks = [touched[start : start + CHUNK] for start in range(0, len(touched), CHUNK)]
    now = _grouped(catalog, [_lacking(row).where(images.id.in_(chunk)) for chunk in chunks])
    before = {key: ids.difference(touched) for key, ids in known.ids.items()}
    return {key: before.get(key, frozenset()) | now.get(key, frozenset()) for key in {**before, **now}}


def _lacking(row: BackboneRow) -> Select[Any]:
    """Id, category and role of the images that lack one. An index tells which have none; no vector is looked at."""
    own = embeddings.backbone_id == row.id
    dealt_with = select(embeddings.content_id).where(own, embeddings.content_id == images.content_id).exists()
    lacks = or_(~dealt_with, images.content_id.in_(_dropped(row)))
    return select(images.id, images.category, images.role).where(USABLE, lacks)


def _dropped(row: BackboneRow) -> Select[Any]:
    """The contents whose vectors were damaged, and are not there again."""
    return select(embeddings.content_id).where(embeddings.backbone_id == row.id, DROPPED)


def _grouped(catalog: Catalog, queries: Collection[Select[Any]]) -> dict[tuple[str, str], frozenset[int]]:
    ids: dict[tuple[str, str], set[int]] = {}
    for query in queries:
        for image_id, category, role in catalog.connection.execute(query):
            ids.setdefault((category, role), set()).add(image_id)
    return {key: frozenset(own) for key, own in ids.items()}
