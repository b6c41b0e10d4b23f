"""Devices: where torch models run, and in which precision."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from nearshot.schema.errors import UsageError, option
from nearshot.schema.vocabulary import Device, Precision

if TYPE_CHECKING:
    import torch

ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What Linux has where there is a GPU of NVIDIA's, of AMD's, or Windows' own seen from within."""


def encodes_on_cpu(name: str) -> bool:
    """Tell, without torch, whether a device's name stands for the CPU: `auto` does where no sign of a GPU is seen."""
    if name == Device.AUTO:
        is_apple = platform.system() == "Darwin" and platform.machine() == "arm64"
        return not is_apple and not any(os.path.exists(path) for path in ACCELERATORS)  # noqa: PTH110 (no Path to make)
    return name == Device.CPU


def choose_device(name: str = "auto") -> torch.device:
    """The torch device of a name (`cuda:1` too); `auto` takes cuda, else mps, else cpu. UsageError for one that is not here."""
    import torch

    available: dict[str, bool] = {
        Device.CUDA: torch.cuda.is_available(),
        Device.MPS: torch.backends.mps.is_available(),
        Device.CPU: True,
    }
    if name == Device.AUTO:
        return torch.device(next(kind for kind, there in available.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{option('device')} {name} is not a device; choose from {', '.join(Device)}") from error
    too_high = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if not available.get(device.type, False) or too_high:
        raise UsageError(
            f"{option('device')} {name} is not available here; {option('device')} auto takes the best that is"
        )
    return device


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """The torch dtype of a precision; UsageError for fp16 on a CPU, which has no arithmetic for it."""
    import torch

    if precision == Precision.FP16 and device.type == "cpu":
        raise UsageError(f"{option('precision')} fp16 needs a GPU; take bf16 or fp32 on a CPU")
    return {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}[precision]
