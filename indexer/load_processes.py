"""Loading in processes: one interpreter per core, where threads of one would wait for each other."""

from __future__ import annotations

import os
import pickle
import queue
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

from nearshot import schema
from nearshot.backbones.memory_budget import DECODING
from nearshot.indexer.load import Loaded, Skipped, Source
from nearshot.indexer.load_worker import READY, Setup, Wanted
from nearshot.schema.errors import ImageError, IndexingError, option
from nearshot.schema.images import NO_FILE

WORKER = "from nearshot.indexer.load_worker import main; main()"
"""Imported, not run as a script: what it sends is to be of the classes that are known here."""

ENDED = "the process that decoded it ended, twice"


class LoadProcesses:
    """Processes that load files, `count` at once; to be used as a context. Any number of threads may ask.

    They end when they are asked for nothing more, whatever becomes of this process. One that dies is replaced, and what it
    was at is tried once more, file by file.
    """

    def __init__(self, setup: Setup, count: int) -> None:
        """Take what they load for; raises what pickle does where it cannot be handed to another process."""
        self._setup = pickle.dumps(setup)
        self._every = [_Process(self._setup) for _ in range(count)]
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for process in self._every:
            self._idle.put(process)

    def load(self, files: Sequence[Source]) -> list[Loaded | Skipped]:
        """Load files as `Loader.load` does, waiting for a process that is idle."""
        process = self._idle.get()
        try:
            results = process.load(files)
            if results is not None:
                return results
            process.restart()
            return [result for file in files for result in self._alone(process, file)]
        finally:
            self._idle.put(process)

    def _alone(self, process: _Process, file: Source) -> list[Loaded | Skipped]:
        results = process.load([file])
        if results is None:
            process.restart()
            return [Skipped(NO_FILE, ENDED)]
        return results

    def __enter__(self) -> LoadProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._every:
            process.end()


class _Process:
    """One process and the way to it."""

    def __init__(self, setup: bytes) -> None:
        self._setup = setup
        self.start()

    def start(self) -> None:
        """Start it; what it loads for is sent along."""
        self._is_ready = False
        self._process, self._connection = start_python(WORKER, OMP_NUM_THREADS="1")
        with suppress(OSError):  # one that has died already is told of by the first question
            self._connection.send_bytes(self._setup)

    def load(self, files: Sequence[Source]) -> list[Loaded | Skipped] | None:
        """Ask it for some files; None where it dies of it. IndexingError where it has not even started."""
        if not self._is_ready:
            try:
                self._is_ready = self._connection.recv() == READY
            except (EOFError, OSError) as error:
                raise IndexingError(
                    f"processes that read and decode cannot be started here; run again with {option('loading')} threads"
                ) from error
        try:
            self._connection.send(list(files))
            while isinstance(answer := self._connection.recv(), Wanted):
                self._lend(answer.size)
        except (EOFError, OSError):
            return None
        results: list[Loaded | Skipped] = answer
        return results

    def _lend(self, size: int) -> None:
        """Give it a share of the memory budget until it has decoded, or say why there is none."""
        try:
            with DECODING.share(size):
                self._connection.send(None)
                self._connection.recv()
        except ImageError as error:
            self._connection.send(str(error))

    def restart(self) -> None:
        """Put another one in its place."""
        self.end()
        self.start()

    def end(self) -> None:
        """Let it end."""
        self._connection.close()
        self._process.kill()
        self._process.wait()


def start_python(
    code: str, *, errors: int | None = None, **environment: str
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a Python that runs some code of this very nearshot, and a connection to it, whose number is its first argument.

    It has no input, and Ctrl-C is for whoever asks. `errors` is where its standard output and error go.
    """
    here, there = socket.socketpair()
    with there:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, str(there.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=[there.fileno()],
            env=os.environ | {"PYTHONPATH": import_path()} | environment,
            process_group=0,
        )
    return process, Connection(here.detach())


def import_path() -> str:
    """Where this very nearshot is imported from, before whatever else is."""
    return os.pathsep.join([str(Path(schema.__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
