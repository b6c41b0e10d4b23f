"""Halving: batches that a GPU has no memory for are worked on in halves, and later ones are no larger than what it held."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from nearshot.backbones.forward import GpuMemoryError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Halving:
    """What a GPU has turned out to hold: `most` items at once."""

    def __init__(self) -> None:
        self.most = sys.maxsize

    def apply(self, work: Callable[[Sequence[Item]], Result], batch: Sequence[Item]) -> list[Result]:
        """The results of a batch's parts, mostly of the whole; raises the GpuMemoryError of one item that is too large."""
        results: list[Result] = []
        at = 0
        while at < len(batch):
            part = batch[at : at + self.most]
            try:
                results.append(work(part))
            except GpuMemoryError:
                if len(part) == 1:
                    raise
            else:
                at += len(part)
                continue
            # The error is gone by now, and with it what its frames held: only then is the memory free to be given back.
            self.most = (len(part) + 1) // 2
            torch.cuda.empty_cache()
        return results
