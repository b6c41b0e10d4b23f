"""Write a small data set in nearshot's directory contract from the photographs that scikit-image ships in its wheel.

    python examples/make_demo.py DIRECTORY

Shots are crops of a photograph (of the left one of a stereo pair, for the motorcycle); queries are other crops (of the
right one), objects cut out and laid on another background, photographs that show none of the labels, and one that shows two.
Raw pictures show several objects each, for `nearshot crop` to cut out.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import skimage.data
from PIL import Image, ImageDraw, ImageFilter

PHOTOGRAPHS = Path(skimage.data.__file__).parent

Box = tuple[float, float, float, float]
SHOTS: tuple[Box, ...] = ((0.0, 0.0, 0.8, 0.8), (0.2, 0.0, 1.0, 0.8), (0.0, 0.2, 0.8, 1.0), (0.2, 0.2, 1.0, 1.0))
QUERIES: tuple[Box, ...] = ((0.1, 0.1, 0.9, 0.9), (0.05, 0.1, 0.8, 0.85))


@dataclass(frozen=True)
class Category:
    """Labels with the photograph that their shots are cut from; labels with another one for their queries; strangers.

    `cut_out` has, of a label, where its object lies in the photograph (an ellipse in that box), and a background to lay it on.
    `scenes` are raw pictures: a background, and photographs with the upper left corner that each is laid at.
    """

    labels: dict[str, str]
    query_photographs: dict[str, str]
    strangers: tuple[str, ...]
    cut_out: dict[str, tuple[Box, str]]
    mixed: tuple[str, str] | None = None
    scenes: tuple[tuple[str, dict[str, tuple[int, int]]], ...] = ()


CAPTIONS = {
    "astronaut": "an astronaut in an orange suit, smiling, with a flag and a model of the shuttle behind her",
    "cat": "the face of a ginger cat, looking up",
    "coffee": "a cup of black coffee on a saucer, and a spoon",
    "motorcycle": "a motorcycle parked in a garage",
    "rocket": "a rocket standing on its launch pad",
    "galaxies": "galaxies of many shapes in the dark of deep space",
    "retina": "the retina of an eye, orange, with its blood vessels",
    "tissue": "stained tissue under a microscope",
    "brick": "a wall of bricks",
    "grass": "grass seen from above",
    "gravel": "grey gravel",
}
"""What a person wrote of the first shot of each label, into a text file beside it."""

CATEGORIES = {
    "objects": Category(
        labels={
            "astronaut": "astronaut.png",
            "cat": "chelsea.png",
            "coffee": "coffee.png",
            "motorcycle": "motorcycle_left.png",
            "rocket": "rocket.jpg",
        },
        query_photographs={"motorcycle": "motorcycle_right.png"},
        strangers=("camera.png", "coins.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "page.png"),
        cut_out={
            "cat": ((0.24, 0.0, 0.76, 0.95), "brick.png"),
            "coffee": ((0.12, 0.10, 0.80, 0.98), "grass.png"),
            "motorcycle": ((0.02, 0.10, 0.98, 1.0), "gravel.png"),
            "rocket": ((0.2, 0.0, 0.9, 1.0), "grass.png"),
        },
        scenes=(
            ("grass.png", {"chelsea.png": (60, 50), "coffee.png": (480, 90), "hubble_deep_field.jpg": (250, 420)}),
            ("gravel.png", {"rocket.jpg": (70, 380), "motorcycle_right.png": (90, 60), "astronaut.png": (540, 300)}),
        ),
    ),
    "science": Category(
        labels={"galaxies": "hubble_deep_field.jpg", "retina": "retina.jpg", "tissue": "ihc.png"},
        query_photographs={},
        strangers=("rocket.jpg", "page.png"),
        cut_out={},
    ),
    "textures": Category(
        labels={"brick": "brick.png", "grass": "grass.png", "gravel": "gravel.png"},
        query_photographs={},
        strangers=("coffee.png", "chelsea.png"),
        cut_out={},
        mixed=("grass", "gravel"),
    ),
}


def main(directory: Path) -> None:
    """Write the data set."""
    for name, category in CATEGORIES.items():
        _write_category(directory / name, category)
    pictures = list(directory.rglob("*.png"))
    raw = sum("1.raw" in path.parts for path in pictures)
    print(f"wrote {len(pictures) - raw} images in {len(CATEGORIES)} categories, and {raw} raw pictures, to {directory}")


def _write_category(root: Path, category: Category) -> None:
    support, queries = root / "2.support-set", root / "6.preprocessed"
    for label, photograph in category.labels.items():
        for number, box in enumerate(SHOTS, start=1):
            _save(_crop(_open(photograph), box), support / label / f"shot{number}.png")
        (support / label / "shot1.txt").write_text(f"{CAPTIONS[label]}\n", encoding="utf-8")
        asked = _open(category.query_photographs.get(label, photograph))
        for number, box in enumerate(QUERIES, start=1):
            _save(_crop(asked, box), queries / label / f"{label}-{number}.png")
        if label in category.cut_out:
            box, background = category.cut_out[label]
            _save(_laid_on(asked, box, _open(background)), queries / label / f"{label}-on-{Path(background).stem}.png")
    for photograph in category.strangers:
        stem = Path(photograph).stem
        _save(_open(photograph), queries / "Unknown" / f"{stem}.png")
    for number, (background, objects) in enumerate(category.scenes, start=1):
        _save(_scene(_open(background), objects), root / "1.raw" / f"scene-{number}.png")
    if category.mixed:
        left, right = (_open(category.labels[label]) for label in category.mixed)
        half = left.width // 2
        left.paste(right.crop((half, 0, right.width, right.height)), (half, 0))
        _save(left, queries / "both" / f"{'-and-'.join(category.mixed)}.png")


def _open(name: str) -> Image.Image:
    with Image.open(PHOTOGRAPHS / name) as image:
        return image.convert("RGB")


def _laid_on(image: Image.Image, box: Box, background: Image.Image) -> Image.Image:
    """What lies in an ellipse of a photograph, with a soft edge, on another background."""
    inside = _crop(image, box)
    mask = Image.new("L", inside.size, 0)
    ImageDraw.Draw(mask).ellipse((4, 4, inside.width - 4, inside.height - 4), fill=255)
    side = round(1.15 * max(inside.size))
    laid = background.resize((side, side))
    corner = ((side - inside.width) // 2, (side - inside.height) // 2)
    laid.paste(inside, corner, mask.filter(ImageFilter.GaussianBlur(3)))
    return laid


def _scene(background: Image.Image, objects: dict[str, tuple[int, int]]) -> Image.Image:
    """Photographs laid on a background of 900 x 700, each 280 pixels long at most."""
    scene = background.resize((900, 900)).crop((0, 0, 900, 700))
    for photograph, corner in objects.items():
        picture = _crop(_open(photograph), QUERIES[0])
        picture.thumbnail((280, 280))
        scene.paste(picture, corner)
    return scene


def _crop(image: Image.Image, box: Box) -> Image.Image:
    left, top, right, bottom = box
    width, height = image.size
    return image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
