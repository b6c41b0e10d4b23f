"""Forward passes and loading threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nearshot.backbones.forward import forward_pass, stand_back
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
