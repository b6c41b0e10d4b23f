"""The part that all torch models share: a preprocessing function, a forward function, and nothing kept between batches."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.device import dtype_of
from nearshot.backbones.forward import forward_pass, prepare_for_forward_passes, stand_back
from nearshot.backbones.preparation import LEVELS, Preparation
from nearshot.backbones.protocol import Description, Prepared, fingerprint
from nearshot.schema.errors import IndexingError, WeightsError
from nearshot.schema.vocabulary import Precision


class TorchBackbone:
    """A torch model in eval mode on a device, its weights cast to the precision (not autocast), channels last."""

    def __init__(
        self,
        name: str,
        model: torch.nn.Module,
        *,
        preparation: Preparation,
        preprocessing: Any,
        forward: Callable[[torch.Tensor], torch.Tensor],
        device: torch.device,
        precision: Precision,
    ) -> None:
        """Take over a model whose weights are loaded, in float32, on the CPU.

        `preparation` prepares pictures; `preprocessing` describes it for the fingerprint; `forward` maps a batch
        (n, C, H, W) to vectors (n, dimension) by means of the model. Raises WeightsError where the model gives anything else.
        """
        prepare_for_forward_passes(device)
        self._model = model
        self._device, self._dtype = device, dtype_of(precision, device)
        self.preparation, self._forward = preparation, forward
        self._most = sys.maxsize
        self._table, self._pinned = _levels(preparation, device), torch.empty(0)
        digest = digest_weights(model)
        model.eval().requires_grad_(False)
        model.to(device=device, dtype=self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        trial = self.encode([self.prepare(Image.new("RGB", (320, 240), "grey"))])
        if trial.ndim != 2:
            raise WeightsError(f"{name}: this model gives no vector an image, but an array of shape {trial.shape[1:]}")
        print_ = fingerprint(weights=digest, preprocessing=preprocessing, precision=precision)
        self.description = Description(name, int(trial.shape[1]), precision, print_)

    @property
    def batch_size(self) -> int:
        """16 on a CPU, where larger batches gain nothing; 128 on a GPU, or what its memory has turned out to hold."""
        return min(16 if self._device.type == "cpu" else 128, self._most)

    @property
    def image_model(self) -> torch.nn.Module:
        """What maps a batch (n, C, H, W) to vectors (n, dimension), as a module."""
        return Tower(self._model, self._forward)

    @property
    def is_on_gpu(self) -> bool:
        """Tell whether the model is on another device than the CPU."""
        return self._device.type != "cpu"

    def prepare(self, picture: Image.Image) -> Prepared:
        """The picture by the library's own preprocessing: uint8 (H, W, 3) that is looked up, or float32 (3, H, W)."""
        stand_back()
        return self.preparation(picture)

    def encode(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """The vectors (n, dimension) of n prepared pictures; in halves where a GPU has no memory for all of them at once."""
        if len(batch) > self._most:
            parts = [batch[at : at + self._most] for at in range(0, len(batch), self._most)]
            return np.concatenate([self.encode(part) for part in parts])
        try:
            with forward_pass(self._device, len(batch)):
                vectors: NDArray[np.float32] = self._forward(self.on_device(batch)).float().cpu().numpy()
            return vectors
        except IndexingError:
            if len(batch) == 1:
                raise
        self._most = (len(batch) + 1) // 2
        torch.cuda.empty_cache()
        return self.encode(batch)

    def on_device(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """What the model is given of prepared pictures: (n, 3, H, W) on its device, in its precision, channels last."""
        given = self._stacked(batch).to(self._device, non_blocking=True)
        if self._table is not None:
            number, height, width, channels = given.shape
            levels = given.to(torch.int32) + torch.arange(0, 3 * LEVELS, LEVELS, dtype=torch.int32, device=self._device)
            values = self._table.index_select(0, levels.flatten()).view(number, height, width, channels)
            given = values.permute(0, 3, 1, 2)
        return given.to(self._dtype, memory_format=torch.channels_last)

    def _stacked(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """The batch in one piece; for a GPU in memory that its copies go out of directly, which is kept for the next batch."""
        if self._device.type != "cuda":
            return torch.from_numpy(np.stack(batch))
        shape, dtype = batch[0].shape, torch.uint8 if batch[0].dtype == np.uint8 else torch.float32
        if self._pinned.shape[1:] != shape or len(self._pinned) < len(batch) or self._pinned.dtype != dtype:
            self._pinned = torch.empty((len(batch), *shape), dtype=dtype, pin_memory=True)
        host = self._pinned[: len(batch)]
        np.stack(batch, out=host.numpy())
        return host


class Tower(torch.nn.Module):
    """A function of a batch by means of a model, as a module."""

    def __init__(self, model: torch.nn.Module, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """What the function gives."""
        return self.function(given)


def _levels(preparation: Preparation, device: torch.device) -> torch.Tensor | None:
    return None if preparation.table is None else torch.from_numpy(preparation.table.flatten()).to(device)


def digest_weights(model: torch.nn.Module) -> str:
    """SHA-256 over the names, shapes and values of all weights and buffers, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
