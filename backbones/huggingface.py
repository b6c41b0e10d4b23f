"""Backbones from transformers: an image model's pooled output, with the image processor saved beside its weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoModel, TimmWrapperImageProcessor
from transformers.utils.logging import disable_progress_bar

from nearshot.backbones.no_code import forbid_remote_code
from nearshot.backbones.spec import Spec
from nearshot.backbones.torch_backbone import TorchBackbone
from nearshot.backbones.transforms import preparation_of_processor
from nearshot.backbones.weights import Location
from nearshot.schema.errors import WeightsError
from nearshot.schema.vocabulary import Precision


def load(spec: Spec, location: Location, *, device: torch.device, precision: Precision) -> TorchBackbone:
    """Load a transformers model from a directory; no remote code, safetensors only.

    The processor is the PIL one: the torchvision one, transformers' default, resizes up to 2/255 away from it. The dtype
    is given because `from_pretrained` would otherwise take the checkpoint's.
    """
    disable_progress_bar()
    forbid_remote_code()
    directory = str(location.path)
    processor = AutoImageProcessor.from_pretrained(
        directory, backend="pil", local_files_only=True, trust_remote_code=False
    )
    # The processor that wraps timm's transforms, PIL's as well, gives torch tensors only.
    tensors = "pt" if isinstance(processor, TimmWrapperImageProcessor) else "np"
    model, loading = AutoModel.from_pretrained(
        directory,
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    _refuse_random_weights(spec, model, loading["missing_keys"])

    return TorchBackbone(
        spec.name,
        model,
        preparation=preparation_of_processor(processor, tensors),
        preprocessing=processor.to_dict(),
        forward=lambda pixels: _image_vectors(model, pixels),
        device=device,
        precision=precision,
    )


def _refuse_random_weights(spec: Spec, model: Any, missing: Collection[str]) -> None:
    """transformers fills what a checkpoint lacks with random numbers; only a pooler can be done without (CLS instead)."""
    lacking = sorted(key for key in missing if not key.startswith("pooler."))
    if lacking:
        raise WeightsError(
            f"{spec.name}: the checkpoint lacks {len(lacking)} of the model's weights, {lacking[0]} first"
        )
    if missing:
        model.pooler = None


def _image_vectors(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The model's own image features where it has text as well; else its pooled output; else its first (CLS) token.

    DINOv2's pooled output is the CLS token after the final layer norm.
    """
    dual = hasattr(model, "get_image_features")
    output = model.get_image_features(pixel_values=pixels) if dual else model(pixel_values=pixels)
    if isinstance(output, torch.Tensor):
        return output.flatten(1)
    pooled: torch.Tensor | None = getattr(output, "pooler_output", None)
    if pooled is not None:
        return pooled.flatten(1)
    first: torch.Tensor = output.last_hidden_state[:, 0]
    return first
