"""Growth: what commands cost as the store grows, in seconds, bytes read and written, and memory, each a process of its own.

    python -m benchmarks.growth [--images 1000 10000 100000] [--categories 1] [--shots 100] [--queries 0]

The store is made of `hog` vectors that were made up, under files that are there, all labelled shots; its last segments are
written by an index run. `read` and `written` are bytes through system calls (/proc/self/io), `disk` what of the written ones
is for the disk; `own` is memory that is not mapped from a file (RssAnon), in MiB, `peak` all of it. Every command is run twice,
and the second run counts: the files are in the page cache, as a user has them. With `--queries` labelled ones, `evaluate` too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from benchmarks.material import PHOTOGRAPHS, machine
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.schema.editor import Embedding, NewContent, SeenImage
from nearshot.schema.images import UNKNOWN, FileState, FoundImage
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.normalise import normalise

CLI = Path(__file__).parents[1] / "cli.py"
BATCH = 5000

PROBE = """
import atexit, json, resource, runpy, sys
said = sys.argv.pop()
def tell():
    io = dict(line.split(": ") for line in open("/proc/self/io").read().splitlines())
    use = resource.getrusage(resource.RUSAGE_SELF)
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    with open(said, "w") as file:
        json.dump({"cpu": use.ru_utime + use.ru_stime, "peak": int(status["VmHWM"].split()[0]) / 1024,
                   "read": int(io["rchar"]) / 1e6,
                   "written": int(io["wchar"]) / 1e6, "disk": int(io["write_bytes"]) / 1e6}, file)
atexit.register(tell)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def main() -> None:
    """Print a row per command and size, and the exponent by which each figure grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--categories", type=int, default=1)
    parser.add_argument("--shots", type=int, default=100, help="per label")
    parser.add_argument("--queries", type=int, default=0, help="labelled queries, to `evaluate` by")
    parser.add_argument("--keep", type=Path, help="make the stores here, and leave them")
    arguments = parser.parse_args()
    print(machine())
    rows: dict[str, list[dict[str, float]]] = {}
    for images in arguments.images:
        with tempfile.TemporaryDirectory() as temporary:
            here = arguments.keep / f"{images}-{arguments.categories}" if arguments.keep else Path(temporary)
            if not (here / "store").exists():
                started = time.perf_counter()
                build(here, images, arguments.categories, arguments.shots, arguments.queries)
                print(
                    f"{images:,} images in {arguments.categories} categories made in {time.perf_counter() - started:.0f} s"
                )
            for name, figures in measured(here):
                rows.setdefault(name, []).append(figures)
                shown = ", ".join(f"{key} {value:,.2f}" for key, value in figures.items())
                print(f"  {name:32} {shown}", flush=True)
    if len(arguments.images) > 1:
        ratio = math.log(arguments.images[-1] / arguments.images[0])
        print("exponents, from the smallest store to the largest")
        for name, sizes in rows.items():
            grown = {key: math.log(sizes[-1][key] / sizes[0][key]) / ratio for key in sizes[0] if sizes[0][key]}
            print(f"  {name:32} " + ", ".join(f"{key} {value:.2f}" for key, value in grown.items()))


def build(here: Path, images: int, categories: int, shots: int, queries: int = 0) -> None:
    """Files, rows and segments; of `queries` labelled ones every fourth shows a label that there are no shots of."""
    data = here / "data"
    save(data / "c0/2.support-set/label0/shot0.png", 0)
    save(here / "query.png", 1)
    paths = [
        f"c{number % categories}/2.support-set/label{number // categories // shots}/shot{number}.png"
        for number in range(1, images)
    ]
    labels = max(1, images // categories // shots)
    paths += [
        f"c{number % categories}/6.preprocessed/{f'label{number % labels}' if number % 4 else UNKNOWN}/query{number}.png"
        for number in range(queries)
    ]
    with Store(here / "store", create=True) as store:
        run(store, data)  # before the others are there
        for path in paths:
            (data / path).parent.mkdir(parents=True, exist_ok=True)
            (data / path).write_bytes(b"made up")
        chance = np.random.default_rng(0)
        with store.reading() as catalog:
            [row] = catalog.backbones()
            root_id = catalog.root_id(str(data.resolve()))
        assert root_id is not None
        directions = chance.standard_normal((max(1, images // shots + 1), row.dimension))
        for start in range(0, len(paths), BATCH):
            few = paths[start : start + BATCH]
            shown = [path.split("/")[2].removeprefix("label") for path in few]
            middles = np.stack(
                [chance.standard_normal(row.dimension) if name == UNKNOWN else directions[int(name)] for name in shown]
            )
            vectors = normalise(middles + chance.standard_normal((len(few), row.dimension)) * 0.7)
            with store.writing() as editor:
                numbers = range(start, start + len(few))
                ids = editor.add_contents(NewContent(f"{number:064x}", 7, 64, 64, "PNG") for number in numbers)
                editor.put_images(
                    root_id, [seen(data, path, ids[f"{n:064x}"]) for n, path in zip(numbers, few, strict=True)]
                )
                editor.put_embeddings(
                    Embedding(ids[f"{n:064x}"], row.id, vector) for n, vector in zip(numbers, vectors, strict=True)
                )
        run(store, data)


def seen(data: Path, path: str, content_id: int) -> SeenImage:
    """A file as an index run would have found it."""
    status = (data / path).stat()
    category, directory, label, name = path.split("/")
    state = FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    role, shot = (Role.SUPPORT, name.removesuffix(".png")) if directory == "2.support-set" else (Role.QUERY, None)
    return SeenImage(FoundImage(path, category, role, label, shot, state), content_id)


def run(store: Store, data: Path) -> None:
    """Index with hog."""
    for _ in IndexRun(store, data, IndexOptions(backbones=("hog",))):
        pass


def save(path: Path, number: int) -> None:
    """A cut of a photograph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(Path(skimage.data.__file__).parent / PHOTOGRAPHS[number % 3]).convert("RGB")
    picture.crop((10 + number, 10, 210 + number, 210)).save(path)


def measured(here: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """The commands, one after the other."""
    query = ["query", str(here / "query.png"), "--backbone", "hog", "--json"]
    yield "query --category", command(here, [*query, "--category", "c0"])
    yield "query", command(here, query)
    yield "index, nothing to do", command(here, ["index", str(here / "data"), "--backbone", "hog"])
    for number in (100, 101):
        save(here / f"data/c0/2.support-set/label0/shot{9_000_000 + number}.png", number)
        figures = command(here, ["index", str(here / "data"), "--backbone", "hog"], once=True)
    yield "index, one new shot", figures
    yield "query after it", command(here, query)
    yield "status", command(here, ["status"])
    if any((here / "data").glob("*/6.preprocessed")):
        yield "evaluate", command(here, ["evaluate"], once=True)


def command(here: Path, arguments: list[str], *, once: bool = False) -> dict[str, float]:
    """Seconds, CPU seconds, MiB of memory, own and all, and MB of input and output of a command."""
    for _ in range(1 if once else 2):
        with tempfile.NamedTemporaryFile() as said:
            started = time.perf_counter()
            line = [sys.executable, "-c", PROBE, str(CLI), *arguments, "--store", str(here / "store"), said.name]
            with tempfile.TemporaryFile("w+") as errors:
                process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=errors)
                own = most_own_memory(process)
                seconds = time.perf_counter() - started
                errors.seek(0)
                if process.returncode:
                    raise SystemExit(f"{arguments}: {errors.read()}")
            figures = json.loads(Path(said.name).read_text())
    return {"seconds": seconds, "own": own, **figures}


def most_own_memory(process: subprocess.Popen[bytes]) -> float:
    """MiB of memory that a process held at most, until it ends, without what is mapped from files (RssAnon)."""
    most = 0.0
    while True:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            own = [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon:")]
            most = max([most, *own])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            return most


if __name__ == "__main__":
    main()
