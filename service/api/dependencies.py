"""Dependencies: what routes are given."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from nearshot.service.drawings import Drawings
from nearshot.service.engine import Engine
from nearshot.service.runs import Runs
from nearshot.service.work import Work


def _shared(name: str) -> Any:
    """Provide what the application shares under a name."""

    async def get(request: Request) -> Any:  # a plain function would cost each request a turn on a thread
        return getattr(request.app.state, name)

    return Depends(get)


EngineHere = Annotated[Engine, _shared("engine")]
WorkHere = Annotated[Work, _shared("work")]
SlowWorkHere = Annotated[Work, _shared("slow")]
DrawingsHere = Annotated[Drawings, _shared("drawings")]
RunsHere = Annotated[Runs, _shared("runs")]
