"""The API: what can be asked and said over HTTP, under /v1."""

from fastapi import APIRouter

from nearshot.service.api import feedback, images, overview, policies, queries, runs
from nearshot.service.problems import described

router = APIRouter(responses=described(400, 401, 403, 405, 408, 413, 421, 422, 503))
for part in (queries, images, overview, policies, runs, feedback):
    router.include_router(part.router)
