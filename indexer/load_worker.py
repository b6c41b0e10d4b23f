"""A process that loads files for another one: files in, what was read of them out. Started by `indexer.load_processes`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from nearshot.backbones.memory_budget import DECODING, allow
from nearshot.backbones.preparation import prepare_with
from nearshot.backbones.protocol import Preparer
from nearshot.indexer.load import Loader, Source, lacking
from nearshot.schema.errors import ImageError
from nearshot.schema.location import Location
from nearshot.schema.store import Store

OWN_BYTES = 64 << 20
"""What a process decodes without asking: of a larger picture's bytes it asks a share of the one budget of all."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a process loads for: preparations and ids of backbones by name, the store that knows what they have dealt with."""

    preparers: Mapping[str, Preparer]
    backbone_ids: Mapping[str, int]
    store: Location
    max_pixels: int


READY = "ready"
"""What a process says first."""

RETURNED = "returned"
"""What a process says of a share that it needs no more."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A share of the memory budget that is asked for, in bytes. The answer is None, or why there is none."""

    size: int


def main() -> None:
    """Load what is asked for until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks decides when to stop
    connection: Connection = Connection(int(sys.argv[1]))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # it has all that it wanted, or is no more
        serve(connection, connection.recv())


def serve(connection: Connection, setup: Setup) -> None:
    """Answer lists of files by what `Loader.load_all` makes of them."""
    _keep_to_one_core()
    allow(setup.max_pixels)

    @contextmanager
    def ask(size: int) -> Iterator[None]:
        connection.send(Wanted(size))
        if refusal := connection.recv():
            raise ImageError(refusal)
        try:
            yield
        finally:
            connection.send(RETURNED)

    DECODING.ask_for_more_than(OWN_BYTES, ask)
    with Store(setup.store) as store:
        connection.send(READY)
        loader = Loader(
            lambda name, picture: prepare_with(name, setup.preparers[name], picture),
            lacking(store, setup.backbone_ids),
            setup.max_pixels,
        )
        while True:
            files: list[Source] = connection.recv()
            connection.send(loader.load_all(files))


def _keep_to_one_core() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
