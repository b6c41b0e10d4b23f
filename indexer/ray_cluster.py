"""A Ray cluster, spoken with through a process of its own (`indexer.ray_driver`), and looked at meanwhile."""

from __future__ import annotations

import logging
import math
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from types import TracebackType
from typing import Any

from nearshot.indexer.load_processes import start_python
from nearshot.indexer.ray_driver import DONE, Resources, Work
from nearshot.indexer.ray_worker import Refused, Setup
from nearshot.schema.errors import IndexingError, UsageError, option

log = logging.getLogger(__name__)

DRIVER = "from nearshot.indexer.ray_driver import main; main()"
"""Imported, not run as a script: what it sends is to be of the classes that are known here."""

ADDRESS = re.compile(r"(\[[^\]\s]+\]|[^/:\s]+):(\d{1,5})", re.ASCII)
"""A host and a port. Ray knows other addresses: of servers for clients, and for a cluster of one's own, which would stay."""

TICK_S = 0.2
"""Seconds between two looks at whether somebody wishes to stop."""

LOOK_S = 2.0
"""Seconds without an answer after which the head is looked at: Ray itself says nothing for a minute where that is dead."""

LOOKS = 5
"""Looks in a row that nobody answers after which the head counts as dead."""

PATIENCE_S = 30.0
"""Seconds without a first answer after which it is said that nothing happens."""

CONNECT_S = 60.0
"""Seconds that connecting may take."""

END_S = 5.0
"""Seconds that the process has to take its leave of the cluster."""


class RayCluster:
    """A cluster at an address, to be used as a context: leaving it ends all that goes on there for this run."""

    def __init__(self, address: str, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Connect; UsageError where Ray is not installed, or not there. Where somebody wishes to stop, it `has_stopped`."""
        if not (find_spec("ray") and find_spec("pandas")):
            raise UsageError(f"{option('ray')} needs Ray: pip install 'nearshot[ray]'")
        listening = ADDRESS.fullmatch(address)
        if not listening and address != "auto":
            raise UsageError(
                f"{option('ray')} wants HOST:PORT, where the head of a cluster listens, or auto; not {address!r}"
            )
        if listening and not _is_reached((listening[1].strip("[]"), int(listening[2]))):
            raise UsageError(f"there is no Ray to be reached at {address}: nobody listens there")
        self._address, self._should_stop, self.has_stopped = address, should_stop, False
        self.resources, self._began = Resources(0, (), ("", 0)), math.inf
        # Ray writes much, of which it says here what matters.
        self._process, self._connection = start_python(DRIVER, errors=subprocess.DEVNULL)
        try:
            self._connect()
        except BaseException:
            self._end()
            raise

    def _connect(self) -> None:
        try:
            self._connection.send(self._address)
            said = self._wait(CONNECT_S)
            if said is None and not self.has_stopped:
                said = Refused(f"it did not answer within {CONNECT_S:.0f} s")
        except (EOFError, OSError):
            said = Refused("the process that speaks with it has ended")
        if isinstance(said, Refused):
            raise UsageError(
                f"there is no Ray to be reached at {self._address}: {said.reason} "
                "(is RAY_AUTH_TOKEN, if any, the cluster's?)"
            )
        self.resources = said or self.resources

    def _wait(self, seconds: float) -> Any:
        """What is said within some seconds; None where nothing is, or somebody wishes to stop before."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.has_stopped = self._should_stop()
            if self.has_stopped:
                return None
            if self._connection.poll(TICK_S):
                return self._connection.recv()
        return None

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def actors(self, threads: int) -> int:
        """How many actors of some threads keep it busy; on each GPU two, one of which loads while the other encodes."""
        return 2 * self.resources.gpus or sum(max(1, cores // threads) for cores in self.resources.cores)

    def through(self, setup: Setup, rows: Sequence[Mapping[str, Any]], actors: int) -> Iterator[tuple[int, bytes]]:
        """Send rows through actors (`RayWorker`): the number of each and its answer, in any order, until somebody stops it.

        IndexingError where Ray gives up, or is gone; UsageError where the cluster has nothing to do it with.
        """
        lacks = "cores" if not any(self.resources.cores) else "GPU"
        if lacks == "cores" or (setup.device.startswith("cuda") and not self.resources.gpus):
            raise UsageError(f"the Ray cluster at {self._address} has no {lacks}")
        self._connection.send(Work(setup, tuple(rows), actors))
        self._began = time.monotonic()
        while (said := self._next()) not in (None, DONE):
            if isinstance(said, Refused):
                raise self._gave_up(said.reason)
            self._began = math.inf
            yield said

    def _next(self) -> Any:
        """What is said next; None where somebody wishes to stop."""
        silent = 0
        while True:
            try:
                said = self._wait(LOOK_S)
            except (EOFError, OSError):
                raise self._gave_up("the process that speaks with it has ended") from None
            if said is not None or self.has_stopped:
                return said
            silent = 0 if _is_reached(self.resources.head) else silent + 1
            if silent == LOOKS:
                raise self._gave_up("the head answers no more")
            if time.monotonic() > self._began + PATIENCE_S:
                self._began = math.inf
                log.warning("Ray at %s has begun nothing for %d s: is the cluster busy?", self._address, PATIENCE_S)

    def _gave_up(self, reason: str) -> IndexingError:
        return IndexingError(f"Ray at {self._address}: {reason}; what was committed stays: run it again")

    def _end(self) -> None:
        self._connection.close()
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _is_reached(listening: tuple[str, int]) -> bool:
    """Tell whether somebody listens at a host and port."""
    try:
        socket.create_connection(listening, LOOK_S).close()
    except (OSError, UnicodeError, OverflowError):
        return False
    return True
