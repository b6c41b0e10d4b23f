"""Scenes: parts of scikit-image's photographs laid on its textures, with the boxes that they were laid in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw

PHOTOGRAPHS = Path(skimage.data.__file__).parent

OBJECTS = (
    *("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "camera.png", "coins.png"),
    *("hubble_deep_field.jpg", "ihc.png", "moon.png", "page.png", "retina.jpg", "horse.png", "color.png"),
)
TEXTURES = ("brick.png", "grass.png", "gravel.png")
SIZES = ((640, 480), (800, 600), (512, 512), (1200, 900))
APART = 16

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    """A picture, the boxes of the objects in it, and their names."""

    picture: Image.Image
    boxes: tuple[Box, ...]
    names: tuple[str, ...]


def compose(seed: int, objects: tuple[str, ...] = OBJECTS) -> Scene:
    """A scene of one to four objects, rectangles and ellipses, on a texture that may be tinted."""
    chance = np.random.default_rng(seed)
    size = SIZES[chance.integers(len(SIZES))]
    picture = _tiled(_photograph(TEXTURES[chance.integers(len(TEXTURES))]), size)
    if chance.random() < 0.5:
        tint = Image.new("RGB", size, tuple(int(level) for level in chance.integers(60, 256, 3)))
        picture = Image.blend(picture, tint, float(chance.uniform(0.1, 0.4)))
    boxes: list[Box] = []
    names: list[str] = []
    for _ in range(int(chance.integers(1, 5))):
        for _ in range(50):
            name = objects[chance.integers(len(objects))]
            part = _part(_photograph(name), float(chance.uniform(0.12, 0.4)) * min(size), chance)
            left, top = (int(chance.integers(8, whole - own - 8)) for whole, own in zip(size, part.size, strict=True))
            box = (left, top, left + part.width, top + part.height)
            if all(_are_apart(box, other) for other in boxes):
                mask = Image.new("L", part.size, 0)
                draw = ImageDraw.Draw(mask)
                shape = draw.ellipse if chance.random() < 0.5 else draw.rectangle
                shape((0, 0, part.width - 1, part.height - 1), fill=255)
                picture.paste(part, (left, top), mask)
                boxes.append(box)
                names.append(Path(name).stem)
                break
    return Scene(picture, tuple(boxes), tuple(names))


def paste_one(seed: int) -> tuple[Scene, Image.Image]:
    """A scene of 512 x 512 with one part of a photograph in colour on a texture, and that photograph."""
    chance = np.random.default_rng(seed)
    coloured = [name for name in OBJECTS if name not in ("camera.png", "coins.png", "moon.png", "page.png")]
    name = coloured[chance.integers(len(coloured))]
    picture = _tiled(_photograph(TEXTURES[chance.integers(len(TEXTURES))]), (512, 512))
    part = _part(_photograph(name), float(chance.uniform(0.3, 0.55)) * 512, chance)
    left, top = (int(chance.integers(40, 512 - own - 40)) for own in part.size)
    picture.paste(part, (left, top))
    box = (left, top, left + part.width, top + part.height)
    return Scene(picture, (box,), (Path(name).stem,)), _photograph(name)


def iou(first: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The intersection of two boxes over their union."""
    width = min(first[2], other[2]) - max(first[0], other[0])
    height = min(first[3], other[3]) - max(first[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, other))
    return width * height / (areas - width * height)


def _photograph(name: str) -> Image.Image:
    with Image.open(PHOTOGRAPHS / name) as image:
        return image.convert("RGB")


def _tiled(texture: Image.Image, size: tuple[int, int]) -> Image.Image:
    picture = Image.new("RGB", size)
    for top in range(0, size[1], texture.height):
        for left in range(0, size[0], texture.width):
            picture.paste(texture, (left, top))
    return picture


def _part(photograph: Image.Image, side: float, chance: np.random.Generator) -> Image.Image:
    share = float(chance.uniform(0.5, 1))
    width, height = int(photograph.width * share), int(photograph.height * share)
    left = int(chance.integers(0, photograph.width - width + 1))
    top = int(chance.integers(0, photograph.height - height + 1))
    part = photograph.crop((left, top, left + width, top + height))
    scale = side / max(part.size)
    return part.resize((max(8, round(width * scale)), max(8, round(height * scale))))


def _are_apart(first: Box, other: Box) -> bool:
    return (
        first[2] + APART < other[0]
        or other[2] + APART < first[0]
        or first[3] + APART < other[1]
        or other[3] + APART < first[1]
    )
