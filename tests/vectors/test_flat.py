"""The FAISS vector store, beyond what every vector store promises."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest

from nearshot.vectors.flat import FlatStore


@pytest.fixture
def two_cores() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.usefixtures("two_cores")
def test_searches_on_a_thread_keep_to_one_core_and_those_on_the_main_thread_take_all() -> None:
    store = FlatStore(4)
    store.add(np.arange(4), np.eye(4, dtype=np.float32))

    def search() -> tuple[list[int], int]:
        return store.search(np.eye(4, dtype=np.float32)[:1], 1)[0].ids.tolist(), faiss.omp_get_max_threads()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(search).result() == ([0], 1)
    assert search() == ([0], 2)
