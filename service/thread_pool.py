"""Thread pool: what takes a core or a disk, done on threads while the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from starlette.requests import ClientDisconnect, Request

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool:
    """A pool of threads, few on purpose: more images decoded at once than there are cores would only take more memory."""

    def __init__(self, threads: int, name: str, *, seconds: float | None = None) -> None:
        """`seconds` is how long one thing may take: whoever waits is told (TimeoutError), and it is begun no more."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._seconds = seconds
        self._unfinished: set[Future[Any]] = set()

    @property
    def busy(self) -> bool:
        """Flag that tells whether a thread is at work, waited for or not."""
        return any(future.running() for future in tuple(self._unfinished))

    async def do(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Call a function on a thread, and wait for what it gives or raises."""
        future = self._pool.submit(function, *arguments, **options)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        async with asyncio.timeout(self._seconds):
            return await asyncio.wrap_future(future)

    def close(self, *, wait: bool = True) -> None:
        """End, once what was begun is done, or at once (without `wait`); what was not begun is dropped."""
        self._pool.shutdown(wait=wait, cancel_futures=True)


async def while_connected(request: Request, parts: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do the parts of a request, whose body has been read, at the same time, for as long as its client is there.

    What the first part raises is raised, ClientDisconnect where the client leaves; the other parts are cancelled.
    """
    try:
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(_leave(request))
            tasks = [group.create_task(part) for part in parts]
            await asyncio.wait(tasks)
            leaving.cancel()
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def _leave(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect
