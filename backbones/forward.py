"""Forward passes: exact float32, all cores, no memory given away; and loading, which stands back for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache

import torch

from nearshot.backbones.allocator import keep_freed_memory
from nearshot.backbones.cores import all_cores_taken, wait_for_cores
from nearshot.schema.errors import IndexingError, option


def prepare_for_forward_passes(device: torch.device) -> None:
    """Set the process up, before its first forward pass.

    TF32 is turned off, which cuDNN has on by default: float32 is to mean float32 on every device.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    _all_cores()
    if device.type == "cpu":
        keep_freed_memory()


class GpuMemoryError(IndexingError):
    """A batch that a GPU has no memory for."""


@contextmanager
def forward_pass(device: torch.device, images: int) -> Iterator[None]:
    """Run a forward pass in inference mode. On a CPU it takes all cores, and loading threads wait.

    Raises GpuMemoryError where a GPU has not memory enough, and IndexingError where it fails.
    """
    if torch.get_num_threads() != _all_cores():  # loading threads change the default
        torch.set_num_threads(_all_cores())
    try:
        with all_cores_taken() if device.type == "cpu" else nullcontext(), torch.inference_mode():
            yield
    except torch.OutOfMemoryError as error:
        raise GpuMemoryError(
            f"not enough GPU memory for {images} images at once; "
            f"give a smaller {option('batch_size')}, or {option('device')} cpu"
        ) from error
    except (
        torch.AcceleratorError
    ) as error:  # a bus that lost it, a driver that reset it: nothing of it can be used again
        raise IndexingError(
            f"the GPU failed ({str(error).splitlines()[0]}); what was committed is whole: run the same command again, "
            f"or with {option('device')} cpu"
        ) from error


def stand_back() -> None:
    """Let a loading thread wait for the end of a forward pass on the CPU, and do its own arithmetic on one core.

    It would otherwise bring a team of threads of its own. OpenMP keeps the number for each thread, but torch also makes it
    the default of threads that have not asked yet: whoever runs a forward pass must ask for all cores again.
    """
    if threading.current_thread() is threading.main_thread():
        return
    _all_cores()
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
    wait_for_cores()


@cache
def _all_cores() -> int:
    """Return the number of threads torch takes by itself, asked once and before any loading thread keeps to one core."""
    return torch.get_num_threads()
