"""Captions by Florence-2, in transformers' own implementation: no remote code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor, Florence2ForConditionalGeneration
from transformers.utils.logging import disable_progress_bar

from nearshot.backbones.device import dtype_of
from nearshot.backbones.device_batch import DeviceBatches
from nearshot.backbones.forward import forward_pass, prepare_for_forward_passes, stand_back
from nearshot.backbones.halving import Halving
from nearshot.backbones.no_code import forbid_remote_code
from nearshot.backbones.protocol import Prepared, fingerprint
from nearshot.backbones.torch_backbone import digest_weights
from nearshot.backbones.transforms import preparation_of_processor
from nearshot.backbones.weights import Location
from nearshot.schema.errors import WeightsError
from nearshot.schema.vocabulary import CaptionTask, Precision

PROMPTS = {
    CaptionTask.CAPTION: "<CAPTION>",
    CaptionTask.DETAILED: "<DETAILED_CAPTION>",
    CaptionTask.MORE_DETAILED: "<MORE_DETAILED_CAPTION>",
    CaptionTask.OCR: "<OCR>",
    CaptionTask.REGIONS: "<DENSE_REGION_CAPTION>",
}
LENGTHS = {
    CaptionTask.CAPTION: 64,
    CaptionTask.DETAILED: 128,
    CaptionTask.MORE_DETAILED: 256,
    CaptionTask.OCR: 512,
    CaptionTask.REGIONS: 512,
}
"""The most tokens that a task may take. Without a length of its own, generation stops after 21."""

PROMPTS_KEPT = 64

_LOCATIONS = re.compile(r"(?:<loc_\d+>|</?poly>)+")
_TOKENS = re.compile(r"</?[a-z_]+(?:_\d+)?>")


class Florence2:
    """A Florence-2 in eval mode on a device; beams, lengths and penalties as its own generation configuration has them."""

    def __init__(self, location: Location, *, device: torch.device, precision: Precision) -> None:
        """Load a checkpoint directory; WeightsError where it lacks weights. Never random ones."""
        disable_progress_bar()
        forbid_remote_code()
        prepare_for_forward_passes(device)
        directory = str(location.path)
        self._device, self._dtype = device, dtype_of(precision, device)
        self._processor: Any = AutoProcessor.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        self._model, loading = Florence2ForConditionalGeneration.from_pretrained(
            directory,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        if missing := sorted(loading["missing_keys"]):
            raise WeightsError(
                f"florence2: the checkpoint lacks {len(missing)} of the model's weights, {missing[0]} first"
            )
        preprocessing = {
            "processor": self._processor.image_processor.to_dict(),
            "generation": self._model.generation_config.to_dict(),
            "lengths": LENGTHS,
        }
        self.fingerprint = fingerprint(
            weights=digest_weights(self._model), preprocessing=preprocessing, precision=precision
        )
        self._model.eval().requires_grad_(False).to(device=device, dtype=self._dtype)
        self.preparation = preparation_of_processor(self._processor.image_processor, "np")
        self._batches = DeviceBatches(self.preparation, device, self._dtype, torch.contiguous_format)
        self._halving = Halving()
        self._most_tokens: int = self._model.config.text_config.max_position_embeddings
        self._prompts: dict[str, torch.Tensor] = {}

    @property
    def batch_size(self) -> int:
        """4 on a CPU, where each picture takes seconds; on a GPU 64, or what its memory has turned out to hold."""
        return min(4 if self._device.type == "cpu" else 64, self._halving.most)

    def prepare(self, picture: Image.Image) -> Prepared:
        """The picture by the checkpoint's own image processor: uint8 (H, W, 3) that is looked up, or float32 (3, H, W)."""
        stand_back()
        return self.preparation(picture)

    def caption(self, batch: Sequence[Prepared], task: CaptionTask) -> list[str]:
        """The captions of n prepared pictures."""
        return [clean(text, task) for text in self.write(batch, PROMPTS[task], LENGTHS[task])]

    def write(self, batch: Sequence[Prepared], prompt: str, length: int) -> list[str]:
        """What the model writes of n prepared pictures after a prompt, in at most `length` tokens, its own among the words.

        In halves where a GPU has no memory for all of them at once.
        """
        return list(chain(*self._halving.apply(lambda part: self._write(part, prompt, length), batch)))

    def boxes(self, text: str, prompt: str, size: tuple[int, int]) -> dict[str, Any]:
        """What was written after a prompt as boxes and polygons in a picture of a size (width, height), by transformers."""
        task = prompt[: prompt.index(">") + 1]
        answer: dict[str, Any] = self._processor.post_process_generation(text, task=task, image_size=size)[task]
        return answer

    def _write(self, batch: Sequence[Prepared], prompt: str, length: int) -> list[str]:
        ids = self._prompt(prompt).expand(len(batch), -1)
        with forward_pass(self._device, len(batch)):
            tokens = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=self._batches.values(self._batches.send(batch)),
                max_new_tokens=min(length, self._most_tokens),
                do_sample=False,
            ).cpu()
        # Special tokens stay: the locations are among them in the published checkpoints.
        texts: list[str] = self._processor.batch_decode(tokens, skip_special_tokens=False)
        return texts

    def _prompt(self, prompt: str) -> torch.Tensor:
        """The token ids (1, n) of a prompt, image places included. They are the same for every picture: nothing is padded."""
        if prompt not in self._prompts:
            blank = Image.new("RGB", (8, 8))
            if len(self._prompts) >= PROMPTS_KEPT:
                self._prompts.clear()
            given = self._processor(text=[prompt], images=[blank], return_tensors="pt")
            self._prompts[prompt] = given["input_ids"].to(self._device)
        return self._prompts[prompt]


def clean(text: str, task: CaptionTask) -> str:
    """A caption as it is stored: one line of plain words; the distinct regions' descriptions, separated by semicolons."""
    if task == CaptionTask.REGIONS:
        regions = (part.strip() for part in _LOCATIONS.split(_without_tokens(text, keep_locations=True)))
        return "; ".join(dict.fromkeys(region for region in regions if region))
    return _without_tokens(text, keep_locations=False)


def _without_tokens(text: str, *, keep_locations: bool) -> str:
    plain = text if keep_locations else _LOCATIONS.sub(" ", text)
    kept = _TOKENS.sub(lambda match: match[0] if keep_locations and _LOCATIONS.fullmatch(match[0]) else " ", plain)
    return " ".join(kept.split())
