"""Devices: where torch models run, and in which precision."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING

from backbones.protocol import Precision
from schema.errors import UsageError

if TYPE_CHECKING:
    import torch

_STAND_BACK = 10
"""On the scale from 0, normal, to 19."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_KEEP_UP_TO = 1 << 30
"""Bytes."""

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


def give_way() -> None:
    """Let a helper thread stand back where a forward pass wants all cores: on Linux, where threads have priorities.

    A core taken from one thread of a forward pass stops all of them, since they wait for each other. Half-way down
    the scale, so that the helper still gets a tenth of a core that other programs keep busy.
    """
    if sys.platform == "linux" and threading.current_thread() is not threading.main_thread():
        thread = threading.get_native_id()
        if os.getpriority(os.PRIO_PROCESS, thread) < _STAND_BACK:
            os.setpriority(os.PRIO_PROCESS, thread, _STAND_BACK)


@cache
def keep_freed_memory() -> None:
    """Have glibc keep what a forward pass frees for the next one.

    It would give activations back to the system and take them again as new pages, which the kernel clears: a tenth to
    a fifth of a forward pass of CLIP ViT-B/32 (benchmarks/README.md). What is kept is bounded by the largest batch.
    """
    if platform.libc_ver()[0] == "glibc":
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_MMAP_THRESHOLD, _KEEP_UP_TO)
        allocator.mallopt(_M_TRIM_THRESHOLD, _KEEP_UP_TO)
