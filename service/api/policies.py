"""Policies: what threshold and margin do to a category's labelled queries, and setting them by hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form, Query

from nearshot.retriever.by_hand import set_policy, undo_policy
from nearshot.schema.errors import UsageError
from nearshot.service import models
from nearshot.service.api.dependencies import EngineHere, SlowWorkHere

if TYPE_CHECKING:
    from nearshot.evaluation.what_if import WhatIf
    from nearshot.service.engine import Engine

router = APIRouter(prefix="/v1")


@router.get("/policy", response_model=models.Policy, summary="A policy, and what it decides about")
async def policy(engine: EngineHere, work: SlowWorkHere, asked: Annotated[models.PolicyParameters, Query()]) -> Any:
    """The policy of a category, and every labelled query with its score and lead, as `nearshot policy --json` gives them."""
    async with asyncio.timeout(engine.settings.seconds):
        return (await work.do(lambda: _what_if(engine, asked))).as_json()


@router.post("/policy", response_model=models.Policy, summary="Set a policy by hand")
async def new_policy(engine: EngineHere, work: SlowWorkHere, said: Annotated[models.NewPolicy, Form()]) -> Any:
    """Set the threshold and margin of a category by hand, or take back what was set last; the policy that there is now."""
    if said.undo == ((said.threshold, said.margin_floor) != (None, None)):
        raise UsageError("give threshold or margin_floor, or undo to take back what was set")

    def say() -> dict[str, Any]:
        shown = _what_if(engine, said)
        if said.undo:
            undo_policy(engine.store, shown.row, said.category, shown.score_by)
        else:
            chosen = {"threshold": said.threshold, "margin_floor": said.margin_floor}
            set_policy(engine.store, shown.row, said.category, shown.score_by, **chosen)
        with engine.store.reading() as catalog:
            return shown.renewed(catalog).as_json()

    answer = await work.do(say)
    engine.outdate()
    return answer


def _what_if(engine: Engine, asked: models.PolicyParameters) -> WhatIf:
    from nearshot.evaluation.what_if import what_if  # which takes SciPy a while

    with engine.store.reading() as catalog:
        return what_if(catalog, asked.category, backbone=asked.backbone, score=asked.score_by)
