"""Queries in batches: the answers of one by one, in order, whatever lies between them; and memory that does not grow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.hog import HogBackbone
from nearshot.backbones.protocol import Prepared
from nearshot.indexer.options import IndexOptions
from nearshot.retriever.answer import Answer, Unreadable
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.schema.store import Store
from tests.conftest import run_index, save_crop


@pytest.mark.parametrize("backbone", ["hog", "lite0"])
def test_a_batch_is_answered_as_one_by_one_and_in_order(
    backbone: str, store: Store, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small, IndexOptions(backbones=(backbone,), workers=2))
    queries: list[tuple[str, bytes | Image.Image | OSError]] = []
    for number in range(40):
        path = tmp_path / f"{number}.png"
        save_crop(path, f"{('chelsea', 'coffee', 'rocket')[number % 3]}:{number % 5}")
        queries.append((path.name, path.read_bytes()))
    queries[7] = ("7.png", b"no image")
    queries[20] = ("20.png", OSError(13, "Permission denied"))
    retriever = Retriever(store, QueryOptions(backbone=backbone))
    together = list(retriever.answer(queries))
    single = [next(iter(retriever.answer([query]))) for query in queries]
    assert [answer.path for answer in together] == [f"{number}.png" for number in range(40)]
    for batched, alone in zip(together, single, strict=True):
        if isinstance(alone, Unreadable):
            assert batched == alone
        else:
            assert isinstance(batched, Answer)
            assert batched.decision.verdict == alone.decision.verdict
            assert batched.decision.nearest is not None
            assert alone.decision.nearest is not None
            assert batched.decision.nearest.score == pytest.approx(alone.decision.nearest.score, abs=2e-6)
    assert {index for index, answer in enumerate(together) if isinstance(answer, Unreadable)} == {7, 20}


def test_pictures_are_encoded_in_whole_batches(store: Store, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_index(store, small)
    sizes: list[int] = []
    real = HogBackbone.encode

    def counted(self: HogBackbone, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        sizes.append(len(batch))
        return real(self, batch)

    monkeypatch.setattr(HogBackbone, "encode", counted)
    retriever = Retriever(store, QueryOptions())
    size = HogBackbone().batch_size
    data = (small / "things/6.preprocessed/cat/a.png").read_bytes()
    assert len(list(retriever.answer((str(n), data) for n in range(2 * size + 3)))) == 2 * size + 3
    assert sizes == [size, size, 3]


def test_memory_is_bounded_whatever_the_number_of_queries(store: Store, small: Path) -> None:
    run_index(store, small)
    retriever = Retriever(store, QueryOptions())
    data = (small / "things/6.preprocessed/cat/a.png").read_bytes()

    def peak(count: int) -> int:
        def queries() -> Iterator[tuple[str, bytes]]:
            for number in range(count):
                yield str(number), bytes(data)

        tracemalloc.start()
        for _ in retriever.answer(queries()):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(50)
    assert peak(400) < peak(100) + 2**20


def test_whoever_stops_listening_stops_the_reading(store: Store, small: Path) -> None:
    run_index(store, small)
    data = (small / "things/6.preprocessed/cat/a.png").read_bytes()
    read = []

    def queries() -> Iterator[tuple[str, bytes]]:
        for number in range(10_000):
            read.append(number)
            yield str(number), data

    answers = Retriever(store, QueryOptions()).answer(queries())
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert len(read) < 200
