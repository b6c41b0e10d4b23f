"""A Ray cluster, spoken with through a process of its own (`indexer.ray_driver`), and looked at meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from nearshot.indexer.load_processes import import_path
from nearshot.indexer.ray_driver import DONE, Resources, Work
from nearshot.indexer.ray_worker import Refused, Setup
from nearshot.schema.errors import IndexingError, UsageError

DRIVER = "from nearshot.indexer.ray_driver import main; main()"
"""Imported, not run as a script: what it sends is to be of the classes that are known here."""

LOOK_S = 2.0
"""Seconds without an answer after which the head is looked at: Ray itself says nothing for a minute where that is dead."""

LOOKS = 5
"""Looks in a row that nobody answers after which the head counts as dead."""

CONNECT_S = 60.0
"""Seconds that connecting may take."""

END_S = 5.0
"""Seconds that the process has to take its leave of the cluster."""


class RayCluster:
    """A cluster at an address, to be used as a context: leaving it ends all that goes on there for this run."""

    def __init__(self, address: str) -> None:
        """Connect; UsageError where Ray is not installed, or not there."""
        if not (find_spec("ray") and find_spec("pandas")):
            raise UsageError("--ray needs Ray: pip install 'nearshot[ray]'")
        self._address = address
        host, _, port = address.rpartition(":")
        if port.isdigit() and not _is_reached((host.strip("[]"), int(port))):
            raise UsageError(f"there is no Ray to be reached at {address}: nobody listens there")
        here, there = socket.socketpair()
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", DRIVER, str(there.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # where Ray writes much, of which it says here what matters
                pass_fds=[there.fileno()],
                env=os.environ | {"PYTHONPATH": import_path()},
                process_group=0,  # Ctrl-C is for whoever asks
            )
        self._connection: Connection = Connection(here.detach())
        try:
            self._connection.send(address)
            in_time = self._connection.poll(CONNECT_S)
            said = self._connection.recv() if in_time else Refused(f"it did not answer within {CONNECT_S:.0f} s")
        except (EOFError, OSError):
            said = Refused("the process that speaks with it has ended")
        if isinstance(said, Refused):
            self._end()
            raise UsageError(f"there is no Ray to be reached at {address}: {said.reason}")
        self.resources: Resources = said

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
        """Send rows through actors (`RayWorker`): the number of each and its answer, in any order.

        IndexingError where Ray gives up, or is gone.
        """
        self._connection.send(Work(setup, tuple(rows), actors))
        while (said := self._next()) != DONE:
            if isinstance(said, Refused):
                raise self._gave_up(said.reason)
            yield said

    def _next(self) -> Any:
        silent = 0
        while not self._connection.poll(LOOK_S):
            silent = 0 if _is_reached(self.resources.head) else silent + 1
            if silent == LOOKS:
                raise self._gave_up("the head answers no more")
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            raise self._gave_up("the process that speaks with it has ended") from None

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
    except OSError:
        return False
    return True
