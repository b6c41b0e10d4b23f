"""Detectors from transformers, of fixed classes or zero-shot, by the model's own processor: no remote code."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForObjectDetection,
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from nearshot.backbones.device import dtype_of
from nearshot.backbones.forward import forward_pass, prepare_for_forward_passes
from nearshot.backbones.halving import Halving
from nearshot.backbones.no_code import forbid_remote_code
from nearshot.backbones.protocol import fingerprint
from nearshot.backbones.spec import Spec
from nearshot.backbones.torch_backbone import digest_weights
from nearshot.backbones.weights import Location
from nearshot.detectors.protocol import Detection
from nearshot.schema.errors import UsageError, WeightsError, option
from nearshot.schema.vocabulary import Precision

LEAST_SCORE = 0.05
"""Detectors answer with hundreds of guesses; those below this are dropped at once, whatever is chosen of the others."""

LABELLED = 0.25
"""The score from which a word is part of a box's label, where a model gives each word one: transformers' own default."""

LISTED = 12


class HuggingFaceDetector:
    """A detector of fixed classes, or one that looks for words."""

    usual_score = 0.3

    def __init__(self, spec: Spec, location: Location, *, device: torch.device, precision: Precision) -> None:
        """Load a checkpoint directory, safetensors only; WeightsError where it is no detector, or lacks weights."""
        disable_progress_bar()
        forbid_remote_code()
        prepare_for_forward_passes(device)
        directory = str(location.path)
        safely: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        config = AutoConfig.from_pretrained(directory, **safely)
        self._takes_words = config.model_type in MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES
        kind = AutoModelForZeroShotObjectDetection if self._takes_words else AutoModelForObjectDetection
        processing = AutoProcessor if self._takes_words else AutoImageProcessor
        self._processor: Any = processing.from_pretrained(directory, backend="pil", **safely)
        self._model, loading = kind.from_pretrained(
            directory, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **safely
        )
        if missing := sorted(loading["missing_keys"]):
            raise WeightsError(
                f"{spec.name}: the checkpoint lacks {len(missing)} of the model's weights, {missing[0]} first"
            )
        self.name = spec.name
        self._device, self._dtype, self._halving = device, dtype_of(precision, device), Halving()
        self.fingerprint = fingerprint(
            weights=digest_weights(self._model), preprocessing=self._processor.to_dict(), precision=precision
        )
        self._classes: dict[int, str] = {} if self._takes_words else dict(self._model.config.id2label)
        self._model.eval().requires_grad_(False).to(device=device, dtype=self._dtype)

    @property
    def batch_size(self) -> int:
        """2 on a CPU, where each picture takes seconds; on a GPU 16, or what its memory has turned out to hold."""
        return min(2 if self._device.type == "cpu" else 16, self._halving.most)

    def check_words(self, words: Sequence[str]) -> None:
        """Raise UsageError where there are none to look for, or one that is no class of this detector's."""
        if self._takes_words and not words:
            raise UsageError(f"{self.name} looks for what it is told; give {option('find')} WORDS")
        known = [name.lower() for name in self._classes.values()]
        if self._classes and (unknown := [word for word in words if word.lower() not in known]):
            listed = sorted(set(known))
            more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
            raise UsageError(f"{self.name} knows no '{unknown[0]}'; it knows {', '.join(listed[:LISTED])}{more}")

    def prepare(self, picture: Image.Image) -> None:
        """Prepare nothing: pictures of a batch are padded together."""

    def detect(
        self,
        pictures: Sequence[Image.Image],
        words: Sequence[str],
        *,
        masks: bool = False,
        prepared: Sequence[Any] | None = None,
    ) -> list[list[Detection]]:
        """The detections in each picture with a score of 0.05 or more, best first."""
        if masks:
            raise UsageError(
                f"{self.name} gives boxes, no masks; leave {option('mask')} out, or take florence2 or regions"
            )
        self.check_words(words)
        parts = self._halving.apply(lambda part: self._detect(part, words), pictures)
        return [detections for part in parts for detections in part]

    def _detect(self, pictures: Sequence[Image.Image], words: Sequence[str]) -> list[list[Detection]]:
        texts = {"text": [list(words) for _ in pictures], "padding": True} if self._takes_words else {}
        given = self._processor(images=list(pictures), return_tensors="pt", **texts)
        with forward_pass(self._device, len(pictures)):
            on_device = {
                name: value.to(self._device, self._dtype if value.is_floating_point() else None)
                for name, value in given.items()
            }
            sizes = torch.tensor([picture.size[::-1] for picture in pictures])
            answers = self._post_process(self._model(**on_device), given, sizes, words)
        wanted = {word.lower() for word in words} if not self._takes_words else None
        return [self._detections(answer, wanted) for answer in answers]

    def _post_process(
        self, outputs: Any, given: Any, sizes: torch.Tensor, words: Sequence[str]
    ) -> list[dict[str, Any]]:
        """The library's own post-processing: boxes in pixels of each picture, scores and labels."""
        more: dict[str, Any] = {"threshold": LEAST_SCORE, "target_sizes": sizes.to(self._device)}
        if not self._takes_words:
            answers: list[dict[str, Any]] = self._processor.post_process_object_detection(outputs, **more)
            return answers
        method = self._processor.post_process_grounded_object_detection
        known = inspect.signature(method).parameters
        if "input_ids" in known:
            more["input_ids"] = given["input_ids"]
        if "text_threshold" in known:
            more["text_threshold"] = LABELLED
        if "text_labels" in known:
            more["text_labels"] = [list(words)] * len(sizes)
        answers = method(outputs, **more)
        return answers

    def _detections(self, answer: dict[str, Any], wanted: set[str] | None) -> list[Detection]:
        labels = answer.get("text_labels")
        names = (
            [str(each) for each in labels]
            if labels is not None
            else [
                self._classes.get(int(each), str(int(each))) if not isinstance(each, str) else each
                for each in answer["labels"]
            ]
        )
        boxes, scores = answer["boxes"].float().cpu().tolist(), answer["scores"].float().cpu().tolist()
        detections = [
            Detection((box[0], box[1], box[2], box[3]), name or None, score)
            for box, name, score in zip(boxes, names, scores, strict=True)
            if wanted is None or not wanted or name.lower() in wanted
        ]
        return sorted(detections, key=lambda detection: -(detection.score or 0.0))
