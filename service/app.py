"""The application: the API, the page, and what orchestrators ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles

from nearshot.service.accounting import Accounting
from nearshot.service.api import router
from nearshot.service.body_limits import BodyLimits
from nearshot.service.engine import Engine
from nearshot.service.key_check import KeyCheck
from nearshot.service.keys import Key
from nearshot.service.problems import problem, translate_errors
from nearshot.service.runs import Runs
from nearshot.service.same_site import SameSite
from nearshot.service.single_flight import SingleFlight
from nearshot.service.thread_pool import ThreadPool

SLOW_THREADS, DRAWING_THREADS = 2, 2
"""For what takes seconds (what is written, status), and for what may take a minute (reports, maps): no query waits for them."""
STATIC = Path(__file__).parent / "static"


def create_app(engine: Engine, keys: Callable[[], Sequence[Key]] | None = None) -> FastAPI:
    """The application over an engine that is loaded. Without `keys`, it answers to this machine alone."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        finish(app)

    settings = engine.settings
    app = FastAPI(
        title="nearshot",
        version=version("nearshot"),
        description="Recognise images from a few labelled shots, say Unknown when it should, and find images by words.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        form_limits={"max_files": settings.upload_images + 1, "max_fields": 16, "max_part_size": 1 << 16},
    )
    app.state.engine, app.state.runs = engine, Runs(engine.store, engine.outdate)
    app.state.work = ThreadPool(settings.threads, "query", seconds=settings.seconds)
    app.state.slow = ThreadPool(SLOW_THREADS, "slow")
    app.state.drawings = SingleFlight(
        DRAWING_THREADS, seconds=settings.seconds, stopping=lambda: app.state.runs.stopping
    )
    engine.metrics.watch(lambda: engine.batcher.admitted)
    translate_errors(app)
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", response_class=PlainTextResponse, summary="Whether the process lives")
    async def healthz() -> str:
        return "ok"

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", response_class=PlainTextResponse, summary="Whether it can answer")
    async def readyz() -> Response:
        return PlainTextResponse("ready") if engine.ready else problem(503, "not ready", {"Retry-After": "1"})

    @app.get("/metrics", response_class=PlainTextResponse, summary="Counts and times for Prometheus")
    async def metrics() -> Response:
        return Response(engine.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    # The last is the outermost.
    app.add_middleware(
        BodyLimits, seconds=settings.seconds, largest=settings.upload_bytes, capacity=settings.held_bytes
    )
    if keys is not None:
        app.add_middleware(KeyCheck, keys=keys)
    app.add_middleware(SameSite, here_only=keys is None)
    app.add_middleware(Accounting, metrics=engine.metrics)
    return app


def finish(app: FastAPI) -> None:
    """Finish what was begun, and take nothing more. A second time it does nothing."""
    app.state.runs.close()
    app.state.work.close()
    app.state.slow.close()
    app.state.drawings.close()
    app.state.engine.close()
