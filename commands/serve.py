"""`nearshot serve`: a store over HTTP, for programs and for people."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nearshot.backbones.limits import most_bytes
from nearshot.commands import completion
from nearshot.commands.common import (
    device_option,
    max_pixels_option,
    mirror_option,
    near,
    own_file,
    reports_errors,
    store_option,
    weights_option,
)
from nearshot.schema.errors import UsageError
from nearshot.schema.location import Location

if TYPE_CHECKING:
    from fastapi import FastAPI

    from nearshot.service.keys import Key

GRACE_S = 30

KEYS_OF_THE_STORE = Path("store")
"""What --api-keys says for those that the store has; a file of that name is ./store."""


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8077, show_default=True, help="0 takes a free one.")
@click.option(
    "--backbone",
    "backbones",
    shell_complete=completion.backbones,
    multiple=True,
    help="Load this backbone (repeatable). Default: all that are indexed.",
)
@click.option(
    "--api-keys",
    "keys_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Ask for the keys of the store (store), or of this file (`nearshot keys add`); needed for an address that others can "
    "reach.",
)
@click.option(
    "--max-upload", type=click.IntRange(1, 4096), default=64, show_default=True, help="MiB that a request may have."
)
@click.option(
    "--decode-memory",
    type=click.IntRange(1),
    help="MiB that decoding may take. Default: 3 bytes per pixel of the cap.",
)
@click.option("--queue", type=click.IntRange(1), default=256, show_default=True, help="Images that may wait at once.")
@click.option("--follow-links", is_flag=True, help="Index links that lead out of the data directories, too.")
@device_option
@weights_option
@max_pixels_option
@mirror_option
@store_option
@reports_errors
def serve_command(
    store_location: Location,
    *,
    mirror: str | None,
    host: str,
    port: int,
    backbones: tuple[str, ...],
    keys_file: Path | None,
    max_upload: int,
    decode_memory: int | None,
    queue: int,
    follow_links: bool,
    device: str,
    weights: Path | None,
    max_pixels: int,
) -> None:
    """Serve a store over HTTP: an API under /v1, and a page at /.

    Models are loaded once, before it listens. Shots that another process indexes count within a second. Ctrl-C finishes what
    was accepted.
    """
    try:
        from nearshot.service.app import create_app
        from nearshot.service.same_site import is_loopback
    except ImportError as error:
        raise UsageError(f"the service needs {error.name}: pip install 'nearshot[service]'") from error
    from nearshot.schema.store import Store
    from nearshot.service.engine import Engine
    from nearshot.service.keys import KeyFile, StoredKeys
    from nearshot.service.metrics import Metrics
    from nearshot.service.settings import Settings

    if keys_file is None and not is_loopback(host):
        raise UsageError(
            f"{host} can be reached by others: make keys with `nearshot keys add NAME`, and give --api-keys store"
        )
    file = own_file(store_location) if keys_file == KEYS_OF_THE_STORE else keys_file
    keys: Callable[[], Sequence[Key]] | None = KeyFile(file) if file else None
    settings = Settings(
        backbones=backbones,
        device=device,
        weights=weights,
        max_pixels=max_pixels,
        decode_bytes=most_bytes(max_pixels) if decode_memory is None else decode_memory << 20,
        upload_bytes=max_upload << 20,
        waiting=queue,
        follow_links=follow_links,
    )
    with Store(store_location, mirror=mirror) as store, _listen(host, port) as listening, ExitStack() as closing:
        if keys is None and keys_file is not None:
            keys = stored = StoredKeys(store)
            closing.callback(stored.close)
        engine = Engine(store, settings, Metrics(), own_thread=False)
        engine.load()
        for name, reason in engine.skipped.items():
            click.echo(f"nearshot: without {name}: {reason}", err=True)
        shown = f"[{host}]" if ":" in host else host
        click.echo(
            f"serving {near(store.shown_location)} with {', '.join(engine.served)} "
            f"at http://{shown}:{listening.getsockname()[1]}/ (Ctrl-C ends it)"
        )
        app = create_app(engine, keys)
        _run(app, listening, engine.batcher.run)
    if app.state.drawings.busy:  # a report or map that nobody will see: Python would wait for its end
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
        # What it accepts inherits this. asyncio would set it only on sockets that name their protocol, which these do not,
        # and without it the body of each answer waits 40 ms for the client to acknowledge its head.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        # create_server adds the address, which stands here already.
        reason = str(error.strerror or error).partition(" (while attempting")[0]
        raise UsageError(f"cannot listen on {host} port {port}: {reason}; take another --port") from error


def _run(app: FastAPI, listening: socket.socket, encode: Callable[[], None]) -> None:
    """Serve on a thread, and encode on this one, until a signal: then finish what was accepted."""
    import uvicorn

    from nearshot.service.app import finish
    from nearshot.service.protocol import PromptProtocol

    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings are what clients send
    config = uvicorn.Config(
        app,
        http=PromptProtocol,
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=10,
        server_header=False,
    )
    server = uvicorn.Server(config)

    def end(number: int, frame: object) -> None:
        if server.should_exit and number == signal.SIGINT:
            # Who insists gets an end, and no account of what it cut short.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        app.state.engine.ready = False
        app.state.runs.stop()  # a server that ends waits for all that it is answering, those who watch a run among them
        server.handle_exit(number, None)

    def answer() -> None:
        try:
            server.run(sockets=[listening])
        finally:
            # However it ended, by force too: writes are not cut off, and whoever encodes must not wait for ever.
            finish(app)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        serving = threading.Thread(target=answer, name="server")
        serving.start()
        encode()
        serving.join()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
