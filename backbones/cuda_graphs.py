"""CUDA graphs: a forward pass that is launched at once, where launching its kernels one by one takes longer than they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

MOST = 128
"""Images: passes over more spend their time in the kernels, not in launching them."""

WARM_UPS = 3


@dataclass(frozen=True, slots=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    given: torch.Tensor
    gives: torch.Tensor


class CudaGraphs:
    """A function of a batch on a GPU, recorded for each shape of batch when it comes for the second time.

    The kernels are those of the function itself, and so are the numbers, to the bit. A shape that cannot be recorded (a model
    that asks the GPU for a value half-way, or no memory) is computed as ever.
    """

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Called in inference mode, by one thread at a time."""
        self._function = function
        self._graphs: dict[torch.Size, _Graph] = {}
        self._seen: set[torch.Size] = set()
        self._refused: set[torch.Size] = set()
        self._pool: Any = None

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        """The function's result, valid until the next call."""
        shape = given.shape
        recorded = self._graphs.get(shape)
        if recorded is None and shape in self._seen and shape not in self._refused:
            recorded = self._record(given)
        if recorded is None:
            if len(given) <= MOST:
                self._seen.add(shape)
            return self._function(given)
        recorded.given.copy_(given, non_blocking=True)
        recorded.graph.replay()
        return recorded.gives

    def _record(self, given: torch.Tensor) -> _Graph | None:
        """Record the function for a shape; None where that fails, for good."""
        try:
            with torch.cuda.device(given.device):
                self._graphs[given.shape] = self._recorded(given.clone())
        except RuntimeError:  # so do OutOfMemoryError and what CUDA itself has to say
            self._refused.add(given.shape)
        return self._graphs.get(given.shape)

    def _recorded(self, given: torch.Tensor) -> _Graph:
        before, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(before)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self._function(given)
        before.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            gives = self._function(given)
        self._pool = graph.pool()
        return _Graph(graph, given, gives)
