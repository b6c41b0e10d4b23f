"""Work: what takes a core or a disk, done on threads while the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Work:
    """A pool of threads, no more than there are cores for: more images decoded at once would only take more memory."""

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def do(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Call a function on a thread, and wait for what it gives or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*arguments, **options))

    def close(self) -> None:
        """Wait for what was begun; what was not is dropped."""
        self._pool.shutdown(cancel_futures=True)
