"""The service: what HTTP and batching cost, against the bare work in this process and the same run.

    python -m benchmarks.service [--images 96] [--clients 16] [--backbone hog ...] [--device cpu]

Warm single queries: each image is asked over HTTP, and answered bare (decode, prepare, forward pass, search), in turns; the
medians count. Clients: so many ask at the same time, each one image after another, in turns with a bare loop of forward passes
over prepared batches.
"""

from __future__ import annotations

import argparse
import http.client
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.material import machine, save_jpegs, save_weights
from nearshot.backbones.decode import decode
from nearshot.backbones.protocol import Backbone
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.retriever.choose_backbone import choose_row, load_indexed
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.normalise import normalise
from nearshot.vectors.segments import open_vectors

CLI = Path(__file__).parents[1] / "cli.py"
NAMES = ("hog", "clip", "resnet50", "dinov2")
SHOTS = 20
ROUNDS = 3
"""How often clients and the bare loop take turns; the median ratio counts, each to the loops just before and after."""


def main() -> None:
    """Print both comparisons for each backbone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--backbone", action="append", choices=NAMES)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--weights", type=Path, help="keep the random weights here for the next time")
    arguments = parser.parse_args()
    names = arguments.backbone or list(NAMES)
    print(f"{machine()}; {arguments.images} JPEGs of 500 x 375, {SHOTS} shots")
    with tempfile.TemporaryDirectory() as directory:
        weights, root = arguments.weights or Path(directory, "weights"), Path(directory, "data")
        if not weights.exists():
            save_weights(weights)
        save_jpegs(root, arguments.images + SHOTS)
        images = sorted((root / "photos/6.preprocessed").iterdir())
        for number, image in enumerate(images[:SHOTS]):
            label = root / f"photos/2.support-set/label{number % 4}"
            label.mkdir(parents=True, exist_ok=True)
            shutil.move(image, label / f"shot{number}.jpg")
        asked = [image.read_bytes() for image in images[SHOTS:]]
        with Store(Path(directory, "store"), create=True) as store:
            for _ in IndexRun(
                store, root, IndexOptions(backbones=tuple(names), weights=weights, device=arguments.device)
            ):
                pass
            for name in names:
                with serving(store.directory, name, weights, arguments.device) as port:
                    compare(store, name, weights, asked, port, arguments)


@contextmanager
def serving(store: Path, name: str, weights: Path, device: str) -> Iterator[int]:
    """The port of a service with one backbone."""
    options = ["--store", str(store), "--port", "0", "--backbone", name, "--weights", str(weights), "--device", device]
    with subprocess.Popen([sys.executable, str(CLI), "serve", *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port_match = re.search(r":(\d+)/ ", process.stdout.readline())
        assert port_match
        yield int(port_match[1])
        process.terminate()


class Client:
    """One connection that asks with one image at a time."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def ask(self, image: bytes) -> float:
        """The seconds until the answer is there."""
        body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="i"\r\n\r\n%b\r\n--x--\r\n' % image
        started = time.perf_counter()
        self._connection.request("POST", "/v1/query", body, {"Content-Type": "multipart/form-data; boundary=x"})
        response = self._connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        return time.perf_counter() - started


def compare(
    store: Store, name: str, weights: Path, asked: list[bytes], port: int, arguments: argparse.Namespace
) -> None:
    """Both comparisons for one backbone."""
    with store.reading() as catalog:
        row, _ = choose_row(catalog, name, ["photos"])
        vectors = open_vectors(store, catalog, row, Role.SUPPORT, category="photos")
    backbone = load_indexed(store, row, weights=weights, device=arguments.device)

    def answer(image: bytes) -> float:
        started = time.perf_counter()
        prepared = backbone.prepare(decode(image).picture)
        vectors.search(normalise(backbone.encode([prepared])), 6)
        return time.perf_counter() - started

    client = Client(port)
    for image in asked[:8]:
        client.ask(image), answer(image)
    served, bare = np.array([(client.ask(image), answer(image)) for image in asked]).T * 1e3
    more = np.median(served) - np.median(bare)
    reached = "reached" if more <= max(10, 0.1 * np.median(bare)) else "not reached"
    print(
        f"{name:9} single: p50 {np.median(served):.1f} ms, bare {np.median(bare):.1f} ms, {more:+.1f} ms "
        f"({more / np.median(bare):+.0%}); p95 {np.percentile(served, 95):.1f} ms; target 10 ms or 10 %: {reached}",
        flush=True,
    )
    rates, loops, waits = [], [bare_rate(backbone, asked)], []
    for _ in range(ROUNDS):
        seconds, answered = together(port, asked, arguments.clients)
        rates.append(len(answered) / seconds)
        waits += answered
        loops.append(bare_rate(backbone, asked))
    ratios = [rate / np.mean(loops[at : at + 2]) for at, rate in enumerate(rates)]
    print(
        f"{'':9} {arguments.clients} clients: {np.median(rates):.1f} images/s, bare loop {np.median(loops):.1f}, "
        f"ratio {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}; target 0.90); "
        f"p50 {np.median(waits):.0f} ms, p99 {np.percentile(waits, 99):.0f} ms of {len(waits)} answers",
        flush=True,
    )


def bare_rate(backbone: Backbone, asked: list[bytes]) -> float:
    """Images a second of forward passes over prepared batches."""
    prepared = [backbone.prepare(decode(image).picture) for image in asked]
    size = backbone.batch_size
    backbone.encode(prepared[:size])
    started = time.perf_counter()
    for at in range(0, len(prepared), size):
        backbone.encode(prepared[at : at + size])
    return len(prepared) / (time.perf_counter() - started)


def together(port: int, asked: list[bytes], clients: int) -> tuple[float, list[float]]:
    """The seconds that all clients took, and the milliseconds that each answer did."""
    waits: list[float] = []
    work = iter(asked)
    lock = threading.Lock()

    def go() -> None:
        client = Client(port)
        while True:
            with lock:
                image = next(work, None)
            if image is None:
                return
            waits.append(client.ask(image) * 1e3)

    threads = [threading.Thread(target=go) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started, waits


if __name__ == "__main__":
    main()
