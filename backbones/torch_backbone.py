"""The part that all torch models share: a preprocessing function, a forward function, and nothing kept between batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.device import dtype_of
from nearshot.backbones.forward import forward_pass, prepare_for_forward_passes, stand_back
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
        preprocess: Callable[[Image.Image], NDArray[np.float32]],
        preprocessing: Any,
        forward: Callable[[torch.Tensor], torch.Tensor],
        device: torch.device,
        precision: Precision,
    ) -> None:
        """Take over a model whose weights are loaded, in float32, on the CPU.

        `preprocess` maps an RGB picture to float32 (C, H, W); `preprocessing` describes it for the fingerprint; `forward`
        maps a batch (n, C, H, W) to vectors (n, dimension) by means of the model. Raises WeightsError where the model
        gives anything else.
        """
        prepare_for_forward_passes(device)
        self._device, self._dtype = device, dtype_of(precision, device)
        self._preprocess, self._forward = preprocess, forward
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
        """16 on a CPU, where larger batches gain nothing; 64 on a GPU."""
        return 16 if self._device.type == "cpu" else 64

    def prepare(self, picture: Image.Image) -> Prepared:
        """The picture as float32 (C, H, W), by the library's own preprocessing."""
        stand_back()
        return self._preprocess(picture)

    def encode(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """The vectors (n, dimension) of n prepared pictures."""
        with forward_pass(self._device, len(batch)):
            host = torch.from_numpy(np.stack(batch))
            if self._device.type == "cuda":
                host = host.pin_memory()
            pixels = host.to(self._device, non_blocking=True).to(self._dtype, memory_format=torch.channels_last)
            vectors: NDArray[np.float32] = self._forward(pixels).float().cpu().numpy()
        return vectors


def digest_weights(model: torch.nn.Module) -> str:
    """SHA-256 over the names, shapes and values of all weights and buffers, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
