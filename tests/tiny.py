"""Tiny models with random weights, saved the way the real ones are, so that the real loading code loads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
import torchvision
from safetensors.torch import save_file
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

CLIP_CONFIG: dict[str, dict[str, Any]] = {
    "model_cfg": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": 2, "width": 32, "head_width": 16, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}


def save_clip(directory: Path) -> None:
    """A CLIP of 3.7 MB with OpenAI's preprocessing."""
    directory.mkdir(parents=True)
    (directory / "open_clip_config.json").write_text(json.dumps(CLIP_CONFIG))
    torch.manual_seed(1)
    model = open_clip.CLIP(**CLIP_CONFIG["model_cfg"])
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")


def save_resnet50(directory: Path) -> None:
    """A ResNet-50 of full size: its loader knows no other."""
    directory.mkdir(parents=True)
    torch.manual_seed(2)
    model = torchvision.models.resnet50(weights=None)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, directory / "resnet50.safetensors"
    )


def save_dinov2(directory: Path, *, seed: int = 3) -> None:
    """A DINOv2 of 150 kB with the real one's preprocessing, at its real size."""
    torch.manual_seed(seed)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=56)
    Dinov2Model(config).save_pretrained(directory)
    BitImageProcessor(
        size={"shortest_edge": 256},
        resample=3,
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(directory)
