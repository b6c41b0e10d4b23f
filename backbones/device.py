"""Devices: where torch models run, and in which precision."""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING

from backbones.protocol import Precision
from schema.errors import UsageError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cuda", "mps", "cpu")


def choose_device(name: str = "auto") -> torch.device:
    """The torch device of a name (`cuda:1` too); `auto` takes cuda, else mps, else cpu. UsageError for one not to be had."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name} is not a device; choose from {', '.join(DEVICES)}") from error
    too_high = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if not available.get(device.type, False) or too_high:
        raise UsageError(f"--device {name} is not to be had on this machine; --device auto takes the best that is")
    return device


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """The torch dtype of a precision; UsageError for fp16 on a CPU, which has no arithmetic for it."""
    import torch

    if precision == Precision.FP16 and device.type == "cpu":
        raise UsageError("--precision fp16 needs a GPU; take bf16 or fp32 on a CPU")
    return {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}[precision]


def require_exact_float32() -> None:
    """Turn TF32 off, which cuDNN has on by default: float32 is to mean float32 on every device."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@cache
def all_cores() -> int:
    """How many threads torch takes by itself, asked once and before any helper thread keeps to one core."""
    import torch

    return torch.get_num_threads()


def keep_to_one_core() -> None:
    """Let a helper thread do its tensor arithmetic alone: each would otherwise bring a team of threads of its own.

    OpenMP keeps the number for each thread, but torch also makes it the default of threads that have not asked yet:
    whoever encodes must ask for all cores again.
    """
    import torch

    all_cores()
    if threading.current_thread() is not threading.main_thread() and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
