"""Queries: images to recognise, and words to find images by."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, BinaryIO, NamedTuple

import numpy as np
from fastapi import APIRouter, File, Query, Request, UploadFile
from fastapi.responses import Response
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from nearshot.retriever.answer import Answer, Unreadable
from nearshot.retriever.context import Context
from nearshot.retriever.embedding import mix, unit
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.parts import Parts, PreparedPart
from nearshot.retriever.search import SearchOptions
from nearshot.retriever.searcher import ATTEMPTS, Searcher
from nearshot.schema.errors import ImageError, OutdatedError, UsageError
from nearshot.schema.image_filter import ImageFilter
from nearshot.service import models
from nearshot.service.api.dependencies import EngineHere, WorkHere
from nearshot.service.engine import Engine
from nearshot.service.problems import described
from nearshot.service.thread_pool import ThreadPool, while_connected

router = APIRouter(prefix="/v1")


@router.post(
    "/query",
    response_model=models.Answers,
    response_model_exclude_unset=True,
    responses=described(409),
    summary="Recognise images, or say Unknown",
)
async def query(
    request: Request,
    engine: EngineHere,
    work: WorkHere,
    asked: Annotated[models.QueryParameters, Query()],
    images: Annotated[list[UploadFile], File(description="One image or more, of any format.")],
) -> Any:
    """One answer per image, or per part of it, as `nearshot query --json` gives it. Images that come at the same time are
    encoded together.

    An image that cannot be read has its reason in its place; where none can, that is a problem (422).
    """
    if len(images) > engine.settings.upload_images:
        raise HTTPException(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{len(images)} images are more than {engine.settings.upload_images}"
        )
    options = _query_options(asked)
    with engine.batcher.admission(len(images)):
        async with asyncio.timeout(engine.settings.seconds):
            searcher = await work.do(engine.searcher, options)
            uploads = [(_name(upload, number), upload.file) for number, upload in enumerate(images, start=1)]
            parts = await work.do(engine.parts, options)
            words = None if options.text is None else await work.do(engine.words, searcher.row, options.text)
            asking = _Asking(engine, work, searcher, options, parts, words)
            searcher, answered = await _answered(request, asking, uploads)
            answers = [answer for several in answered for answer in several]
    if all(isinstance(answer, Unreadable) for answer in answers):
        raise ImageError(
            "; ".join(f"{answer.path}: {answer.reason}" for answer in answers if isinstance(answer, Unreadable))
        )
    return {
        "answers": [answer.as_json() for answer in answers],
        "revision": searcher.revision,
        "score_reason": searcher.chosen.reason,
        "policies": {category: searcher.origin(category, options) for category in searcher.supported},
        "stale": searcher.stale,
        "lapsed": {lapse.category: lapse.reason for lapse in searcher.lapses},
        "lacking": searcher.lacking,
        "recall": searcher.recall(options),
    }


@router.post(
    "/explain",
    response_class=Response,
    responses=described(409)
    | {200: {"content": {"image/png": {}}, "description": "Both pictures, warm where they make the score."}},
    summary="Draw what made an image's score",
)
async def explain(
    request: Request,
    engine: EngineHere,
    work: WorkHere,
    asked: Annotated[models.QueryParameters, Query()],
    image: Annotated[UploadFile, File(description="One image, of any format.")],
) -> Response:
    """What made the score of the image, or of a part of it: the picture that `nearshot query --explain` draws."""
    options = _query_options(asked)
    if options.objects or len(options.box) > 1:
        raise UsageError("one answer is explained: ask about one part of the image")
    with engine.batcher.admission(1):
        async with asyncio.timeout(engine.settings.seconds):
            searcher = await work.do(engine.searcher, options)
            parts = await work.do(engine.parts, options)
            words = None if options.text is None else await work.do(engine.words, searcher.row, options.text)
            asking = _Asking(engine, work, searcher, options, parts, words)
            searcher, [[answer]] = await _answered(request, asking, [(_name(image, 1), image.file)])
            if isinstance(answer, Unreadable):
                raise ImageError(f"{answer.path}: {answer.reason}")
            png = await work.do(engine.explain, searcher, answer, image.file)
    return Response(png, media_type="image/png")


class _Asking(NamedTuple):
    """What all images of a request are asked with."""

    engine: Engine
    work: ThreadPool
    searcher: Searcher
    options: QueryOptions
    parts: Parts
    words: Any


async def _answered(
    request: Request, asking: _Asking, uploads: Sequence[tuple[str, BinaryIO]]
) -> tuple[Searcher, list[list[Answer | Unreadable]]]:
    """The answers to all images of a request, and whose they are: of one state of the store, a newer one where it changes."""
    attempt = 0
    while True:
        try:
            if attempt:
                asking = asking._replace(searcher=await asking.work.do(asking.engine.newest_searcher, asking.options))
                for _, file in uploads:
                    file.seek(0)
            return asking.searcher, await while_connected(request, [_answer(asking, *upload) for upload in uploads])
        except OutdatedError:
            attempt += 1
            if attempt == ATTEMPTS:
                raise


async def _answer(asking: _Asking, name: str, upload: BinaryIO) -> list[Answer | Unreadable]:
    """An image's answers, one for each of its parts."""
    engine = asking.engine
    backbone = engine.backbone(asking.searcher)
    try:
        with engine.batcher.arrival(backbone):
            ready = await asking.work.do(engine.prepare, upload, backbone, asking.parts)
            # Not on that thread: it would go on for a client that has left.
            encoding = [engine.batcher.submit(backbone, part.prepared) for part in ready]
    except ImageError as error:
        return [Unreadable(name, str(error))]
    with engine.metrics.stage("encode"):
        encoded = await asyncio.gather(*map(asyncio.wrap_future, encoding), return_exceptions=True)
    return [await _answer_part(asking, name, part, vector) for part, vector in zip(ready, encoded, strict=True)]


async def _answer_part(
    asking: _Asking, name: str, part: PreparedPart, encoded: NDArray[np.float32] | BaseException
) -> Answer | Unreadable:
    engine, searcher, options = asking.engine, asking.searcher, asking.options
    try:
        if isinstance(encoded, BaseException):
            raise encoded
        vector = unit(engine.backbone(searcher), encoded)
        if asking.words is not None:
            vector = mix(vector, asking.words, options.text_weight)
    except ImageError as error:
        return Unreadable(name, str(error))

    def decide() -> Answer:
        with engine.metrics.stage("search"):
            [hits] = searcher.search(vector, options)
        with engine.metrics.stage("decide"):
            answer = searcher.decide(name, vector, hits, options)
        engine.watch(searcher, answer, part.digest)
        return answer if part.box is None else replace(answer, box=part.box)

    answer = await asking.work.do(decide)
    engine.metrics.verdicts.labels(answer.backbone, answer.decision.verdict.value).inc()
    return answer


@router.get("/context", response_model=Context, summary="What queries are compared with")
async def context(engine: EngineHere, work: WorkHere, asked: Annotated[models.QueryParameters, Query()]) -> Any:
    """The backbone, labels and policies that queries with these options would have."""
    options = _query_options(asked)
    return (await work.do(engine.searcher, options)).context(options)


@router.get("/search", response_model=models.SearchResults, summary="Find images by words")
async def search(engine: EngineHere, work: WorkHere, asked: Annotated[models.SearchParameters, Query()]) -> Any:
    """By captions, by what the text encoder of a served backbone sees, or by both, as `nearshot search --json` gives it."""
    wanted = ImageFilter(category=asked.category, label=asked.label, role=asked.role)
    options = SearchOptions(mode=asked.mode, wanted=wanted, limit=asked.limit, false=asked.false, exact=asked.exact)
    results = await work.do(engine.search, asked.q, options)
    return {
        "mode": results.mode,
        "backbone": results.backbone,
        "missing": list(results.missing),
        "stop": results.stop.as_json() if results.stop else None,
        "recall": results.recall,
        "found": [hit.as_json(results.mode) for hit in results.found],
    }


def _query_options(asked: models.QueryParameters) -> QueryOptions:
    return QueryOptions(
        backbone=asked.backbone,
        category=asked.category,
        top_k=asked.top_k,
        score=asked.score_by,
        threshold=asked.threshold,
        margin_floor=asked.margin_floor,
        against=asked.against,
        text=asked.text,
        text_weight=asked.text_weight,
        captions=asked.caption,
        coverage=asked.coverage,
        false=asked.false,
        exact=asked.exact,
        box=tuple(_rectangle(box) for box in asked.boxes),
        find=asked.find,
        objects=asked.objects,
        detector=asked.detector,
    )


def _rectangle(box: str) -> tuple[int, int, int, int]:
    x, y, width, height = map(int, box.split(","))
    return x, y, width, height


def _name(upload: UploadFile, number: int) -> str:
    """Choose the name of an upload in its answer: the client's name for it, which nothing opens."""
    name = "".join(character for character in upload.filename or "" if character.isprintable())
    return name[:255] or f"image {number}"
