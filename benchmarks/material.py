"""What the benchmarks work on: full-size models with random weights, JPEGs cut from real photographs, and the machine."""

from __future__ import annotations

import json
import platform
import random
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import skimage.data
from PIL import Image

PHOTOGRAPHS = (
    *("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png"),
    *("motorcycle_right.png", "retina.jpg", "rocket.jpg"),
)


def save_weights(directory: Path) -> None:
    """Save CLIP ViT-B/32, ResNet-50 and DINOv2-base at full size with random weights, as `--weights` wants them."""
    import open_clip
    import torch
    import torchvision
    from safetensors.torch import save_file
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    (directory / "clip").mkdir(parents=True)
    architecture = open_clip.get_model_config("ViT-B-32-quickgelu")
    pretrained_config = open_clip.get_pretrained_cfg("ViT-B-32-quickgelu", "openai")
    names = ("mean", "std", "interpolation", "resize_mode")
    config = {"model_cfg": architecture, "preprocess_cfg": {name: pretrained_config[name] for name in names}}
    (directory / "clip/open_clip_config.json").write_text(json.dumps(config))
    save_file(open_clip.CLIP(**architecture).state_dict(), directory / "clip/open_clip_model.safetensors")

    (directory / "resnet50").mkdir()
    state = torchvision.models.resnet50(weights=None).state_dict()
    save_file(state, directory / "resnet50/resnet50.safetensors")

    config = Dinov2Config(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, image_size=518, patch_size=14)
    Dinov2Model(config).save_pretrained(directory / "dinov2")
    BitImageProcessor(
        size={"shortest_edge": 256},
        resample=3,
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(directory / "dinov2")


def save_jpegs(root: Path, count: int, *, size: tuple[int, int] = (500, 375), seed: int = 0) -> None:
    """Save distinct JPEGs as queries of one category, with one shot so that there is a support set."""
    chance = random.Random(seed)
    pictures = [Image.open(Path(skimage.data.__file__).parent / name).convert("RGB") for name in PHOTOGRAPHS]
    queries = root / "photos/6.preprocessed"
    queries.mkdir(parents=True)
    for number in range(count):
        picture = chance.choice(pictures)
        width = chance.uniform(0.5, 1.0) * picture.width
        height = min(width * size[1] / size[0], picture.height)
        left, top = chance.uniform(0, picture.width - width), chance.uniform(0, picture.height - height)
        crop = picture.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
        crop.save(queries / f"{number:06}.jpg", quality=90)


def machine() -> str:
    """The processor, cores and library versions, in a line."""
    import os

    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "transformers", "pillow"))
    return f"{os.cpu_count()} cores, {model}; Python {platform.python_version()}, {packages}"


def spread(values: Sequence[float]) -> str:
    """The median and the range."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
