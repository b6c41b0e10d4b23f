"""The API: what can be asked and said over HTTP, under /v1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from backbones.protocol import TextEncoder
from backbones.thumbnail import thumbnail
from evaluation.projection import Projection, methods, project
from indexer.feedback import add_shot, reject, undo
from indexer.survey import survey
from retriever.answer import Answer, Unreadable
from retriever.context import Context
from retriever.embedding import mix, unit
from retriever.options import QueryOptions
from retriever.reference import Reference
from retriever.search import SearchOptions
from schema.captions import ImageFilter
from schema.errors import ImageError, UsageError
from schema.feedback import Action
from schema.files import read_content
from schema.gallery import Pictured, list_pictured, pictured
from schema.images import Role
from service import models
from service.engine import Engine
from service.problems import described
from service.runs import Runs
from service.work import Work

THUMBNAIL_SIDE = 256
MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif", "AVIF": "image/avif"}
"""The formats that browsers show and that run nothing. Of others, and of what may hold scripts, the thumbnail is there."""

REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"

router = APIRouter(prefix="/v1", responses=described(400, 401, 403, 405, 408, 413, 421, 422, 503))


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
ImageId = Annotated[int, Query(ge=1, le=2**53)]


@router.post(
    "/query",
    response_model=models.Answers,
    response_model_exclude_unset=True,
    summary="Recognise images, or say Unknown",
)
async def query(
    engine: EngineHere,
    work: WorkHere,
    asked: Annotated[models.QueryParameters, Query()],
    images: Annotated[list[UploadFile], File(description="One image or more, of any format.")],
) -> Any:
    """An answer an image, as `nearshot query --json` gives it. Images that come at the same time are encoded together.

    An image that cannot be read has its reason in its place; where none can, that is a problem (422).
    """
    if len(images) > engine.settings.upload_images:
        raise HTTPException(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{len(images)} images are more than {engine.settings.upload_images}"
        )
    options = _query_options(asked)
    with engine.batcher.admission(len(images)):
        async with asyncio.timeout(engine.settings.seconds):
            reference = await work.do(engine.reference, options)
            uploads = [(_name(upload, place), upload.file) for place, upload in enumerate(images, start=1)]
            words = None if options.text is None else await work.do(engine.words, reference.row, options.text)
            answers = await asyncio.gather(
                *(_answer(engine, work, reference, options, words, *upload) for upload in uploads)
            )
    if all(isinstance(answer, Unreadable) for answer in answers):
        raise ImageError("; ".join(f"{one.path}: {one.reason}" for one in answers if isinstance(one, Unreadable)))
    return {
        "answers": [answer.as_json() for answer in answers],
        "policies": {category: reference.origin(category, options) for category in reference.supported},
        "stale": reference.stale,
        "lacking": reference.coverage.lacking,
    }


async def _answer(
    engine: Engine, work: Work, reference: Reference, options: QueryOptions, words: Any, name: str, upload: BinaryIO
) -> Answer | Unreadable:
    backbone = engine.backbone(reference)
    try:
        with engine.batcher.arrival():
            encoding = await work.do(engine.submit, upload, backbone)
        with engine.metrics.stage("encode"):
            vector = unit(backbone, await asyncio.wrap_future(encoding))
        if words is not None:
            vector = mix(vector, words, options.text_weight)
    except ImageError as error:
        return Unreadable(name, str(error))

    def decide() -> Answer:
        with engine.metrics.stage("search"):
            hits = reference.search(vector, options)
        with engine.metrics.stage("decide"):
            return reference.decide(name, vector, hits, options)

    answer = await work.do(decide)
    engine.metrics.verdicts.labels(answer.backbone, answer.decision.verdict.value).inc()
    return answer


@router.get("/context", response_model=Context, summary="What queries are compared with")
async def context(engine: EngineHere, work: WorkHere, asked: Annotated[models.QueryParameters, Query()]) -> Any:
    """The backbone, labels and policies that queries with these options would have."""
    options = _query_options(asked)
    return (await work.do(engine.reference, options)).context(options)


@router.get("/search", response_model=models.SearchResults, summary="Find images by words")
async def search(engine: EngineHere, work: WorkHere, asked: Annotated[models.SearchParameters, Query()]) -> Any:
    """By captions, by what the text encoder of a served backbone sees, or by both, as `nearshot search --json` gives it."""
    wanted = ImageFilter(category=asked.category, label=asked.label, role=asked.role)
    options = SearchOptions(mode=asked.mode, wanted=wanted, limit=asked.limit)
    results = await work.do(engine.search, asked.q, options)
    return {
        "mode": results.mode,
        "backbone": results.backbone,
        "missing": list(results.missing),
        "found": [found.as_json(results.mode) for found in results.found],
    }


@router.get("/images", response_model=models.Images, summary="List indexed images")
async def images(engine: EngineHere, work: WorkHere, asked: Annotated[models.ImagesParameters, Query()]) -> Any:
    """A page of images, oldest first."""

    def listed() -> list[Pictured]:
        wanted = ImageFilter(category=asked.category, label=asked.label, role=asked.role)
        with engine.store.reading() as catalog:
            return list_pictured(catalog, wanted, after=asked.after, limit=asked.limit + 1)

    found = await work.do(listed)
    page = found[: asked.limit]
    return {"images": [_image(one) for one in page], "next": page[-1].image.id if len(found) > len(page) else None}


@router.post(
    "/images", response_model=models.Image, status_code=201, summary="Add a query image", responses=described(409)
)
async def add_image(
    engine: EngineHere,
    work: SlowWorkHere,
    image: Annotated[UploadFile, File(description="An image.")],
    category: Annotated[str, Form(min_length=1, max_length=255, description="The category that it belongs to.")],
) -> Any:
    """Put an image among a category's queries in its data directory, and index it, so that it can be labelled or rejected."""
    added = await work.do(lambda: _pictured(engine, engine.add(image.file.read(), category)))
    engine.outdate()
    return _image(added)


@router.get("/images/{image_id}", response_model=models.Image, summary="An indexed image", responses=described(404))
async def image(engine: EngineHere, work: WorkHere, image_id: int) -> Any:
    """What is known of it."""
    return _image(await work.do(_pictured, engine, image_id))


@router.get("/images/{image_id}/thumbnail", response_class=Response, responses=described(404, 410))
async def image_thumbnail(request: Request, engine: EngineHere, work: WorkHere, image_id: int) -> Response:
    """A JPEG of at most 256 x 256 pixels."""
    found = await work.do(_pictured, engine, image_id)
    return await _cached(
        request,
        found,
        lambda: thumbnail(_bytes(engine, found), THUMBNAIL_SIDE, max_pixels=engine.settings.max_pixels),
        "image/jpeg",
        work,
    )


@router.get("/images/{image_id}/original", response_class=Response, responses=described(404, 406, 410))
async def image_original(request: Request, engine: EngineHere, work: WorkHere, image_id: int) -> Response:
    """The file itself, where its format is one that browsers show."""
    found = await work.do(_pictured, engine, image_id)
    media_type = MEDIA_TYPES.get(found.format)
    if media_type is None:
        raise HTTPException(
            HTTPStatus.NOT_ACCEPTABLE, f"{found.format} is not a format that browsers show; take the thumbnail"
        )
    return await _cached(request, found, lambda: _bytes(engine, found), media_type, work)


@router.get("/categories", response_model=models.Categories, summary="Categories, labels and backbones")
async def categories(engine: EngineHere, work: WorkHere) -> Any:
    """What can be asked for."""

    def count() -> list[dict[str, Any]]:
        with engine.store.reading() as catalog:
            queries = {row.category: row.images for row in catalog.count_images() if row.role == Role.QUERY}
            names = sorted({*queries, *catalog.categories(Role.SUPPORT)})
            return [
                {
                    "category": name,
                    "labels": [
                        {"label": label, "images": number} for label, number in catalog.support_labels(name).items()
                    ],
                    "queries": queries.get(name, 0),
                }
                for name in names
            ]

    return {
        "categories": await work.do(count),
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
async def map_(engine: EngineHere, work: SlowWorkHere, asked: Annotated[models.MapParameters, Query()]) -> Any:
    """Its images as a backbone sees them, projected by PCA, or by UMAP where it is installed."""

    def projected() -> Projection:
        reference = engine.reference(QueryOptions(backbone=asked.backbone, category=asked.category))
        with engine.store.reading() as catalog:
            return project(catalog, reference.row, asked.category, asked.method)

    made = await work.do(projected)
    points = [
        {
            **{name: getattr(image, name) for name in ("id", "category", "label", "shot", "role")},
            **{"x": round(float(x), 4), "y": round(float(y), 4)},
        }
        for image, (x, y) in zip(made.images, made.places, strict=True)
    ]
    facts = {"method": asked.method, "methods": methods(), "total": made.total, "explained": made.explained}
    return facts | {"points": points}


@router.get("/report", response_class=HTMLResponse, summary="The evaluation as a page")
async def report(engine: EngineHere, work: SlowWorkHere) -> Response:
    """What `nearshot evaluate --output` writes as report.html, of all that is served."""
    page = await work.do(engine.report)
    return HTMLResponse(page, headers={"Content-Security-Policy": REPORT_POLICY})


@router.get("/status", response_model=dict[str, Any], summary="What is indexed, lacking, stale or failed")
async def status(engine: EngineHere, work: SlowWorkHere) -> Any:
    """The object of `nearshot status --json`."""
    return (await work.do(survey, engine.store)).as_json()


@router.post("/index", response_model=models.Run, status_code=202, responses=described(409))
async def index(engine: EngineHere, work: WorkHere, runs: RunsHere) -> Any:
    """Bring the index up to date with all data directories, in the background, with the backbones that are served."""

    def roots() -> list[Path]:
        with engine.store.reading() as catalog:
            return [Path(path) for root_id, path in sorted(catalog.roots().items()) if catalog.has_images(root_id)]

    return asdict(runs.start(await work.do(roots), engine.index_options(), engine.shared()))


@router.get("/runs/{run_id}", response_model=models.Run, summary="An index run", responses=described(404))
async def run(runs: RunsHere, run_id: int) -> Any:
    """How far it has come."""
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


@router.post("/label", response_model=models.Feedback, responses=described(404))
async def label(
    engine: EngineHere,
    work: WorkHere,
    image_id: Annotated[int, Form(ge=1, le=2**53, description="An indexed query.")],
    label: Annotated[str | None, Form(min_length=1, max_length=200, description="What it shows.")] = None,
    undo_it: Annotated[bool, Form(alias="undo", description="Take it back.")] = False,
) -> Any:
    """Say what an indexed query shows: a copy of it becomes a shot."""
    if (label is None) != undo_it:
        raise UsageError("give a label, or undo to take back what was said")

    def say() -> dict[str, Any]:
        found = _pictured(engine, image_id).image
        if label is None:
            said = undo(engine.store, Path(found.path), Action.LABEL, found.category)
            return _feedback(image_id, Action.LABEL, found.category, said.label, said.shot_path, undone=True)
        shot = add_shot(engine.store, Path(found.path), label, found.category)
        return _feedback(image_id, Action.LABEL, found.category, label, str(shot))

    said = await work.do(say)
    engine.outdate()
    return said


@router.post("/reject", response_model=models.Feedback, responses=described(404))
async def reject_image(
    engine: EngineHere,
    work: WorkHere,
    image_id: Annotated[int, Form(ge=1, le=2**53, description="An indexed query.")],
    undo_it: Annotated[bool, Form(alias="undo", description="Take it back.")] = False,
) -> Any:
    """Say that an indexed query shows no label of its category: what is nearer to it than to any shot is unknown."""

    def say() -> dict[str, Any]:
        found = _pictured(engine, image_id).image
        if undo_it:
            undo(engine.store, Path(found.path), Action.REJECT, found.category)
        else:
            reject(engine.store, Path(found.path), found.category)
        return _feedback(image_id, Action.REJECT, found.category, None, None, undone=undo_it)

    said = await work.do(say)
    engine.outdate()
    return said


def _query_options(asked: models.QueryParameters) -> QueryOptions:
    return QueryOptions(
        backbone=asked.backbone,
        category=asked.category,
        top_k=asked.top_k,
        score=asked.score,
        threshold=asked.threshold,
        margin_floor=asked.margin,
        against=asked.against,
        text=asked.text,
        text_weight=asked.text_weight,
        captions=asked.caption,
    )


def _name(upload: UploadFile, place: int) -> str:
    """What to call an upload in its answer: the client's name for it, which nothing opens."""
    name = "".join(character for character in upload.filename or "" if character.isprintable())
    return name[:255] or f"image {place}"


def _pictured(engine: Engine, image_id: int) -> Pictured:
    with engine.store.reading() as catalog:
        found = pictured(catalog, image_id) if 0 < image_id < 2**63 else None
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no image {image_id}")
    return found


def _image(found: Pictured) -> dict[str, Any]:
    facts = asdict(found)
    image: dict[str, Any] = facts.pop("image")
    return image | facts


def _bytes(engine: Engine, found: Pictured) -> bytes:
    data = read_content([Path(found.image.path)], found.sha256)
    if data is None:
        raise HTTPException(HTTPStatus.GONE, "the file is gone, or has changed since it was indexed")
    return data


async def _cached(
    request: Request, found: Pictured, make: Callable[[], bytes], media_type: str, work: Work
) -> Response:
    """A response whose bytes never change: whoever has them is told so."""
    headers = {"ETag": f'"{found.sha256}"', "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(await work.do(make), media_type=media_type, headers=headers)


def _run(runs: Runs, run_id: int) -> Any:
    found = runs.get(run_id)
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no run {run_id}")
    return found


def _feedback(
    image_id: int, action: Action, category: str, label: str | None, shot: str | None, *, undone: bool = False
) -> dict[str, Any]:
    facts = {"id": image_id, "action": action.value, "category": category, "label": label, "shot": shot}
    return facts | {"undone": undone}
