"""Single flight: what may take a minute, made on threads of its own, and given to all who ask for it meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from nearshot.schema.errors import FullError
from nearshot.service.thread_pool import ThreadPool

LOOK_SECONDS = 0.25
"""Limit on the delay before those who wait are told that the service is ending."""

T = TypeVar("T")


class SingleFlight:
    """Draws each thing once for all who ask at the same time. It belongs to one event loop.

    Who waits for more than `seconds` is told so (TimeoutError), and the drawing goes on: it is kept for as long again, for
    whoever asks next. When the service ends (`stopping`), nobody is kept waiting (FullError).
    """

    def __init__(self, threads: int, *, seconds: float, stopping: Callable[[], bool]) -> None:
        self._work, self._seconds, self._stopping = ThreadPool(threads, "drawing"), seconds, stopping
        self._begun: dict[Hashable, asyncio.Task[Any]] = {}

    @property
    def busy(self) -> bool:
        """Flag that tells whether something is being drawn."""
        return self._work.busy

    async def get(self, key: Hashable, draw: Callable[[], T]) -> T:
        """Return what was begun under this key and nobody has had yet, or else draw it now."""
        task: asyncio.Task[T] = self._begun.get(key) or self._begin(key, draw)
        until = time.monotonic() + self._seconds
        while not task.done():
            if self._stopping():
                raise FullError("the service is shutting down")
            if time.monotonic() > until:
                raise TimeoutError
            await asyncio.wait({task}, timeout=min(LOOK_SECONDS, self._seconds))
        self._forget(key, task)
        return task.result()

    def close(self) -> None:
        """Begin nothing more, and wait for nothing: drawings change nothing."""
        self._work.close(wait=False)

    def _begin(self, key: Hashable, draw: Callable[[], T]) -> asyncio.Task[T]:
        task = self._begun[key] = asyncio.create_task(self._work.do(draw))
        task.add_done_callback(lambda _: self._keep(key, task))
        return task

    def _keep(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # or asyncio would say that nobody had it
        asyncio.get_running_loop().call_later(self._seconds, self._forget, key, task)

    def _forget(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        if self._begun.get(key) is task:
            del self._begun[key]
