"""Train a toy CLIP on the captioned shots of a data directory, to try out search by words where the real one is not available.

    python examples/toy_clip.py DATA WEIGHTS

In some ten seconds it learns which shots go with which caption's words, and writes WEIGHTS/clip/ as open_clip keeps a model,
for `--weights WEIGHTS`. It is a real image and text encoder, but knows nothing beyond these photographs and words.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

STEPS = 300
MODEL: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
PREPROCESSING: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"}


@dataclass(frozen=True)
class Label:
    """The pictures of a label's shots, and the words of its caption."""

    pictures: list[Image.Image]
    words: list[str]


def main(data: Path, weights: Path) -> None:
    """Train, and write the weights."""
    labels = captioned_labels(data)
    if len(labels) < 2:
        sys.exit(f"{data} has fewer than two labels with a captioned shot (shot1.txt beside shot1.png)")
    torch.manual_seed(0)
    model = open_clip.CLIP(**MODEL)
    train(model, labels)
    directory = weights / "clip"
    directory.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")
    config = {"model_cfg": MODEL, "preprocess_cfg": {**PREPROCESSING, "resize_mode": "shortest"}}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    print(f"trained a toy CLIP on the captions of {len(labels)} labels, wrote {directory}")


def captioned_labels(data: Path) -> list[Label]:
    """The labels that have a caption, each with its shots."""
    labels = []
    for caption in sorted(data.glob("*/2.support-set/*/*.txt")):
        pictures = []
        for path in sorted(caption.parent.glob("*.png")):
            with Image.open(path) as image:
                picture = image.convert("RGB")
            picture.thumbnail((160, 160))
            pictures.append(picture)
        labels.append(Label(pictures, caption.read_text(encoding="utf-8").replace(",", "").split()))
    return labels


def train(model: open_clip.CLIP, labels: list[Label]) -> None:
    """Contrast a random crop of each label with some words of each caption (Radford et al., 2021)."""
    chance = random.Random(0)
    augmentation = {"scale": (0.4, 1.0)}
    crop = open_clip.image_transform(64, is_train=True, aug_cfg=augmentation, **PREPROCESSING)
    tokenize = open_clip.SimpleTokenizer(context_length=32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    truth = torch.arange(len(labels))
    for _ in range(STEPS):
        images = torch.stack([crop(chance.choice(label.pictures)) for label in labels])
        image_vectors = model.encode_image(images, normalize=True)
        text_vectors = model.encode_text(tokenize([some_of(label.words, chance) for label in labels]), normalize=True)
        logits = model.logit_scale.exp() * image_vectors @ text_vectors.T
        loss = (cross_entropy(logits, truth) + cross_entropy(logits.T, truth)) / 2
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def some_of(words: list[str], chance: random.Random) -> str:
    """Some words in their order, at least one: so each comes to stand for the picture by itself."""
    kept = sorted(chance.sample(range(len(words)), chance.randint(1, len(words))))
    return " ".join(words[position] for position in kept)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
