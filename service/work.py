"""Work: what takes a core or a disk, done on threads while the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from starlette.requests import ClientDisconnect, Request

P = ParamSpec("P")
T = TypeVar("T")


class Work:
    """A pool of threads, few on purpose: more images decoded at once than there are cores would only take more memory."""

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def do(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Call a function on a thread, and wait for what it gives or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*arguments, **options))

    def close(self) -> None:
        """Wait for what was begun; what was not is dropped."""
        self._pool.shutdown(cancel_futures=True)


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
