"""On a GPU: recorded passes give the numbers of plain ones, memory does not grow, and what does not fit is halved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nearshot.backbones.cuda_graphs import CudaGraphs
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.backbones.torch_backbone import TorchBackbone
from nearshot.schema.errors import IndexingError
from nearshot.schema.vocabulary import Precision

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def load(name: str, weights: Path | None = None, precision: Precision = Precision.FP32) -> TorchBackbone:
    backbone = resolve(parse_spec(name), weights=weights, precision=precision).load("cuda")
    assert isinstance(backbone, TorchBackbone)
    return backbone


def pictures(number: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    chance = np.random.default_rng(seed)
    return [chance.integers(0, 256, (224, 224, 3), dtype=np.uint8) for _ in range(number)]


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("name", ["lite0", "clip", "resnet50", "dinov2"])
def test_a_recorded_pass_gives_the_same_bits_as_a_plain_one(name: str, precision: Precision, weights: Path) -> None:
    backbone = load(name, weights, precision)
    for number in (1, 5, 16):
        plain = backbone.encode(pictures(number))
        recorded = [backbone.encode(pictures(number)) for _ in range(3)]
        other = backbone.encode(pictures(number, seed=1))
        for again in recorded:
            np.testing.assert_array_equal(again, plain)
        assert not np.array_equal(other, plain)  # what was recorded takes what it is given
    assert isinstance(backbone._pass, CudaGraphs)
    assert backbone._pass._graphs


def test_vectors_are_those_of_the_cpu(weights: Path) -> None:
    on_cpu = resolve(parse_spec("dinov2"), weights=weights).load("cpu").encode(pictures(4))
    on_gpu = load("dinov2", weights).encode(pictures(4))
    lengths = np.linalg.norm(on_cpu, axis=1) * np.linalg.norm(on_gpu, axis=1)
    assert ((on_cpu * on_gpu).sum(axis=1) / lengths).min() > 0.9999


def test_memory_does_not_grow(weights: Path) -> None:
    backbone = load("clip", weights)
    for number in (128, 128, 7, 7, 1, 1):
        backbone.encode(pictures(number))
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for _ in range(40):
        for number in (128, 7, 1):
            backbone.encode(pictures(number))
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == before


def test_what_does_not_fit_is_halved_and_comes_out_the_same() -> None:
    backbone = load("lite0")
    batch = pictures(256)
    expected = np.concatenate([backbone.encode(batch[at : at + 8]) for at in range(0, 256, 8)])
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    room = torch.cuda.memory_reserved() + (400 << 20)
    torch.cuda.set_per_process_memory_fraction(room / whole)
    try:
        halved = backbone.encode(batch)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert backbone.batch_size < 128
    np.testing.assert_allclose(halved, expected, atol=1e-3)


def test_a_device_that_is_lost_is_one_clear_error_and_not_taken_for_a_lack_of_memory() -> None:
    script = """
import torch
from nearshot.backbones.forward import forward_pass
with forward_pass(torch.device("cuda"), 1):
    torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")].cpu()  # an assertion on the device ends its context
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert IndexingError.__name__ in last
    assert "the GPU failed" in last
