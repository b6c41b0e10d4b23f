"""The memory budget: how many bytes all threads that decode may hold together; a large picture waits for its share."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from PIL import Image

from nearshot.backbones.limits import MAX_PIXELS, most_bytes
from nearshot.schema.errors import ImageError

PATIENCE_S = 60.0
"""A picture that waits longer for its share is told so: somebody holds pictures, and does not let go of them."""


class MemoryBudget:
    """A number of bytes, given out in the order of asking."""

    def __init__(self, total: int) -> None:
        self._total, self._used = total, 0
        self._fixed = False
        self._elsewhere: tuple[int, Callable[[int], AbstractContextManager[None]]] | None = None
        self._queue: deque[object] = deque()
        self._changed = threading.Condition(
            threading.RLock()
        )  # a picture may be let go of while this thread is in here

    @property
    def total(self) -> int:
        """The bytes that there are."""
        return self._total

    @property
    def used(self) -> int:
        """The bytes that are given out."""
        return self._used

    @property
    def waiting(self) -> int:
        """How many wait for a share."""
        return len(self._queue)

    def fix(self, total: int) -> None:
        """Have so many bytes from now on, whatever is asked for: what a service may take."""
        with self._changed:
            self._total, self._fixed = total, True
            self._changed.notify_all()

    def allow(self, total: int) -> None:
        """Have at least so many bytes from now on, unless the number is fixed."""
        with self._changed:
            if not self._fixed:
                self._total = max(self._total, total)
                self._changed.notify_all()

    def ask_for_more_than(self, size: int, ask: Callable[[int], AbstractContextManager[None]]) -> None:
        """Have shares of more bytes given out by somebody else, whom `ask` asks: another process, which holds the budget."""
        self._elsewhere = (size, ask)

    @contextmanager
    def share(self, size: int) -> Iterator[Share]:
        """Wait for a share of some bytes; ImageError where there are not so many, or none became free in a minute.

        It ends with the block, but for what was handed over to a picture.
        """
        if self._elsewhere is not None and size > self._elsewhere[0]:
            with self._elsewhere[1](size):
                yield Share(self, 0)
            return
        ticket = object()
        with self._changed:
            if size > self._total:
                raise ImageError(f"decoding it takes {_mib(size)}, and all together may take {_mib(self._total)}")
            self._queue.append(ticket)
            try:
                mine = self._changed.wait_for(
                    lambda: self._queue[0] is ticket and self._used + size <= self._total, timeout=PATIENCE_S
                )
                if not mine:
                    raise ImageError(f"no memory to decode it became free within {PATIENCE_S:g} s")
                self._used += size
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        share = Share(self, size)
        try:
            yield share
        finally:
            share.release()

    def give_back(self, size: int) -> None:
        """Give some bytes back."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()


class Share:
    """A share of a budget."""

    def __init__(self, budget: MemoryBudget, size: int) -> None:
        self._budget, self._size = budget, size

    def hand_over(self, picture: Image.Image) -> None:
        """Keep what a decoded picture holds until nobody has it any more, whatever becomes of the rest."""
        size = min(self._size, held_by(picture))
        self._size -= size
        weakref.finalize(picture, self._budget.give_back, size)

    def release(self) -> None:
        """Give back what was not handed over."""
        self._budget.give_back(self._size)
        self._size = 0


def held_by(picture: Image.Image) -> int:
    """The bytes that Pillow holds for an RGB picture: four a pixel."""
    return 4 * picture.width * picture.height


DECODING = MemoryBudget(most_bytes(MAX_PIXELS))
"""The budget of this process."""


def allow(max_pixels: int) -> None:
    """Let this process decode pictures of so many pixels, if it may not yet."""
    DECODING.allow(most_bytes(max_pixels))


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
