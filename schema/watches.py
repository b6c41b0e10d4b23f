"""Watches as the store keeps them: one per calibration, with what queries have scored since, and no images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import starmap
from typing import Any, NamedTuple

from sqlalchemy import delete, insert, select

from nearshot.schema import tables
from nearshot.schema.catalog import Catalog
from nearshot.schema.editor import Editor

watches, backbones = tables.watches.c, tables.backbones.c


class WatchRow(NamedTuple):
    """A watch; `calibrated` is when the calibration was made that it belongs to, `state` JSON (`retriever.drift.Watch`)."""

    backbone_id: int
    category: str
    score: str
    calibrated: str
    state: str

    def parsed(self) -> dict[str, Any]:
        """The state."""
        state: dict[str, Any] = json.loads(self.state)
        return state


class Lapse(NamedTuple):
    """A promise that no longer holds: whose it was, and why."""

    backbone: str
    category: str
    score: str
    reason: str


def stored_watches(catalog: Catalog, backbone_id: int) -> Mapping[tuple[str, str], WatchRow]:
    """A backbone's watches by category and score."""
    query = select(*(watches[name] for name in WatchRow._fields)).where(watches.backbone_id == backbone_id)
    return {(row.category, row.score): row for row in starmap(WatchRow, catalog.connection.execute(query))}


def put_watch(editor: Editor, row: WatchRow) -> None:
    """Record a watch in the place of the one before it. No revision is drawn: answers do not change by it."""
    own = (watches.backbone_id == row.backbone_id, watches.category == row.category, watches.score == row.score)
    editor.connection.execute(delete(tables.watches).where(*own))
    editor.connection.execute(insert(tables.watches).values(**row._asdict()))


def lapses(catalog: Catalog) -> list[Lapse]:
    """The promises that have lapsed, of calibrations that still hold."""
    held = (
        (tables.calibrations.c.backbone_id == watches.backbone_id)
        & (tables.calibrations.c.category == watches.category)
        & (tables.calibrations.c.score == watches.score)
        & (tables.calibrations.c.created == watches.calibrated)
    )
    query = (
        select(backbones.name, watches.category, watches.score, watches.state)
        .join(tables.backbones, backbones.id == watches.backbone_id)
        .join(tables.calibrations, held)
        .order_by(backbones.name, watches.category, watches.score)
    )
    return [
        Lapse(name, category, score, reason)
        for name, category, score, state in catalog.connection.execute(query)
        if (reason := json.loads(state)["lapsed"])
    ]
