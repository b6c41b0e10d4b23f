"""Index runs: started, looked at and followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from nearshot.schema.paths import AnyPath, path_of
from nearshot.service import models
from nearshot.service.api.dependencies import EngineHere, RunsHere, WorkHere
from nearshot.service.problems import described
from nearshot.service.runs import RunState

router = APIRouter(prefix="/v1")


@router.post("/index", response_model=models.Run, status_code=202, responses=described(409))
async def index(engine: EngineHere, work: WorkHere, runs: RunsHere) -> Any:
    """Bring the index up to date with all data directories, in the background, with the backbones that are served."""

    def roots() -> list[AnyPath]:
        with engine.store.reading() as catalog:
            return [path_of(path) for root_id, path in sorted(catalog.roots().items()) if catalog.has_images(root_id)]

    return asdict(runs.start(await work.do(roots), engine.index_options(), engine.shared()))


@router.get("/runs/{run_id}", response_model=models.Run, summary="An index run", responses=described(404))
async def run(runs: RunsHere, run_id: int) -> Any:
    """Tell how far the run has come."""
    return asdict(_run(runs, run_id))


def _known_run(runs: RunsHere, run_id: int) -> int:
    _run(runs, run_id)
    return run_id


@router.get("/runs/{run_id}/events", response_class=EventSourceResponse, responses=described(404))
async def run_events(runs: RunsHere, run_id: Annotated[int, Depends(_known_run)]) -> AsyncIterator[ServerSentEvent]:
    """Its progress as server-sent events, until it ends."""
    before: dict[str, Any] = {}
    while not runs.stopping:
        now = asdict(_run(runs, run_id))
        if now != before:
            yield ServerSentEvent(event="progress", data=now)
            before = now
        if now["state"] != "running":
            return
        await asyncio.sleep(0.1)


def _run(runs: RunsHere, run_id: int) -> RunState:
    state = runs.get(run_id)
    if state is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no run {run_id}")
    return state
