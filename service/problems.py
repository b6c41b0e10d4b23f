"""Problems: every error as application/problem+json (RFC 9457), in the words that the command line uses."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from nearshot.schema.errors import (
    AwayError,
    DecidedError,
    FullError,
    ImageError,
    NearshotError,
    OutdatedError,
    StoreBusyError,
    UnreachableError,
    UsageError,
    WeightsError,
)

STATUS: Mapping[type[NearshotError], HTTPStatus] = {
    DecidedError: HTTPStatus.CONFLICT,
    FullError: HTTPStatus.SERVICE_UNAVAILABLE,
    ImageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    OutdatedError: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreBusyError: HTTPStatus.CONFLICT,
    UnreachableError: HTTPStatus.SERVICE_UNAVAILABLE,
    AwayError: HTTPStatus.SERVICE_UNAVAILABLE,
    UsageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    WeightsError: HTTPStatus.CONFLICT,
}

DECIDED = "urn:nearshot:decided"
"""Type of the problem that an image has been decided already, so that programs can tell it from others of its status."""

FILES = frozenset({"image", "images"})
"""The fields that uploads come in."""

CLIENT_LEFT = 499
"""Status that is counted where nobody waits for the answer any more: nginx's code for it."""


class Problem(BaseModel):
    """Description of what went wrong, and what to do about it.

    Where `detail` names parameters, `template` has them as `{option}`, for clients that call them otherwise.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    template: str | None = None


def problem(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    *,
    template: str | None = None,
    kind: str = "about:blank",
) -> Response:
    """A response that says what went wrong."""
    body = Problem(type=kind, title=HTTPStatus(status).phrase, status=status, detail=detail, template=template)
    return JSONResponse(
        body.model_dump(exclude_none=True),
        status_code=status,
        media_type="application/problem+json",
        headers=dict(headers or {}),
    )


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route can answer with, for OpenAPI."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
        }
        for status in statuses
    }


NAMES = {"score": "score_by", "max_pixels": "the service's --max-pixels"}
"""Options that the API calls otherwise than the library, or has not."""


def _name(option: str) -> str:
    return NAMES.get(option, option)


def translate_errors(app: FastAPI) -> None:
    """Have the application answer every error with a problem."""

    @app.exception_handler(NearshotError)
    async def of_nearshot(_: Request, error: NearshotError) -> Response:
        kind = next((kind for kind in STATUS if isinstance(error, kind)), None)
        status = STATUS[kind] if kind else HTTPStatus.INTERNAL_SERVER_ERROR
        template = error.told(lambda name: f"{{{name}}}")
        return problem(
            status,
            error.told(_name),
            {"Retry-After": "1"} if isinstance(error, FullError) else None,
            template=template if template != str(error) else None,
            kind=DECIDED if isinstance(error, DecidedError) else "about:blank",
        )

    @app.exception_handler(TimeoutError)
    async def of_time(_: Request, __: TimeoutError) -> Response:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "timed out; retry later", {"Retry-After": "5"})

    @app.exception_handler(ClientDisconnect)
    async def of_nobody(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_LEFT)

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        status, detail = error.status_code, str(error.detail)
        if detail == HTTPStatus.NOT_FOUND.phrase:  # the router's own, which tells nothing
            detail = f"there is nothing at {request.url.path}; /openapi.json lists what there is"
        if detail.startswith("Too many files."):  # the parser's own, which reads no further
            status, detail = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "there are more images than a request may have"
        return problem(status, detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def of_request(_: Request, error: RequestValidationError) -> Response:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(dict.fromkeys(map(_told, error.errors()))))


def _told(fault: Mapping[str, Any]) -> str:
    """A fault of a request in words: where and what, and what to do where that is not plain."""
    location = fault["loc"]
    if location[0] == "body" and len(location) > 1 and location[1] in FILES:
        return f"body.{location[1]}: no file; send it as multipart/form-data, like curl -F {location[1]}=@FILE"
    return f"{'.'.join(map(str, location))}: {fault['msg']}"
