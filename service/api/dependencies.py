"""Dependencies: what routes are given."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from nearshot.service.engine import Engine
from nearshot.service.runs import Runs
from nearshot.service.single_flight import SingleFlight
from nearshot.service.thread_pool import ThreadPool


def _shared(name: str) -> Any:
    """Provide what the application shares under a name."""

    async def get(request: Request) -> Any:  # a plain function would cost each request a turn on a thread
        return getattr(request.app.state, name)

    return Depends(get)


EngineHere = Annotated[Engine, _shared("engine")]
WorkHere = Annotated[ThreadPool, _shared("work")]
SlowWorkHere = Annotated[ThreadPool, _shared("slow")]
DrawingsHere = Annotated[SingleFlight, _shared("drawings")]
RunsHere = Annotated[Runs, _shared("runs")]
