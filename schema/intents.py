"""Intents: files that a command is about to write or delete in a data directory, recorded before they are.

What a killed command left half done can so be told from what people put there, and is finished or dropped by the next one.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import starmap
from typing import Any, NamedTuple

from sqlalchemy import delete, insert, select

from nearshot.schema import tables
from nearshot.schema.catalog import Catalog
from nearshot.schema.editor import Editor

intents = tables.intents.c


class Planned(StrEnum):
    """Kind of an intent: a query becomes a shot, that is taken back, an image is put beside the queries, or goes again; a crop
    is written, or deleted, because its picture was cropped anew or is gone."""

    LABEL = "label"
    UNDO = "undo"
    ADD = "add"
    REMOVE = "remove"
    CROP = "crop"
    UNCROP = "uncrop"


class Intent(NamedTuple):
    """A file that is to be there with a content, or (undo, remove) gone. `query` is what is labelled, `label` its label."""

    id: int
    action: str
    path: str
    sha256: str
    root_id: int
    category: str
    content_id: int | None
    label: str | None
    query: str | None
    feedback_id: int | None
    created: str


def planned(catalog: Catalog) -> list[Intent]:
    """Every intent that has been neither carried out nor dropped, oldest first."""
    query = select(*(intents[name] for name in Intent._fields)).order_by(intents.id)
    return list(starmap(Intent, catalog.connection.execute(query)))


def is_planned(catalog: Catalog, intent: Intent) -> bool:
    """Tell whether an intent still stands."""
    return catalog.connection.execute(select(intents.id).where(intents.id == intent.id)).scalar() is not None


def plan(editor: Editor, action: Planned, **details: Any) -> Intent:
    """Record an intent; `details` are its other fields but the id, None where they are left out."""
    row: dict[str, Any] = {name: details.get(name) for name in Intent._fields if name != "id"} | {
        "action": action.value
    }
    statement = insert(tables.intents).values(row).returning(intents.id)
    return Intent(int(editor.connection.execute(statement).scalar_one()), **row)


def drop_intent(editor: Editor, intent: Intent) -> None:
    """Forget an intent that was carried out, or came to nothing."""
    editor.connection.execute(delete(tables.intents).where(intents.id == intent.id))
