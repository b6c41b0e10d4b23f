"""Batches on a device: prepared pictures in one piece, where the model is, as the numbers that it takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nearshot.backbones.preparation import LEVELS, Preparation
from nearshot.backbones.protocol import Prepared


class DeviceBatches:
    """Brings batches to a device. Not for two threads at once: what is sent to a GPU leaves from memory that is used again."""

    def __init__(
        self, preparation: Preparation, device: torch.device, dtype: torch.dtype, layout: torch.memory_format
    ) -> None:
        """Of pictures that `preparation` prepares; the numbers will have `dtype` and `layout`."""
        self._device, self._dtype, self._layout = device, dtype, layout
        self._table = None if preparation.table is None else torch.from_numpy(preparation.table.flatten()).to(device)
        self._pinned = torch.empty(0)

    def send(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """Send prepared pictures: uint8 (n, H, W, 3) that are to be looked up, or float32 (n, 3, H, W)."""
        return self._in_one_piece(batch).to(self._device, non_blocking=True)

    def values(self, sent: torch.Tensor) -> torch.Tensor:
        """What the model takes (n, 3, H, W) of what was sent."""
        if self._table is not None:
            number, height, width, channels = sent.shape
            levels = sent.to(torch.int32) + torch.arange(0, 3 * LEVELS, LEVELS, dtype=torch.int32, device=self._device)
            values = self._table.index_select(0, levels.flatten()).view(number, height, width, channels)
            sent = values.permute(0, 3, 1, 2)
        return sent.to(self._dtype, memory_format=self._layout)

    def _in_one_piece(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """The batch; for a GPU in memory that its copies go out of directly, which is kept for the next batch."""
        if self._device.type != "cuda":
            return torch.from_numpy(np.stack(batch))
        shape, dtype = batch[0].shape, torch.uint8 if batch[0].dtype == np.uint8 else torch.float32
        if self._pinned.shape[1:] != shape or len(self._pinned) < len(batch) or self._pinned.dtype != dtype:
            self._pinned = torch.empty((len(batch), *shape), dtype=dtype, pin_memory=True)
        host = self._pinned[: len(batch)]
        np.stack(batch, out=host.numpy())
        return host
