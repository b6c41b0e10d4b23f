"""The part that all torch models share: a preprocessing function, a forward function, and nothing kept between batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.cuda_graphs import CudaGraphs
from nearshot.backbones.device import dtype_of
from nearshot.backbones.device_batch import DeviceBatches
from nearshot.backbones.forward import forward_pass, prepare_for_forward_passes, stand_back
from nearshot.backbones.halving import Halving
from nearshot.backbones.patches import last_patches
from nearshot.backbones.preparation import Preparation
from nearshot.backbones.protocol import Description, Prepared, fingerprint
from nearshot.schema.errors import WeightsError
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
        self._model, self._forward = model, forward
        self._device, self._dtype = device, dtype_of(precision, device)
        self.preparation = preparation
        self._batches, self._halving = DeviceBatches(preparation, device, self._dtype, torch.channels_last), Halving()
        self._pass = CudaGraphs(self._vectors) if device.type == "cuda" else self._vectors
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
        return min(16 if self._device.type == "cpu" else 128, self._halving.most)

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
        parts = self._halving.apply(self._encode, batch)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def patches(self, batch: Sequence[Prepared]) -> NDArray[np.float32] | None:
        """What the model sees at each place of n prepared pictures (n, h, w, c); None where it does not tell places apart."""
        with forward_pass(self._device, len(batch)):
            return last_patches(self._model, self._forward, self.on_device(batch))

    def on_device(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """What the model is given of prepared pictures: (n, 3, H, W) on its device, in its precision, channels last."""
        return self._batches.values(self._batches.send(batch))

    def _encode(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        with forward_pass(self._device, len(batch)):
            vectors: NDArray[np.float32] = self._pass(self._batches.send(batch)).cpu().numpy()
        return vectors

    def _vectors(self, sent: torch.Tensor) -> torch.Tensor:
        return self._forward(self._batches.values(sent)).float()


class Tower(torch.nn.Module):
    """A function of a batch by means of a model, as a module."""

    def __init__(self, model: torch.nn.Module, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """What the function gives."""
        return self.function(given)


def digest_weights(model: torch.nn.Module) -> str:
    """SHA-256 over the names, shapes and values of all weights and buffers, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
