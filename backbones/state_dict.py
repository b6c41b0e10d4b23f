"""State dicts: a checkpoint's tensors by name, read without running anything that comes with them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, or of a pickle that is read with `weights_only`."""
    if path.suffix == ".safetensors":
        return load_file(path)
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
