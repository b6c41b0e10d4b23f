"""Flips: one bit of a store's files is another, and a query gives the right answer or a clear error; never another.
Words may miss a hit whose place in the full-text index is damaged, which only `verify` tells; that is counted by itself.

    python -m tests.faults.flips [HOW_MANY]

The bits are drawn over all bytes of the database and the segments, and beside these over the bytes that hold the labels,
vectors and thresholds.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nearshot.indexer.feedback import reject
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.search import SearchOptions, search
from nearshot.retriever.sources import read_queries
from nearshot.schema.errors import NearshotError
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Against, Mode
from tests.conftest import save_crop
from tests.faults.runs import forked, warm
from tests.faults.scenarios import CAT, GALAXY, SHOT, calibrate, data, index, indexed, label

ASKED = (CAT, GALAXY, SHOT)
STRANGER = "things/6.preprocessed/no.png"

RIGHT, SAID, WRONG, HIDDEN = 0, 2, 4, 8


def prepare(here: Path) -> None:
    """A store with shots, queries, a label, a negative and a calibration."""
    indexed(here)
    calibrate(here)
    label(here)
    save_crop(data(here) / STRANGER, "rocket:1")
    index(here)
    with Store(here / "store") as store:
        reject(store, data(here) / STRANGER)


def answers(here: Path) -> list[Any]:
    """All that queries with captions say, of a known image, a stranger and a shot; and a search by words."""
    with Store(here / "store") as store:
        retriever = Retriever(store, QueryOptions(backbone="hog", against=Against.ALL, captions=True))
        said: list[Any] = [
            answer.as_json() for answer in retriever.answer(read_queries([data(here) / path for path in ASKED]))
        ]
        found_by_words = search(store, "cat", SearchOptions(mode=Mode.CAPTIONS))
        said += [hit.as_json(found_by_words.mode) for hit in found_by_words]
    return [json.loads(json.dumps(answer)) for answer in said]


def places(here: Path, how_many: int) -> Iterator[tuple[Path, int, int]]:
    """Files, bytes and bits to flip: half of them anywhere, half where something that decides is."""
    chance = random.Random(0)
    files = [here / "store/nearshot.db", *sorted((here / "store/segments").iterdir())]
    held = {file: file.read_bytes() for file in files}
    words = (
        b"coffee",
        b"cat",
        b"galaxy",
        b"support",
        b"query",
        b"things",
        b"max_sim",
        b"reject",
        b"label",
        b"shot1",
        b"hog",
    )
    decisive = [
        (file, start + offset)
        for file, content in held.items()
        for word in words
        for start in _occurrences(content, word)
        for offset in range(-12, len(word) + 12)
        if 0 <= start + offset < len(content)
    ]
    sizes = np.array([len(content) for content in held.values()])
    for number in range(how_many):
        if number % 2:
            file, position = chance.choice(decisive)
        else:
            file = files[number // 2 % len(files)] if number % 4 else chance.choices(files, sizes.tolist())[0]
            position = chance.randrange(len(held[file]))
        yield file, position, chance.randrange(8)


def _occurrences(content: bytes, word: bytes) -> Iterator[int]:
    start = content.find(word)
    while start >= 0:
        yield start
        start = content.find(word, start + 1)


def flipped(here: Path, truth: list[Any]) -> int:
    """Ask a store with a flipped bit, in a process of its own."""

    def ask() -> int:
        logging.disable()
        try:
            said = answers(here)
        except NearshotError:
            return SAID
        if said == truth:
            return RIGHT
        return HIDDEN if len(said) >= len(ASKED) and said == truth[: len(said)] else WRONG

    return forked(ask)


def run(how_many: int) -> tuple[Counter[str], list[str]]:
    """Flip one bit after the other; the counts by outcome, and where an answer was wrong or the process died."""
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    warm()
    top = Path(tempfile.mkdtemp(prefix="flips-"))
    try:
        prepared = forked(lambda: prepare(top))
        assert prepared == 0
        truth_file = top / "truth.json"
        assert forked(lambda: truth_file.write_text(json.dumps(answers(top))) * 0) == 0
        truth = json.loads(truth_file.read_text())
        pristine = top / "pristine"
        shutil.copytree(top / "store", pristine)
        for file, position, bit in places(top, how_many):
            content = bytearray(file.read_bytes())
            content[position] ^= 1 << bit
            file.write_bytes(content)
            status = flipped(top, truth)
            outcome = {RIGHT: "right", SAID: "said", WRONG: "wrong", HIDDEN: "hidden"}.get(status, f"status {status}")
            outcomes[outcome] += 1
            if status not in (RIGHT, SAID, HIDDEN):
                wrong.append(f"{file.name}, byte {position}, bit {bit}: {outcome}")
            shutil.rmtree(top / "store")
            shutil.copytree(pristine, top / "store")
    finally:
        shutil.rmtree(top)
    return outcomes, wrong


def main() -> None:
    """Flip, and print the counts."""
    outcomes, wrong = run(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
    print("\n".join(wrong))
    print(f"{outcomes.total()} flips: {dict(outcomes)}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
