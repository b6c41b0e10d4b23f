"""Searching captions: how long words take among a million, how fast the index is built, and how large it is.

    python -m benchmarks.search [--captions 1000000] [--queries 200]

Captions of 6 to 16 words are drawn from 20,000 made-up words by Zipf's law (the n-th word 1/n as often as the first), which
is how words of a language occur. Queries are one to three different words, drawn evenly from the most common ones.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import insert

from benchmarks.material import machine
from nearshot.schema import tables
from nearshot.schema.caption_search import search_captions
from nearshot.schema.captions import put_captions
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.store import DATABASE_FILE, Store, utc_now
from nearshot.schema.words import match_of

VOCABULARY = 20_000
BATCH = 1000
SYLLABLES = ["ba", "ko", "ri", "mu", "ten", "sa", "lo", "vi", "da", "pe", "zu", "nar", "gi", "fo", "hel", "qui"]


def main() -> None:
    """Print the build rate, the size, and the times by how common the words are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200, help="queries of each kind")
    arguments = parser.parse_args()
    print(f"{machine()}; {arguments.captions:,} captions")
    words = vocabulary()
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory), create=True) as store:
        add_images(store, arguments.captions)
        before = size_of(store)
        seconds = add_captions(store, arguments.captions, words)
        print(
            f"built {arguments.captions / seconds:,.0f} captions/s in transactions of {BATCH:,}; "
            f"{(size_of(store) - before) / arguments.captions:.0f} bytes a caption, "
            f"{size_of(store) / 2**20:,.0f} MiB with the images' rows"
        )
        print(f"{'words among the':18} {'words':>5}  p50 ms  p95 ms  most ms   found (median)")
        chance = random.Random(1)
        for common in (10, 100, 1000):
            for count in (1, 2, 3):
                queries = [" ".join(chance.sample(words[:common], count)) for _ in range(arguments.queries)]
                report(store, queries, f"{common} most common", count)


def report(store: Store, queries: list[str], title: str, count: int) -> None:
    """Time queries, limit 20, each once and none before it."""
    milliseconds: list[float] = []
    hit_counts: list[int] = []
    for query in queries:
        started = time.perf_counter()
        match = match_of(query)
        assert match is not None
        with store.reading() as catalog:
            hits = search_captions(catalog.connection, match, ImageFilter(), limit=20)
        milliseconds.append((time.perf_counter() - started) * 1e3)
        hit_counts.append(len(hits))
    median, late = np.percentile(milliseconds, [50, 95])
    print(
        f"{title:18} {count:>5}  {median:6.1f}  {late:6.1f}  {max(milliseconds):7.1f}   {int(np.median(hit_counts))}",
        flush=True,
    )


def vocabulary() -> list[str]:
    """Distinct made-up words, the most common first."""
    chance = random.Random(0)
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        words["".join(chance.choices(SYLLABLES, k=chance.randint(1, 4)))] = None
    return list(words)


def add_images(store: Store, count: int) -> None:
    """Rows of contents and images: nothing of what is timed reads a file."""
    with store.writing() as editor:
        root = editor.add_root("/made/up")
        for start in range(0, count, 50_000):
            numbers = range(start + 1, min(start + 50_000, count) + 1)
            content = {"size": 1, "width": 1, "height": 1, "format": "PNG", "revision": editor.stamp}
            editor.connection.execute(
                insert(tables.contents), [{"id": number, "sha256": f"{number:064x}", **content} for number in numbers]
            )
            state = {"size": 1, "mtime_ns": 1, "ctime_ns": 1, "present": True, "revision": editor.stamp}
            placement = {"root_id": root, "category": "photos", "role": "query", "label": None, "shot": None}
            editor.connection.execute(
                insert(tables.images),
                [
                    {
                        "id": number,
                        "path": f"photos/6.preprocessed/{number:07}.jpg",
                        "content_id": number,
                        **placement,
                        **state,
                    }
                    for number in numbers
                ],
            )


def add_captions(store: Store, count: int, words: list[str]) -> float:
    """Write captions as the captioning run does, one transaction per batch; the seconds that took."""
    chance = np.random.default_rng(0)
    frequencies = 1 / np.arange(1, VOCABULARY + 1)
    cumulative: NDArray[np.float64] = np.cumsum(frequencies / frequencies.sum())
    taken = 0.0
    for start in range(0, count, BATCH):
        lengths = chance.integers(6, 17, BATCH)
        drawn = np.minimum(np.searchsorted(cumulative, chance.random(lengths.sum())), VOCABULARY - 1)
        parts = np.split(drawn, np.cumsum(lengths)[:-1])
        rows = [(start + 1 + n, " ".join(words[i] for i in part)) for n, part in enumerate(parts) if start + n < count]
        began = time.perf_counter()
        with store.writing() as editor:
            put_captions(editor, rows, task="caption", fingerprint="f" * 64, created=utc_now())
        taken += time.perf_counter() - began
    return taken


def size_of(store: Store) -> int:
    """Bytes of the database and its log."""
    return sum(path.stat().st_size for path in store.directory.glob(f"{DATABASE_FILE}*"))


if __name__ == "__main__":
    main()
