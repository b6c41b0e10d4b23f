"""A Milvus for the tests: the standalone server that a wheel bundles, in a network of its own.

It listens on all addresses of its machine, so it gets a network that has the loopback alone (`unshare`, which needs no
privileges where users may have namespaces); what comes to a port of this machine is handed on to it through a socket.

    python -m tests.milvus DIRECTORY      serves one until it is interrupted, and prints its address
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil

INSIDE = 19530
SOCKET = "handed-on"

TICK = ("timeTickInterval: 200", "timeTickInterval: 20")
"""Milliseconds that a question about all that was written waits for, a hundred times in the tests: its own, and shorter."""


@cache
def problem() -> str | None:
    """Why there can be none on this machine, if so."""
    from importlib.util import find_spec

    if find_spec("milvus") is None:
        return "the wheel that bundles Milvus is not installed"
    try:
        done = subprocess.run([*_unshared(), "true"], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"unshare cannot be run: {error.strerror}"
    return f"no network of its own: {done.stderr.strip()}" if done.returncode else None


def _unshared() -> list[str]:
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]


class Server:
    """A server that runs; what it holds lies in its directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port: int = listening.getsockname()[1]
            self._handing = self._run("--outside", str(listening.fileno()), passing=listening.fileno())
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """Its address, as a mirror is given."""
        return f"milvus://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        (self.directory / SOCKET).unlink(missing_ok=True)
        self._process = self._run("--inside", before=_unshared())
        end = time.monotonic() + 120
        while not (self.directory / SOCKET).exists():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"Milvus: {(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def _run(self, *arguments: str, before: Sequence[str] = (), passing: int | None = None) -> subprocess.Popen[bytes]:
        command = [*before, sys.executable, "-m", "tests.milvus", *arguments, str(self.directory)]
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[1],
                start_new_session=True,
                pass_fds=[] if passing is None else [passing],
            )

    def memory(self) -> int:
        """The bytes that it has in memory, all its processes together."""
        processes = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        return sum(process.memory_info().rss for process in processes)

    def kill(self) -> None:
        """Kill all its processes, as a crash of the machine would."""
        _kill(self._process)

    def close(self) -> None:
        """Stop it."""
        self.kill()
        _kill(self._handing)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


Connecting = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def _handing_on(connect: Connecting) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """What hands on all that comes over a connection to another one, both ways."""

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                target.write(data)
                await target.drain()
        target.close()

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await connect()
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))

    return hand_on


@contextmanager
def serving() -> Iterator[Server]:
    """A server that is stopped in the end, and leaves nothing behind."""
    directory = Path(tempfile.mkdtemp(prefix="nearshot-"))
    try:
        server = Server(directory / "milvus")
        try:
            yield server
        finally:
            server.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _serve_outside(listening: int, directory: Path) -> None:
    """Hand on what comes to a port, for as long as this process lives."""

    async def serve() -> None:
        hand_on = _handing_on(lambda: asyncio.open_unix_connection(str(directory / SOCKET)))
        server = await asyncio.start_server(hand_on, sock=socket.socket(fileno=listening))
        await server.serve_forever()

    asyncio.run(serve())


def _serve_inside(directory: Path) -> None:
    """Run the server in a network that has nothing yet, and hand on to it what comes through the socket."""
    import milvus
    from milvus import MilvusServer, MilvusServerConfig

    _raise_loopback()
    data = Path(milvus.__file__).parent / "data"
    template = (data / "config.yaml.template").read_text()
    assert TICK[0] in template
    (directory / "template").write_text(template.replace(*TICK))
    config = MilvusServerConfig(template=str(directory / "template"))
    config.glog_conf_file = str(data / "glog.conf")  # which it looks for only beside its own template
    server = MilvusServer(config, proxy_port=INSIDE)
    server.set_base_dir(str(directory / "data"))
    server.start()

    async def serve() -> None:
        hand_on = _handing_on(lambda: asyncio.open_connection("127.0.0.1", INSIDE))
        aside = directory / f"{SOCKET}.aside"
        aside.unlink(missing_ok=True)
        handing = await asyncio.start_unix_server(hand_on, str(aside))
        aside.rename(directory / SOCKET)
        await handing.serve_forever()

    asyncio.run(serve())


def _raise_loopback() -> None:
    """Bring the loopback up: SIOCGIFFLAGS and SIOCSIFFLAGS of netdevice(7), IFF_UP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, 0x8913, request))
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))


def main() -> None:
    """Be one of the processes of a server; or serve one until it is interrupted."""
    if sys.argv[1] == "--outside":
        _serve_outside(int(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1] == "--inside":
        _serve_inside(Path(sys.argv[2]))
    else:
        running = Server(Path(sys.argv[1]).absolute())
        sys.stdout.write(f"{running.address}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
        running.close()


if __name__ == "__main__":
    main()
