"""Backbones from torchvision: a classifier without its last linear layer, with the transforms of its weights."""

from __future__ import annotations

import torch
import torchvision

from nearshot.backbones.spec import Spec
from nearshot.backbones.state_dict import read_state
from nearshot.backbones.torch_backbone import TorchBackbone
from nearshot.backbones.transforms import preparation_of
from nearshot.backbones.weights import Location, torchvision_weights
from nearshot.schema.errors import WeightsError
from nearshot.schema.vocabulary import Precision


def load(spec: Spec, location: Location, *, device: torch.device, precision: Precision) -> TorchBackbone:
    """Load a torchvision model from a state dict, a safetensors file or a pickle that is read with `weights_only`.

    Weights and transforms travel together: IMAGENET1K_V1 resizes to 256 where V2 resizes to 232.
    """
    transform = torchvision_weights(spec).transforms()
    model = torchvision.models.get_model(spec.model, weights=None)
    model.load_state_dict(read_state(location.path))
    _take_off_classifier(model, spec)

    return TorchBackbone(
        spec.name,
        model,
        preparation=preparation_of(transform),
        preprocessing=repr(transform),
        forward=lambda pixels: model(pixels).flatten(1),
        device=device,
        precision=precision,
    )


def _take_off_classifier(model: torch.nn.Module, spec: Spec) -> None:
    """Put the identity in the place of the last linear layer, which maps features to classes."""
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    if not linear:
        raise WeightsError(f"{spec.name}: this model has no linear classifier to take off; choose another")
    model.set_submodule(linear[-1], torch.nn.Identity())
