"""Dependencies: what routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from service.engine import Engine
from service.runs import Runs
from service.work import Work


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def _work(request: Request) -> Work:
    work: Work = request.app.state.work
    return work


def _slow(request: Request) -> Work:
    slow: Work = request.app.state.slow
    return slow


def _runs(request: Request) -> Runs:
    runs: Runs = request.app.state.runs
    return runs


EngineHere = Annotated[Engine, Depends(_engine)]
WorkHere = Annotated[Work, Depends(_work)]
SlowWorkHere = Annotated[Work, Depends(_slow)]
RunsHere = Annotated[Runs, Depends(_runs)]
