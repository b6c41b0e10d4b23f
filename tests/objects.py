"""Stores of objects on this machine: S3 as moto speaks it, and Google Cloud Storage as its emulator does.

`python -m tests.objects` serves S3 until it is ended, and prints what to put into the environment.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BUCKET = "pictures"

Environment = Mapping[str, str]


@contextmanager
def serving_s3() -> Iterator[Environment]:
    """The environment in which S3 is a server here that has a bucket."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{address}/{BUCKET}", method="PUT")).close()
        yield {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        server.stop()


@contextmanager
def serving_gs() -> Iterator[Environment]:
    """The environment in which Google Cloud Storage is a server here that has a bucket."""
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    server.start()
    try:
        # Else gcsfs asks by gRPC what kind of bucket it is, and waits a minute for an answer that the emulator has not.
        yield {
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{_port(server)}",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }
    finally:
        server.stop()


def put(directory: Path, url: str) -> None:
    """Copy a directory into a store of objects."""
    from fsspec.core import url_to_fs

    files, root = url_to_fs(url)
    for path in sorted(each for each in directory.rglob("*") if each.is_file()):
        files.pipe_file(f"{root}/{path.relative_to(directory).as_posix()}", path.read_bytes())


def _port(server: Any) -> int:
    return int(server._api._httpd.server_address[1])


if __name__ == "__main__":
    with serving_s3() as environment:
        sys.stdout.writelines(f"export {name}={value}\n" for name, value in environment.items())
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
