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


BY_HAND = "by_hand"
"""The fact that a policy was set by somebody; it holds what was there before, or null."""

UNDONE_AT_MOST = 20
"""How many policies by hand, one in the place of the other, can be taken back one after the other."""


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

    @property
    def is_by_hand(self) -> bool:
        """Tell whether somebody set the policy, and no calibration found it."""
        return BY_HAND in self.facts and BY_HAND in self.about()  # which is long: most have no such word

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


def put_by_hand(editor: Editor, row: CalibrationRow) -> None:
    """Record a policy that somebody set. What calibration found besides a policy stays; what was there can be put back."""
    before = _stored(editor, row)
    about = row.about() | {BY_HAND: None}
    if before is not None:
        known = before.about()
        earlier = known.get(BY_HAND) if before.is_by_hand else None
        kept = {name: getattr(before, name) for name in (*_POLICY, "support_digest", "created")}
        held = kept | {"seen": known.get("seen"), "is_by_hand": before.is_by_hand, BY_HAND: earlier}
        about = known | about | {BY_HAND: _cut(held, UNDONE_AT_MOST)}
    put_calibration(editor, row._replace(facts=json.dumps(about)))


def undo_by_hand(editor: Editor, backbone_id: int, category: str, score: str) -> CalibrationRow | None:
    """Put back what was there before a policy by hand, or nothing where nothing was; what there is now.

    LookupError where there is no policy by hand.
    """
    row = stored_calibrations(editor, backbone_id, score).get(category)
    if row is None or not row.is_by_hand:
        raise LookupError(category)
    about = row.about()
    before = about.pop(BY_HAND)
    if before is None:
        drop_calibration(editor, backbone_id, category, score)
        return None
    about["seen"] = before["seen"]
    if before["is_by_hand"]:
        about[BY_HAND] = before[BY_HAND]
    kept = {name: before[name] for name in (*_POLICY, "support_digest", "created")}
    former = row._replace(**kept, facts=json.dumps(about))
    put_calibration(editor, former)
    return former


_POLICY = ("threshold", "margin_floor")


def _stored(catalog: Catalog, row: CalibrationRow) -> CalibrationRow | None:
    return stored_calibrations(catalog, row.backbone_id, row.score).get(row.category)


def _cut(held: dict[str, Any], most: int) -> dict[str, Any]:
    """What was there before, and before that, so many times."""
    before = held[BY_HAND]
    if before is None:
        return held
    return held | {BY_HAND: _cut(before, most - 1) if most > 1 else None}
