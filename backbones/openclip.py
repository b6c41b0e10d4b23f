"""Backbones from open_clip: CLIP's image tower, with the preprocessing that its weights were trained under."""

from __future__ import annotations

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image

from backbones.protocol import Precision
from backbones.spec import Spec
from backbones.torch_backbone import TorchBackbone
from backbones.weights import Location, open_clip_files


def load(spec: Spec, location: Location, *, device: torch.device, precision: Precision) -> TorchBackbone:
    """Load an open_clip model from a directory with its configuration, or from the file in the hub's cache.

    `create_model_from_pretrained` raises where weights do not fit; its sister `create_model_and_transforms` would go on
    with random ones.
    """
    if location.path.is_dir():
        model, transform = open_clip.create_model_from_pretrained(f"local-dir:{location.path}")
    else:
        _, facts = open_clip_files(spec)
        # A file carries no preprocessing, and open_clip would assume OpenAI's: pass on what belongs to the tag.
        model, transform = open_clip.create_model_from_pretrained(
            spec.model,
            pretrained=str(location.path),
            image_mean=facts.get("mean"),
            image_std=facts.get("std"),
            image_interpolation=facts.get("interpolation"),
            image_resize_mode=facts.get("resize_mode"),
        )

    def preprocess(picture: Image.Image) -> NDArray[np.float32]:
        pixels: NDArray[np.float32] = transform(picture).numpy()
        return pixels

    return TorchBackbone(
        spec.name,
        model,
        preprocess=preprocess,
        preprocessing=model.visual.preprocess_cfg,
        forward=model.encode_image,
        device=device,
        precision=precision,
    )
