"""Explaining: which places of a query and of the shot that won make their score, and which look alike.

Where a backbone's vector is the mean of its patches (ResNet-50, `lite0`), a patch's product with the other picture's vector is
its share of the cosine; for transformers (DINOv2, CLIP), whose vector is a token of its own, the same product of the patch
tokens is what comes nearest to it. Pairs of places are each other's nearest by cosine.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nearshot.backbones.decode import decode, upright
from nearshot.backbones.limits import MAX_BYTES
from nearshot.backbones.loading import load_backbone
from nearshot.backbones.protocol import Backbone
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.retriever.answer import Answer
from nearshot.retriever.choose_backbone import require_indexed
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.errors import UsageError
from nearshot.schema.paths import path_of, read_file

PAIRS = 5
PANEL = 480
"""The longer side of each of the two pictures in an explanation, in pixels."""

COLOURS = ("#e6007a", "#00a0e6", "#f5a300", "#00a651", "#7a3fe6")

Region = tuple[float, float, float, float]
Point = tuple[float, float]


class Pair(NamedTuple):
    """Two places that look alike, in pixels of the query and of the shot, and the cosine of their patches."""

    query: Point
    shot: Point
    cosine: float


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What made the score of an answer's nearest shot: heat (h, w) float32 within [0, 1] over the part of each picture that was
    seen, the place of the query's peak in pixels, the places that look alike most, and all of it as a picture."""

    answer: Answer
    shot: str
    query_heat: NDArray[np.float32]
    shot_heat: NDArray[np.float32]
    peak: Point
    pairs: tuple[Pair, ...]
    picture: Image.Image

    def as_json(self) -> dict[str, Any]:
        """The object under `explanation` in `query --json`: places in pixels of the upright pictures."""
        return {
            "shot": self.shot,
            "peak": [round(each, 1) for each in self.peak],
            "pairs": [
                {
                    "query": [round(each, 1) for each in pair.query],
                    "shot": [round(each, 1) for each in pair.shot],
                    "cosine": round(pair.cosine, 4),
                }
                for pair in self.pairs
            ],
        }

    def as_png(self) -> bytes:
        """The picture as a PNG."""
        file = io.BytesIO()
        self.picture.save(file, "PNG")
        return file.getvalue()

    def _repr_png_(self) -> bytes:
        return self.as_png()


def load_explainer(row: BackboneRow, *, weights: Path | None, device: str) -> Backbone:
    """The backbone of a row in torch, which alone shows its patches. UsageError for one that has none, WeightsError."""
    if "+" in row.name and not row.name.startswith(("hf:", "timm:", "open_clip:", "torchvision:")):
        raise UsageError(f"{row.name} is several backbones; explain by one of them")
    choice = resolve(parse_spec(row.name), row=row, weights=weights)
    loaded = load_backbone(choice.spec, choice.location, device=device, precision=choice.precision)
    return require_indexed(loaded, row)


def explain(backbone: Backbone, answer: Answer, asked: bytes | Image.Image, *, max_pixels: int) -> Explanation:
    """Explain an answer about an image: its encoded bytes, or all its pixels, upright.

    Raises UsageError where it has no shot, or the backbone no patches, and ImageError. Where the answer is about a part of the
    image, so is the explanation; its places are in pixels of the whole.
    """
    from nearshot.backbones.patches import seen_part
    from nearshot.backbones.torch_backbone import TorchBackbone

    nearest = answer.decision.nearest
    if nearest is None:
        raise UsageError("there is no shot to explain a score by")
    if not isinstance(backbone, TorchBackbone):
        raise UsageError(
            f"{backbone.description.name} has no patches to explain by; take lite0, dinov2, clip or resnet50"
        )
    whole = decode(asked, max_pixels=max_pixels, whole=True).picture if isinstance(asked, bytes) else asked
    part = whole if answer.box is None else whole.crop(answer.box)
    query = upright(part)
    path = nearest.best.image.path
    try:
        shot = decode(read_file(path_of(path), most=MAX_BYTES), max_pixels=max_pixels).picture
    except OSError as error:
        raise UsageError(f"the shot {path} cannot be read: {error.strerror or error}") from error
    patches = backbone.patches([backbone.prepare(query), backbone.prepare(shot)])
    if patches is None:
        raise UsageError(
            f"{backbone.description.name} has no patches to explain by; take lite0, dinov2, clip or resnet50"
        )
    regions = [seen_part(backbone.prepare, picture.size) for picture in (query, shot)]
    heats = [_scaled(shares(own, other)) for own, other in (patches, patches[::-1])]
    pairs = tuple(
        Pair(_place(first, patches[0].shape, regions[0]), _place(second, patches[1].shape, regions[1]), cosine)
        for first, second, cosine in alike(patches[0], patches[1])
    )
    picture = _drawn([query, shot], heats, regions, pairs)
    corner, scale = (answer.box or (0, 0))[:2], part.width / query.width

    def in_the_image(point: Point) -> Point:
        return corner[0] + point[0] * scale, corner[1] + point[1] * scale

    return Explanation(
        answer,
        path,
        heats[0],
        heats[1],
        in_the_image(peak(heats[0], regions[0])),
        tuple(pair._replace(query=in_the_image(pair.query)) for pair in pairs),
        picture,
    )


def shares(own: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """The share (h, w) that each patch (h, w, c) of a picture has in its cosine with another's; they sum to the cosine of the
    means of both."""
    vector = other.reshape(-1, other.shape[-1]).mean(axis=0)
    own_mean = own.reshape(-1, own.shape[-1]).mean(axis=0)
    lengths = float(np.linalg.norm(vector) * np.linalg.norm(own_mean)) or 1.0
    each: NDArray[np.float32] = own @ vector / (lengths * own.shape[0] * own.shape[1])
    return each


def alike(query: NDArray[np.float32], shot: NDArray[np.float32], most: int = PAIRS) -> list[tuple[int, int, float]]:
    """The patches (h, w, c) of two pictures that are each other's nearest, as flat indices, and their cosines, best first."""
    first, second = (_units(each.reshape(-1, each.shape[-1])) for each in (query, shot))
    cosines = first @ second.T
    theirs, ours = cosines.argmax(axis=1), cosines.argmax(axis=0)
    mutual = [(index, int(theirs[index])) for index in range(len(first)) if ours[theirs[index]] == index]
    ordered = sorted(mutual, key=lambda pair: (-float(cosines[pair]), pair))
    return [(index, other, float(cosines[index, other])) for index, other in ordered[:most]]


def peak(heat: NDArray[np.float32], region: Region) -> Point:
    """The hottest place in pixels of the picture whose region a heat map covers, between the patches by cubic interpolation."""
    fine = np.asarray(Image.fromarray(heat).resize((256, 256), Image.Resampling.BICUBIC))
    row, column = np.unravel_index(int(fine.argmax()), fine.shape)
    left, top, right, bottom = region
    return left + (column + 0.5) / 256 * (right - left), top + (row + 0.5) / 256 * (bottom - top)


def _units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return units


def _scaled(shares_of: NDArray[np.float32]) -> NDArray[np.float32]:
    """Heat within [0, 1]: what speaks against the score is cold."""
    kept = np.maximum(shares_of, 0).astype(np.float32)
    highest = float(kept.max())
    return kept / highest if highest > 0 else kept


def _place(index: int, shape: tuple[int, ...], region: Region) -> Point:
    row, column = divmod(index, shape[1])
    left, top, right, bottom = region
    return left + (column + 0.5) / shape[1] * (right - left), top + (row + 0.5) / shape[0] * (bottom - top)


def _drawn(
    pictures: list[Image.Image], heats: list[NDArray[np.float32]], regions: list[Region], pairs: tuple[Pair, ...]
) -> Image.Image:
    """The query and the shot side by side, warm where they make the score, with lines between the places that look alike."""
    panels = [_panel(*each) for each in zip(pictures, heats, regions, strict=True)]
    scales = [panel.width / picture.width for panel, picture in zip(panels, pictures, strict=True)]
    height = max(panel.height for panel in panels)
    gap = 24
    sheet = Image.new("RGB", (panels[0].width + gap + panels[1].width, height), "white")
    sheet.paste(panels[0], (0, 0))
    sheet.paste(panels[1], (panels[0].width + gap, 0))
    draw = ImageDraw.Draw(sheet)
    for pair, colour in zip(pairs, COLOURS, strict=False):
        start = (pair.query[0] * scales[0], pair.query[1] * scales[0])
        end = (panels[0].width + gap + pair.shot[0] * scales[1], pair.shot[1] * scales[1])
        draw.line([start, end], fill=colour, width=2)
        for x, y in (start, end):
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), outline="white", fill=colour)
    return sheet


def _panel(picture: Image.Image, heat: NDArray[np.float32], region: Region) -> Image.Image:
    scale = PANEL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    shown = picture.resize(size, Image.Resampling.LANCZOS)
    left, top, right, bottom = (round(side * scale) for side in region)
    seen = (max(1, right - left), max(1, bottom - top))
    warm = Image.new("L", size, 0)
    levels = Image.fromarray((np.clip(heat, 0, 1) * 255).astype(np.uint8)).resize(seen, Image.Resampling.BICUBIC)
    warm.paste(levels, (left, top))
    grey = Image.blend(shown.convert("L").convert("RGB"), Image.new("RGB", size, "black"), 0.35)
    glowing = Image.blend(shown, Image.new("RGB", size, "#ff9a00"), 0.25)
    return Image.composite(glowing, grey, warm)
