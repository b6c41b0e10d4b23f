"""Backbones from open_clip: CLIP and its kin, images and words in one space, prepared as their weights were trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from nearshot.backbones.forward import forward_pass
from nearshot.backbones.no_code import forbid_remote_code, reason_of, refuse_foreign_models
from nearshot.backbones.spec import Spec
from nearshot.backbones.torch_backbone import TorchBackbone, Tower
from nearshot.backbones.transforms import preparation_of
from nearshot.backbones.weights import OPEN_CLIP_CONFIG, Location, open_clip_files
from nearshot.schema.errors import WeightsError
from nearshot.schema.vocabulary import Precision


class OpenClip(TorchBackbone):
    """A model of two towers, for images and for words."""

    def __init__(self, spec: Spec, model: Any, transform: Any, *, vocabulary: str, **chosen: Any) -> None:
        """Take over a model; `vocabulary` names its tokenizer as `open_clip.get_tokenizer` wants it."""
        self._name, self._vocabulary = spec.name, vocabulary
        super().__init__(
            spec.name,
            model,
            preparation=preparation_of(transform),
            preprocessing=model.visual.preprocess_cfg,
            forward=model.encode_image,
            **chosen,
        )

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors (n, dimension), not normalised, of n >= 1 texts, by the model's own tokenizer and text tower.

        Raises WeightsError where the tokenizer is not on this machine; those of OpenAI's CLIP come with open_clip.
        """
        tokens = self.tokenizer()(list(texts))
        with forward_pass(self._device, len(texts)):
            vectors: NDArray[np.float32] = self.text_model(tokens.to(self._device)).float().cpu().numpy()
        return vectors

    def tokenizer(self) -> Any:
        """The model's own tokenizer; WeightsError where it is not on this machine."""
        try:
            return open_clip.get_tokenizer(self._vocabulary)
        except (OSError, ValueError, ImportError) as error:
            raise WeightsError(
                f"{self._name}: its tokenizer is not available, so words cannot be compared: {reason_of(error)}"
            ) from error

    @property
    def text_model(self) -> torch.nn.Module:
        """What maps tokens (n, context) to vectors (n, dimension), as a module."""
        encode_text: Any = self._model.encode_text
        return Tower(self._model, encode_text)


def load(spec: Spec, location: Location, *, device: torch.device, precision: Precision) -> OpenClip:
    """Load an open_clip model from a directory with its configuration, or from the file in the hub's cache.

    `create_model_from_pretrained` raises where weights do not fit; its sister `create_model_and_transforms` would go on
    with random ones.
    """
    forbid_remote_code()
    if location.path.is_dir():
        refuse_foreign_models(spec.name, location.path / OPEN_CLIP_CONFIG)
        vocabulary = f"local-dir:{location.path}"
        model, transform = open_clip.create_model_from_pretrained(vocabulary)
    else:
        vocabulary = spec.model
        _, pretrained_config = open_clip_files(spec)
        # A file carries no preprocessing, and open_clip would assume OpenAI's: pass on what belongs to the tag.
        model, transform = open_clip.create_model_from_pretrained(
            spec.model,
            pretrained=str(location.path),
            image_mean=pretrained_config.get("mean"),
            image_std=pretrained_config.get("std"),
            image_interpolation=pretrained_config.get("interpolation"),
            image_resize_mode=pretrained_config.get("resize_mode"),
        )
    return OpenClip(spec, model, transform, vocabulary=vocabulary, device=device, precision=precision)
