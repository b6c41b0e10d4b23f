"""Policies by hand: somebody sets threshold and margin, for one backbone, category and score, and may take that back."""

from __future__ import annotations

import json
from typing import Any

from nearshot.retriever.policy import Policy, policy_in_force
from nearshot.retriever.strangers import model_strangers
from nearshot.schema.calibrations import CalibrationRow, put_by_hand, stored_calibrations, undo_by_hand
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import UsageError
from nearshot.schema.labelled import support_digest
from nearshot.schema.numbers import QUERY_NUMBERS
from nearshot.schema.store import Store, utc_now
from nearshot.schema.vocabulary import Score


def set_policy(
    store: Store,
    backbone: BackboneRow,
    category: str,
    score: Score,
    *,
    threshold: float | None = None,
    margin_floor: float | None = None,
) -> Policy:
    """Record a threshold and a margin that somebody chose, or one of them: None is as it is now. The policy that answers from
    now on, until it is taken back or calibration finds another.

    UsageError where the category has no shots, and for numbers that are out of their ranges.
    """
    for name, value in (("threshold", threshold), ("margin_floor", margin_floor)):
        QUERY_NUMBERS[name].check(name, value)
    with store.writing() as editor:
        if (shots := _shots(editor, category)) == 0:
            raise UsageError(f"no category '{category}' has shots; run `nearshot index DATA`")
        about: dict[str, Any] = {
            "fingerprint": backbone.fingerprint,
            "strangers": list(model_strangers(editor, backbone, category).hashes) if score == Score.LDA else [],
            "seen": {"revision": editor.revision(), "images": shots},
        }
        digest = support_digest(editor, backbone, category)
        before = stored_calibrations(editor, backbone.id, score).get(category)
        if before is not None:
            known = before.about()
            about["strangers"] = known.get("strangers", [])  # the model knows those that it knew
            if "evidence" in known:  # which is as old as it was, whatever the policy
                about["seen"], digest = known.get("seen"), before.support_digest
        now = policy_in_force(backbone, score, before)
        row = CalibrationRow(
            backbone.id,
            category,
            score.value,
            now.threshold if threshold is None else threshold,
            now.margin_floor if margin_floor is None else margin_floor,
            json.dumps(about),
            digest,
            utc_now(),
        )
        put_by_hand(editor, row)
    return Policy(row.threshold, row.margin_floor, by_hand=True)


def undo_policy(store: Store, backbone: BackboneRow, category: str, score: Score) -> Policy:
    """Take back the policy that somebody set last; the one that answers now. UsageError where nobody has set one."""
    with store.writing() as editor:
        try:
            former = undo_by_hand(editor, backbone.id, category, score)
        except LookupError as error:
            raise UsageError(f"nobody has set a policy for {category} by {backbone.name} and {score}") from error
    return policy_in_force(backbone, score, former)


def _shots(catalog: Catalog, category: str) -> int:
    return sum(catalog.support_labels(category).values())
