"""Images: those that are indexed, their files, and new ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from nearshot.backbones.thumbnail import thumbnail
from nearshot.schema.files import read_content
from nearshot.schema.gallery import Pictured, list_pictured, pictured
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.paths import path_of
from nearshot.service import models
from nearshot.service.api.dependencies import EngineHere, SlowWorkHere, WorkHere
from nearshot.service.engine import Engine
from nearshot.service.problems import described
from nearshot.service.thread_pool import ThreadPool

THUMBNAIL_SIDE = 256
MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif", "AVIF": "image/avif"}
"""The formats that browsers show and that run nothing. Of others, and of what may hold scripts, the thumbnail is there."""

router = APIRouter(prefix="/v1")


@router.get("/images", response_model=models.Images, summary="List indexed images")
async def images(engine: EngineHere, work: WorkHere, asked: Annotated[models.ImagesParameters, Query()]) -> Any:
    """A page of images, oldest first."""

    def listed() -> list[Pictured]:
        wanted = ImageFilter(category=asked.category, label=asked.label, role=asked.role)
        with engine.store.reading() as catalog:
            return list_pictured(catalog, wanted, after=asked.after, limit=asked.limit + 1)

    indexed_images = await work.do(listed)
    page = indexed_images[: asked.limit]
    return {
        "images": [_image(indexed_image) for indexed_image in page],
        "next": page[-1].image.id if len(indexed_images) > len(page) else None,
    }


@router.post(
    "/images",
    response_model=models.Image,
    status_code=201,
    summary="Add a query image",
    responses=described(409) | {200: {"model": models.Image, "description": "It was there already."}},
)
async def add_image(
    response: Response,
    engine: EngineHere,
    work: SlowWorkHere,
    image: Annotated[UploadFile, File(description="An image.")],
    category: Annotated[str, Form(min_length=1, max_length=255, description="The category that it belongs to.")],
) -> Any:
    """Put an image among a category's queries in its data directory, and index it, so that it can be labelled or rejected."""
    added = await work.do(lambda: engine.add(image.file.read(), category))
    engine.outdate()
    if not added.is_new:
        response.status_code = HTTPStatus.OK.value
    return _image(await work.do(find_image, engine, added.image_id))


@router.get("/images/{image_id}", response_model=models.Image, summary="An indexed image", responses=described(404))
async def image(engine: EngineHere, work: WorkHere, image_id: int) -> Any:
    """Return what is known of the image."""
    return _image(await work.do(find_image, engine, image_id))


@router.delete("/images/{image_id}", status_code=204, summary="Remove an added image", responses=described(404))
async def remove_image(engine: EngineHere, work: SlowWorkHere, image_id: int) -> None:
    """Take an image that was added out of the index and its data directory, unless it was labelled or rejected."""

    def remove() -> None:
        find_image(engine, image_id)
        engine.remove(image_id)

    await work.do(remove)
    engine.outdate()


@router.get("/images/{image_id}/thumbnail", response_class=Response, responses=described(404, 410))
async def image_thumbnail(request: Request, engine: EngineHere, work: WorkHere, image_id: int) -> Response:
    """A JPEG of at most 256 x 256 pixels."""
    indexed_image = await work.do(find_image, engine, image_id)
    return await _cached(
        request,
        indexed_image,
        lambda: thumbnail(_bytes(engine, indexed_image), THUMBNAIL_SIDE, max_pixels=engine.settings.max_pixels),
        "image/jpeg",
        work,
    )


@router.get("/images/{image_id}/original", response_class=Response, responses=described(404, 406, 410))
async def image_original(request: Request, engine: EngineHere, work: WorkHere, image_id: int) -> Response:
    """The file itself, where its format is one that browsers show."""
    indexed_image = await work.do(find_image, engine, image_id)
    media_type = MEDIA_TYPES.get(indexed_image.format)
    if media_type is None:
        raise HTTPException(
            HTTPStatus.NOT_ACCEPTABLE, f"{indexed_image.format} is not a format that browsers show; take the thumbnail"
        )
    return await _cached(request, indexed_image, lambda: _bytes(engine, indexed_image), media_type, work)


def find_image(engine: Engine, image_id: int) -> Pictured:
    """An indexed image by its id; 404 where there is none."""
    with engine.store.reading() as catalog:
        indexed_image = pictured(catalog, image_id) if 0 < image_id < 2**63 else None
    if indexed_image is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no image {image_id}")
    return indexed_image


def _image(indexed_image: Pictured) -> dict[str, Any]:
    fields = asdict(indexed_image)
    image: dict[str, Any] = fields.pop("image")
    return image | fields


def _bytes(engine: Engine, indexed_image: Pictured) -> bytes:
    data = read_content([path_of(indexed_image.image.path)], indexed_image.sha256, tells=True)
    if data is None:
        raise HTTPException(HTTPStatus.GONE, "the file is gone, or has changed since it was indexed")
    return data


async def _cached(
    request: Request, indexed_image: Pictured, make: Callable[[], bytes], media_type: str, work: ThreadPool
) -> Response:
    """A response whose bytes never change: whoever has them is told so."""
    headers = {"ETag": f'"{indexed_image.sha256}"', "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(await work.do(make), media_type=media_type, headers=headers)
