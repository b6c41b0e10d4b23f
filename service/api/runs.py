"""Runs: started, looked at and followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from nearshot.retriever.choose_backbone import choose_supported
from nearshot.schema.errors import UsageError
from nearshot.schema.paths import AnyPath, path_of
from nearshot.service import models
from nearshot.service.api.dependencies import EngineHere, RunsHere, WorkHere
from nearshot.service.engine import Engine
from nearshot.service.jobs import calibrating, indexing, linting
from nearshot.service.problems import described
from nearshot.service.runs import Runs, RunState
from nearshot.service.thread_pool import ThreadPool

router = APIRouter(prefix="/v1")

RunId = Annotated[int, Path(ge=1, le=2**53)]


@router.post("/index", response_model=models.Run, status_code=202, responses=described(409))
async def index(engine: EngineHere, work: WorkHere, runs: RunsHere) -> Any:
    """Bring the index up to date with all data directories, in the background, with the backbones that are served."""

    def begin() -> RunState:
        job = indexing(engine.store, _roots(engine), engine.index_options(), engine.shared())
        return runs.start("index", job)

    return asdict(await work.do(begin))


@router.post("/calibrate", response_model=models.Run, status_code=202, responses=described(409))
async def calibrate(
    engine: EngineHere, work: WorkHere, runs: RunsHere, asked: Annotated[models.CalibrationParameters, Form()]
) -> Any:
    """Find threshold and margin from shots and labelled queries, in the background, for the backbones that are served."""
    if asked.category is not None:

        def check(category: str) -> None:
            with engine.store.reading() as catalog:
                choose_supported(catalog, [category])

        await work.do(partial(check, asked.category))
    if asked.backbone is not None and asked.backbone not in engine.served:
        raise UsageError(f"{asked.backbone} is not served; take {' or '.join(engine.served)}")
    job = calibrating(
        engine.store,
        backbones=list(engine.served) if asked.backbone is None else [asked.backbone],
        categories=[] if asked.category is None else [asked.category],
        false_accept=asked.false_accept,
    )
    return asdict(await work.do(lambda: runs.start("calibrate", job)))


@router.post("/lint", response_model=models.Run, status_code=202, responses=described(409))
async def lint(engine: EngineHere, work: WorkHere, runs: RunsHere) -> Any:
    """Find faults in the support sets of all data directories, in the background."""
    return asdict(await work.do(lambda: runs.start("lint", linting(engine.store, _roots(engine), None))))


def _roots(engine: Engine) -> list[AnyPath]:
    """The data directories that have images."""
    with engine.store.reading() as catalog:
        return [path_of(path) for root_id, path in sorted(catalog.roots().items()) if catalog.has_images(root_id)]


@router.get("/runs/{run_id}", response_model=models.Run, summary="A run", responses=described(404))
async def run(runs: RunsHere, work: WorkHere, run_id: RunId) -> Any:
    """Tell how far the run has come; of another service's, as it told a second ago."""
    return asdict(await _state(runs, work, run_id))


async def _known_run(runs: RunsHere, work: WorkHere, run_id: RunId) -> int:
    await _state(runs, work, run_id)
    return run_id


@router.get("/runs/{run_id}/events", response_class=EventSourceResponse, responses=described(404))
async def run_events(
    runs: RunsHere, work: WorkHere, run_id: Annotated[int, Depends(_known_run)]
) -> AsyncIterator[ServerSentEvent]:
    """Its progress as server-sent events, until it ends."""
    before: dict[str, Any] = {}
    while not runs.stopping:
        now = asdict(await _state(runs, work, run_id))
        if now != before:
            yield ServerSentEvent(event="progress", data=now)
            before = now
        if now["state"] != "running":
            return
        await asyncio.sleep(0.1 if runs.own(run_id) is not None else 0.5)


async def _state(runs: Runs, work: ThreadPool, run_id: int) -> RunState:
    state = runs.own(run_id) or await work.do(lambda: runs.get(run_id))
    if state is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no run {run_id}")
    return state
