"""The overview: what there is, in lists, on a map and in the report."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.background import BackgroundTask

from nearshot.backbones.protocol import TextEncoder
from nearshot.evaluation.projection import Projection, methods
from nearshot.retriever.export import export
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.vocabulary import ExportFormat
from nearshot.service import models
from nearshot.service.api.dependencies import DrawingsHere, EngineHere, SlowWorkHere, WorkHere

if TYPE_CHECKING:
    from nearshot.evaluation.next_labels import Advice
    from nearshot.service.engine import Engine

REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"

SUFFIXES = {
    ExportFormat.JSONL: "jsonl",
    ExportFormat.CSV: "csv",
    **dict.fromkeys((ExportFormat.LABELSTUDIO, ExportFormat.FIFTYONE), "json"),
}

router = APIRouter(prefix="/v1")


@router.get("/categories", response_model=models.Categories, summary="Categories, labels and backbones")
async def categories(engine: EngineHere, work: WorkHere) -> Any:
    """List what can be asked for."""

    return {
        "categories": [
            {
                "category": each.category,
                "labels": [{"label": label, "images": number} for label, number in each.labels.items()],
                "queries": each.queries,
            }
            for each in await work.do(engine.categories)
        ],
        "backbones": [
            {
                "name": name,
                "dimension": served.row.dimension,
                "fingerprint": served.row.fingerprint,
                "words": isinstance(served.backbone, TextEncoder),
            }
            for name, served in engine.served.items()
        ],
        "skipped": engine.skipped,
    }


@router.get("/map", response_model=models.Map, summary="A category in two dimensions")
async def map_(engine: EngineHere, drawings: DrawingsHere, asked: Annotated[models.MapParameters, Query()]) -> Response:
    """Its images as a backbone sees them, projected by PCA, or by UMAP where it is installed; 100,000 of them at most."""
    wanted = (asked.backbone, asked.category, asked.method)
    written = await drawings.get(wanted, lambda: _written(engine.project(*wanted), asked.method))
    return Response(written, media_type="application/json")


def _written(projection: Projection, method: str) -> bytes:
    """A map as JSON: of many points this takes a second, which whoever else is answered meanwhile must not wait for."""
    points = [
        {
            **{name: getattr(image, name) for name in ("id", "category", "label", "shot", "role")},
            **{"x": round(float(x), 4), "y": round(float(y), 4)},
        }
        for image, (x, y) in zip(projection.images, projection.places, strict=True)
    ]
    summary = {
        "method": method,
        "methods": methods(),
        "total": projection.total,
        "explained": projection.explained,
    }
    return json.dumps(summary | {"points": points}, ensure_ascii=False).encode("utf-8", "replace")


def _advise(engine: Engine, asked: models.NextParameters) -> Advice:
    from nearshot.evaluation.next_labels import advise  # which takes SciPy a while

    return advise(engine.store, asked.category, backbone=asked.backbone, limit=asked.limit)


@router.get("/next", response_model=models.Next, summary="What to label next")
async def next_(engine: EngineHere, work: SlowWorkHere, asked: Annotated[models.NextParameters, Query()]) -> Any:
    """The unlabelled queries that are most worth labelling, as `nearshot next --json` gives them."""
    async with asyncio.timeout(engine.settings.seconds):
        advice = await work.do(lambda: _advise(engine, asked))
    return {
        "next": [query.as_json() for query in advice.worth],
        "labels": [need.as_json() for need in advice.needs],
        "beyond": list(advice.beyond),
    }


@router.get("/review", response_model=models.Review, summary="What to decide")
async def review_(engine: EngineHere, work: SlowWorkHere, asked: Annotated[models.ReviewParameters, Query()]) -> Any:
    """The unlabelled queries that nobody has decided, as `nearshot review --json` gives them."""

    def waiting() -> Any:
        return engine.review(asked.category, asked.backbone, limit=asked.limit, every=asked.every).as_json()

    async with asyncio.timeout(engine.settings.seconds):
        return await work.do(waiting)


@router.get("/report", response_class=HTMLResponse, summary="The evaluation as a page")
async def report(engine: EngineHere, drawings: DrawingsHere) -> Response:
    """Return the page that `nearshot evaluate --output` writes as report.html, for all that is served."""
    page = await drawings.get("report", engine.report)
    return HTMLResponse(page, headers={"Content-Security-Policy": REPORT_POLICY})


@router.get("/export", response_class=FileResponse, summary="What is known of every image, as a file")
async def export_(
    engine: EngineHere, work: SlowWorkHere, asked: Annotated[models.ExportParameters, Query()]
) -> Response:
    """The file that `nearshot export` writes, but for vectors and pictures."""
    wanted = ImageFilter(category=asked.category, label=asked.label, role=asked.role)
    form = ExportFormat(asked.format)
    directory = tempfile.TemporaryDirectory(prefix="nearshot-export-")
    file = Path(directory.name, f"nearshot.{SUFFIXES[form]}")
    try:
        async with asyncio.timeout(engine.settings.seconds):
            await work.do(lambda: export(engine.store, file, form, wanted=wanted))
    except BaseException:
        directory.cleanup()
        raise
    return FileResponse(file, filename=file.name, background=BackgroundTask(directory.cleanup))


@router.get("/status", response_model=dict[str, Any], summary="What is indexed, lacking, stale or failed")
async def status(engine: EngineHere, work: SlowWorkHere) -> Any:
    """The object of `nearshot status --json`."""
    async with asyncio.timeout(engine.settings.seconds):
        return (await work.do(engine.status)).as_json()
