"""Forward passes and loading threads."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
import torch

from nearshot.backbones.forward import forward_pass, stand_back
from nearshot.backbones.halving import Halving
from nearshot.schema.errors import IndexingError

CPU = torch.device("cpu")


def test_loading_waits_for_a_forward_pass_on_the_cpu_and_goes_on_after_it_even_if_it_fails() -> None:
    loaded = threading.Event()

    def load() -> None:
        stand_back()
        loaded.set()

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError), forward_pass(CPU, 1):  # noqa: PT012
            waiting = pool.submit(load)
            assert not loaded.wait(0.2)
            raise ZeroDivisionError
        waiting.result(timeout=10)
    assert loaded.is_set()


def test_whoever_runs_the_forward_pass_does_not_wait_for_itself() -> None:
    with forward_pass(CPU, 1):
        stand_back()
        assert torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled()


def test_a_gpu_without_memory_says_what_to_do() -> None:
    with pytest.raises(IndexingError, match="16 images at once; give a smaller batch_size"), forward_pass(CPU, 16):
        raise torch.OutOfMemoryError


def test_what_a_failed_batch_held_is_free_before_the_gpu_is_asked_for_less(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    def work(part: Sequence[int]) -> list[int]:
        with forward_pass(CPU, len(part)):
            activations = torch.zeros(10)
            held.append(weakref.ref(activations))
            if len(part) > 2:
                raise torch.OutOfMemoryError
            return list(part)

    monkeypatch.setattr("torch.cuda.empty_cache", lambda: alive.append(sum(ref() is not None for ref in held)))
    halving = Halving()
    assert list(chain(*halving.apply(work, range(9)))) == list(range(9))
    assert alive == [0, 0, 0]
    assert halving.most == 2


def test_a_gpu_that_fails_is_not_taken_for_one_without_memory() -> None:
    asked: list[int] = []

    def work(part: Sequence[int]) -> list[int]:
        asked.append(len(part))
        with forward_pass(CPU, len(part)):
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with pytest.raises(IndexingError, match=r"the GPU failed .*run the same command again, or with device cpu"):
        Halving().apply(work, range(4))
    assert asked == [4]
