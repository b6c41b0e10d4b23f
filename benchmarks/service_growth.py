"""The service on a large store: what pages and queries take, alone and while another process adds shots.

    python -m benchmarks.service_growth [--images 1000000] [--queries 100] [--keep DIRECTORY]

The store is that of `benchmarks.growth`. Queries are asked one after the other; beside them the searches alone, by whoever
has the searcher, in this process. The writer commits 16 shots at a time, 10,000 at
most, for as long as queries are asked. `own` is memory of the service alone that is not mapped from files (RssAnon).
"""

from __future__ import annotations

import argparse
import http.client
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.growth import build
from benchmarks.material import machine
from benchmarks.service import CLI, Client
from nearshot.retriever.choose_backbone import choose_row
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.searcher import Searcher
from nearshot.schema.editor import Embedding, NewContent, SeenImage
from nearshot.schema.images import FileState, FoundImage
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.normalise import normalise

PAGES = (
    "/v1/categories",
    "/v1/status",
    "/v1/images?category=c0&limit=60",
    "/v1/images?category=c0&label=label7&limit=60",
    "/v1/search?q=made&mode=captions",
    "/v1/map?category=c0",
)
SHOTS, TOGETHER = 10_000, 16


def main() -> None:
    """Print what everything took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--keep", type=Path, help="make the store here, and leave it")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments.write)
        return
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        here = arguments.keep / f"{arguments.images}-1" if arguments.keep else Path(temporary)
        if not (here / "store").exists():
            build(here, arguments.images, 1, 100)
        measure(here, arguments.queries)


def measure(here: Path, queries: int) -> None:
    """The service alone, then its pages, then with a writer."""
    image = (here / "query.png").read_bytes()
    with serving(here / "store") as (port, process, ready):
        client = Client(port)
        print(
            f"ready {ready:.2f} s, first query {client.ask(image):.2f} s, second {client.ask(image):.3f}; {own(process)}"
        )
        tell("search alone", searches(here / "store", queries))
        client = Client(port)  # the service has closed a connection that nothing came through for a while
        tell("queries", [client.ask(image) for _ in range(queries)])
        for page in PAGES:
            tell(page, [fetched(port, page)[1] for _ in range(4)])
        print(own(process))
        with writing(here):
            client = Client(port)
            tell("queries beside a writer", [client.ask(image) for _ in range(queries)])
            tell("/v1/status beside a writer", [fetched(port, "/v1/status")[1] for _ in range(4)])
        print(own(process))
    with writing(here):
        tell("search alone beside a writer", searches(here / "store", queries))


@contextmanager
def writing(here: Path) -> Iterator[None]:
    """Beside a process that adds shots; how many it had added is printed in the end."""
    line = [sys.executable, "-m", "benchmarks.service_growth", "--write", str(here)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        yield
        writer.terminate()
        print(*writer.stdout.read().strip().splitlines()[-1:])


def searches(store: Path, queries: int) -> list[float]:
    """The seconds of searches by a searcher of this process."""
    query = normalise(np.random.default_rng(0).standard_normal((1, 708)))
    options = QueryOptions(backbone="hog")
    with Store(store) as opened, opened.reading() as catalog:
        row, lacking = choose_row(catalog, "hog", ["c0"])
        searcher = Searcher(opened, catalog, row, lacking, options)
        seconds = []
        for _ in range(queries):
            started = time.perf_counter()
            searcher.decide("query", query, searcher.search(query, options)[0], options)
            seconds.append(time.perf_counter() - started)
    return seconds


def write(here: Path) -> None:
    """Add shots, a few in each commit, and say so."""
    chance, began = np.random.default_rng(1), time.time_ns()
    state = FileState(7, began, began)
    with Store(here / "store") as store:
        with store.reading() as catalog:
            [row] = catalog.backbones()
            root_id = catalog.root_id(str((here / "data").resolve()))
        assert root_id is not None
        for start in range(0, SHOTS, TOGETHER):
            names = [f"new-{began + number}" for number in range(start, start + TOGETHER)]
            vectors = normalise(chance.standard_normal((TOGETHER, row.dimension)))
            with store.writing() as editor:
                ids = list(editor.add_contents(NewContent(name, 7, 64, 64, "PNG") for name in names).values())
                images = [
                    FoundImage(f"c0/2.support-set/label1/{name}.png", "c0", Role.SUPPORT, "label1", name, state)
                    for name in names
                ]
                editor.put_images(root_id, list(map(SeenImage, images, ids)))
                editor.put_embeddings(
                    Embedding(content, row.id, vector) for content, vector in zip(ids, vectors, strict=True)
                )
            print(f"{start + TOGETHER} shots written", flush=True)


@contextmanager
def serving(store: Path) -> Iterator[tuple[int, int, float]]:
    """The port and process id of a service with hog, and the seconds until it was ready."""
    started = time.perf_counter()
    line = [sys.executable, str(CLI), "serve", "--store", str(store), "--port", "0", "--backbone", "hog"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(re.findall(r":(\d+)/ ", process.stdout.readline())[0])
        while b"200" not in fetched(port, "/readyz")[0]:
            time.sleep(0.01)
        try:
            yield port, process.pid, time.perf_counter() - started
        finally:
            process.terminate()


def fetched(port: int, page: str) -> tuple[bytes, float]:
    """The status of a page, as a text, and the seconds that it took."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", page)
    response = connection.getresponse()
    response.read()
    return str(response.status).encode(), time.perf_counter() - started


def own(process: int) -> str:
    """Memory of a process that is not mapped from files, and what is."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    anonymous, mapped = (int(status[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return f"own memory {anonymous:,.0f} MiB, mapped {mapped:,.0f} MiB"


def tell(what: str, seconds: list[float]) -> None:
    """Print milliseconds."""
    p50, p95 = np.percentile(seconds, [50, 95]) * 1e3
    print(
        f"{what:45} first {seconds[0] * 1e3:,.0f} ms, p50 {p50:,.0f}, p95 {p95:,.0f}, most {max(seconds) * 1e3:,.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
