"""Calibrations as the store keeps them: one per backbone, category and score."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import starmap
from typing import Any, NamedTuple

from sqlalchemy import delete, insert, select

from nearshot.schema import tables
from nearshot.schema.catalog import Catalog
from nearshot.schema.editor import Editor

calibrations = tables.calibrations.c


class CalibrationRow(NamedTuple):
    """A policy and where it comes from; `facts` are JSON, `support_digest` that of the support set it was found from."""

    backbone_id: int
    category: str
    score: str
    threshold: float
    margin_floor: float
    facts: str
    support_digest: str
    created: str

    def about(self) -> dict[str, Any]:
        """The facts, parsed."""
        parsed: dict[str, Any] = json.loads(self.facts)
        return parsed

    def lasting(self) -> str:
        """The facts as JSON, without the revision that they were seen at: the same however often the store was changed."""
        return json.dumps({name: value for name, value in self.about().items() if name != "seen"})


def stored_calibrations(catalog: Catalog, backbone_id: int, score: str) -> Mapping[str, CalibrationRow]:
    """A backbone's calibrations of a score, by category."""
    return {row.category: row for row in all_calibrations(catalog, backbone_id) if row.score == score}


def all_calibrations(catalog: Catalog, backbone_id: int) -> list[CalibrationRow]:
    """A backbone's calibrations of all scores and categories."""
    columns = (calibrations[name] for name in CalibrationRow._fields)
    query = select(*columns).where(calibrations.backbone_id == backbone_id)
    ordered = query.order_by(calibrations.category, calibrations.score)
    return list(starmap(CalibrationRow, catalog.connection.execute(ordered)))


def put_calibration(editor: Editor, row: CalibrationRow) -> None:
    """Record a calibration in the place of the one before it."""
    drop_calibration(editor, row.backbone_id, row.category, row.score)
    editor.connection.execute(insert(tables.calibrations).values(**row._asdict(), revision=editor.stamp))


def drop_calibration(editor: Editor, backbone_id: int, category: str, score: str) -> None:
    """Forget a calibration, if there is one."""
    own = (calibrations.backbone_id == backbone_id, calibrations.category == category, calibrations.score == score)
    editor.connection.execute(delete(tables.calibrations).where(*own))
