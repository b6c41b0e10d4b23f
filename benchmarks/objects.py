"""Data in a store of objects: what listing it costs, and index runs against the obvious loop over its objects.

    python -m benchmarks.objects [--images 400] [--listed 20000] [--delay 30]

S3 is moto, a process of its own on the same machine, which answers no sooner than `--delay` milliseconds after it was asked,
about as S3 does. The loop fetches one object after the other by fsspec, decodes it and computes `hog`; an index run with `hog`
does the same and writes the store. In turn, medians of three.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec import filesystem
from PIL import Image

from benchmarks.material import machine, save_jpegs, spread
from nearshot.backbones.hog import HogBackbone
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.schema.objects import listing
from nearshot.schema.paths import AnyPath, path_of
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Loading
from tests.objects import BUCKET, put

URL = f"s3://{BUCKET}/data"
ROUNDS = 3


def main() -> None:
    """Print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--listed", type=int, default=20_000)
    parser.add_argument("--delay", type=int, default=30)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.delay / 1000, arguments.listed)
        return
    print(machine())
    with serving(arguments.delay, arguments.listed), tempfile.TemporaryDirectory() as temporary:
        list_many(arguments.listed)
        data = Path(temporary) / "data"
        save_jpegs(data, arguments.images)
        put(data, URL)
        work: dict[str, Callable[[], object]] = {
            "loop": loop,
            "index run, threads": lambda: index(path_of(URL), Loading.THREADS),
            "index run, processes": lambda: index(path_of(URL), Loading.PROCESSES),
            "index run from a disk, threads": lambda: index(data, Loading.THREADS),
        }
        rates: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(ROUNDS):
            for name, function in work.items():
                started = time.perf_counter()
                function()
                rates[name].append(arguments.images / (time.perf_counter() - started))
        for name, each in rates.items():
            ratios = [rate / bare for rate, bare in zip(each, rates["loop"], strict=True)]
            print(f"{name}: {statistics.median(each):.0f} images/s, {spread(ratios)} times the loop")


def list_many(count: int) -> None:
    """Say what a listing takes."""
    directory = path_of(f"s3://{BUCKET}/many")
    assert not isinstance(directory, Path)
    started = time.perf_counter()
    tracemalloc.start()
    states = listing(directory)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(states) == count
    print(f"listed {count:,}: {time.perf_counter() - started:.1f} s, at most {peak / count:.0f} bytes each")


def loop() -> None:
    """The obvious script."""
    files, backbone = filesystem("s3", skip_instance_cache=True), HogBackbone()
    for name in files.find(URL):
        with Image.open(io.BytesIO(files.cat_file(name))) as image:
            backbone.encode([backbone.prepare(image.convert("RGB"))])


def index(root: AnyPath, loading: Loading) -> None:
    """An index run into an empty store."""
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory), create=True) as store:
        for _ in IndexRun(store, root, IndexOptions(backbones=("hog",), loading=loading)):
            pass


@contextmanager
def serving(delay: int, listed: int) -> Iterator[None]:
    """Have S3 be here."""
    command = [sys.executable, "-m", "benchmarks.objects", "--serve", "--delay", str(delay), "--listed", str(listed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            os.environ["AWS_ENDPOINT_URL"] = server.stdout.readline().strip()
            os.environ |= {
                "AWS_ACCESS_KEY_ID": "here",
                "AWS_SECRET_ACCESS_KEY": "here",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
            yield
        finally:
            server.kill()


def serve(delay: float, listed: int) -> None:
    """Serve S3, with so many objects to list, until it is killed."""
    import logging

    from moto.backends import get_backend
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)

    def delayed(environ: Any, start_response: Any) -> Any:
        time.sleep(delay)
        return application(environ, start_response)

    server = make_server("127.0.0.1", 0, delayed, threaded=True)
    backend = get_backend("s3")["123456789012"]["aws"]
    backend.create_bucket(BUCKET, "us-east-1")
    for number in range(listed):
        backend.put_object(BUCKET, f"many/6.preprocessed/some/{number}.jpg", b"")
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
