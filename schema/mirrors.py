"""Mirrors in the database: which engine holds a copy of whose vectors, and the state of the store that it reflects."""

from __future__ import annotations

from itertools import starmap
from typing import NamedTuple

from sqlalchemy import delete, insert, select

from nearshot.schema import tables
from nearshot.schema.catalog import Catalog
from nearshot.schema.digests import intact
from nearshot.schema.editor import Editor
from nearshot.schema.vocabulary import Role

mirrors = tables.mirrors.c


class MirrorRow(NamedTuple):
    """The record of a mirror: an engine's address, whose vectors it holds and how many, under which name; up to which revision.

    Its `token` is kept in the engine, too: a number of its own for each state, by which one is told from another of the same
    revision. An answer of the engine from the time `ready` on, by its own clock, is of that state. While it is written to, or
    where that was cut off, there is a next token and revision: what has changed between the two may be there or not.
    """

    engine: str
    backbone_id: int
    role: str
    name: str
    token: int
    revision: int
    vectors: int
    ready: int
    next_token: int | None = None
    next_revision: int | None = None

    @property
    def newest(self) -> int:
        """The last revision of which anything may be there."""
        return self.revision if self.next_revision is None else self.next_revision

    @property
    def is_unfinished(self) -> bool:
        """True before all was there for the first time."""
        return not self.revision

    def may_hold(self, token: int | None) -> bool:
        """Tell whether an engine that holds a token holds this."""
        return token is not None and token in (self.token, self.next_token)


def mirror_row(catalog: Catalog, engine: str, backbone_id: int, role: Role) -> MirrorRow | None:
    """The record of a backbone's vectors of a role in an engine; None where there is none, or it is damaged."""
    own = [mirrors.engine == engine, mirrors.backbone_id == backbone_id, mirrors.role == role]
    query = select(*(mirrors[name] for name in MirrorRow._fields)).where(*own, intact(tables.mirrors))
    return next(starmap(MirrorRow, catalog.connection.execute(query)), None)


def mirror_rows(catalog: Catalog) -> list[MirrorRow]:
    """All records that are whole, by engine, backbone and role."""
    query = select(*(mirrors[name] for name in MirrorRow._fields)).where(intact(tables.mirrors))
    return sorted(starmap(MirrorRow, catalog.connection.execute(query)), key=lambda row: row[:3])


def forget_mirror(editor: Editor, row: MirrorRow | None = None) -> None:
    """Forget a mirror, or all; what the engine holds of it is not touched."""
    own = [] if row is None else [mirrors.engine == row.engine, mirrors.name == row.name]
    editor.connection.execute(delete(tables.mirrors).where(*own))


def record_mirror(editor: Editor, row: MirrorRow) -> None:
    """Record a mirror in the place of what was recorded of it. No revision is drawn: answers do not change by it."""
    own = (mirrors.engine == row.engine, mirrors.backbone_id == row.backbone_id, mirrors.role == row.role)
    editor.connection.execute(delete(tables.mirrors).where(*own))
    editor.connection.execute(insert(tables.mirrors).values(**row._asdict()))
