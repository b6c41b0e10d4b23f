"""Feedback: what an indexed query shows, or that it shows nothing known."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form

from nearshot.indexer.feedback import add_shot, reject, undo
from nearshot.retriever.marking import mark_hits, mark_result
from nearshot.schema.errors import UsageError
from nearshot.schema.paths import path_of
from nearshot.schema.vocabulary import Action
from nearshot.service import models
from nearshot.service.api.dependencies import EngineHere, SlowWorkHere
from nearshot.service.api.images import find_image
from nearshot.service.problems import described

router = APIRouter(prefix="/v1")


@router.post("/label", response_model=models.Feedback, responses=described(404))
async def label(
    engine: EngineHere,
    work: SlowWorkHere,
    image_id: Annotated[int, Form(ge=1, le=2**53, description="An indexed query.")],
    label: Annotated[str | None, Form(min_length=1, max_length=200, description="What it shows.")] = None,
    undo_it: Annotated[bool, Form(alias="undo", description="Take it back.")] = False,
) -> Any:
    """Say what an indexed query shows: a copy of it becomes a shot."""
    if (label is None) != undo_it:
        raise UsageError("give a label, or undo to take back what was said")

    def say() -> dict[str, Any]:
        image = find_image(engine, image_id).image
        if label is None:
            said = undo(engine.store, path_of(image.path), Action.LABEL, image.category)
            return _feedback(image_id, Action.LABEL, image.category, said.label, said.shot_path, undone=True)
        shot = add_shot(engine.store, path_of(image.path), label, image.category)
        return _feedback(image_id, Action.LABEL, image.category, label, str(shot))

    said = await work.do(say)
    engine.outdate()
    return said


@router.post("/reject", response_model=models.Feedback, responses=described(404))
async def reject_image(
    engine: EngineHere,
    work: SlowWorkHere,
    image_id: Annotated[int, Form(ge=1, le=2**53, description="An indexed query.")],
    undo_it: Annotated[bool, Form(alias="undo", description="Take it back.")] = False,
) -> Any:
    """Say that an indexed query shows no label of its category: what is nearer to it than to any shot is unknown."""

    def say() -> dict[str, Any]:
        image = find_image(engine, image_id).image
        if undo_it:
            undo(engine.store, path_of(image.path), Action.REJECT, image.category)
        else:
            reject(engine.store, path_of(image.path), image.category)
        return _feedback(image_id, Action.REJECT, image.category, None, None, undone=undo_it)

    said = await work.do(say)
    engine.outdate()
    return said


@router.post("/mark", response_model=models.Mark, responses=described(404))
async def mark(engine: EngineHere, work: SlowWorkHere, said: Annotated[models.MarkParameters, Form()]) -> Any:
    """Say whether a hit of an indexed query, or a result of words, is right: `false` ends lists by it."""
    if (said.right is None) != said.undo:
        raise UsageError("give right (true or false), or undo to take back what was said")
    if (said.image_id is None) == (said.words is None):
        raise UsageError("give image_id, an indexed query, or words: what it is a hit of")

    def say() -> None:
        find_image(engine, said.hit_id)
        if said.image_id is not None:
            find_image(engine, said.image_id)
            mark_hits(engine.store, said.image_id, [said.hit_id], said.right)
            return
        if said.mode is None or said.rank is None:
            raise UsageError("give the mode of the search, and the rank of the result")
        mark_result(
            engine.store,
            said.words or "",
            said.mode,
            said.hit_id,
            said.right,
            rank=said.rank,
            backbone=said.backbone,
            score=said.score,
        )

    await work.do(say)
    engine.outdate()
    return {"hit_id": said.hit_id, "right": said.right}


def _feedback(
    image_id: int, action: Action, category: str, label: str | None, shot: str | None, *, undone: bool = False
) -> dict[str, Any]:
    feedback = {"id": image_id, "action": action.value, "category": category, "label": label, "shot": shot}
    return feedback | {"undone": undone}
