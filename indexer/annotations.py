"""Annotations: the boxes and labels of pictures, as COCO, YOLO, Label Studio and CVAT write them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

from nearshot.schema.contract import has_image_suffix
from nearshot.schema.errors import UsageError, option


class Annotation(NamedTuple):
    """What a part of a picture shows: a box (left, top, right, bottom); None for all of it.

    The box is in pixels of a picture of the size `of` (width, height), or where that is None of the picture as it is.
    """

    name: str
    box: tuple[float, float, float, float] | None
    of: tuple[float, float] | None


class Picture(NamedTuple):
    """A picture, by its file, and what was said of it."""

    path: Path
    annotations: tuple[Annotation, ...]


class Annotated(NamedTuple):
    """The pictures of a set that are there, and how many that it names are not."""

    pictures: list[Picture]
    missing: int


Named = Iterator[tuple[str, list[Annotation]]]
"""Pictures by the names that a file has for them."""

SHARES = (1.0, 1.0)
"""The size of a picture whose boxes are shares of it."""


def read_annotated(kind: str, source: Path, images: Path | None = None) -> Annotated:
    """Read annotations of a kind; their pictures are looked for beside them, or in `images`.

    UsageError where there are none, where they are not what they should be, or where no picture is there.
    """
    try:
        named, around = _READERS[kind](source)
        directories = [images] if images is not None else around
        annotated = _locate(named, directories)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{source} cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ElementTree.ParseError) as error:
        raise UsageError(f"{source} is no {KINDS[kind]}: {type(error).__name__}: {error}") from error
    if not annotated.pictures:
        raise UsageError(
            f"{source} names {annotated.missing} pictures, of which none is in {' or '.join(map(str, directories))}; "
            f"say where they are with {option('images')}"
            if annotated.missing
            else f"{source} says of no picture what it shows"
        )
    return annotated


def _coco(source: Path) -> tuple[Named, list[Path]]:
    """Instances of COCO: https://cocodataset.org/#format-data."""
    file = _only_file(source, "*.json")
    data = json.loads(file.read_text(encoding="utf-8"))
    names = {each["id"]: str(each["name"]) for each in data["categories"]}
    boxes: dict[Any, list[tuple[str, Sequence[float]]]] = {}
    for each in data["annotations"]:
        if not each.get("iscrowd") and each.get("bbox"):
            boxes.setdefault(each["image_id"], []).append((names[each["category_id"]], each["bbox"]))

    def read() -> Named:
        for image in data["images"]:
            of = (float(image["width"]), float(image["height"])) if "width" in image and "height" in image else None
            own = [
                Annotation(name, (left, top, left + width, top + height), of)
                for name, (left, top, width, height) in boxes.get(image["id"], ())
            ]
            yield str(image["file_name"]), own

    split = re.sub(r"^(instances|annotations|_annotations\.coco)[_.]?", "", file.stem)
    return read(), [*_around(file), *([file.parent.parent / split] if split else [])]


def _yolo(source: Path) -> tuple[Named, list[Path]]:
    """A directory of pictures with a text file each, beside it or below `labels` where they are below `images`.

    A line is a class's number, and a box's middle and size, or the corners of a polygon, as shares of the picture. The classes'
    names are in data.yaml (`names`), or a line each in classes.txt or obj.names.
    """
    root = source if source.is_dir() else source.parent
    names = _yolo_names(source)

    def read() -> Named:
        for path in sorted(path for path in root.rglob("*") if has_image_suffix(path.name) and path.is_file()):
            text = _yolo_labels(root, path)
            if text is not None:
                lines = text.read_text(encoding="utf-8").splitlines()
                own = [_yolo_annotation(names, *line.split()) for line in lines if line.strip()]
                yield path.relative_to(root).as_posix(), own

    return read(), [root]


def _yolo_names(source: Path) -> Mapping[int, str]:
    usual = ("data.yaml", "data.yml", "classes.txt", "obj.names")
    candidates = [source] if source.is_file() else [source / name for name in usual]
    for file in candidates:
        if file.is_file() and file.suffix in (".yaml", ".yml"):
            import yaml

            try:
                names = yaml.safe_load(file.read_text(encoding="utf-8"))["names"]
            except yaml.YAMLError as error:
                raise ValueError(error) from error
            numbered = names.items() if isinstance(names, dict) else enumerate(names)
            return {int(number): str(name) for number, name in numbered}
        if file.is_file():
            lines = file.read_text(encoding="utf-8").splitlines()
            return dict(enumerate(line.strip() for line in lines if line.strip()))
    raise UsageError(f"{source} has neither data.yaml nor classes.txt, which name the classes")


def _yolo_labels(root: Path, picture: Path) -> Path | None:
    parts = list(picture.relative_to(root).with_suffix(".txt").parts)
    beside = picture.with_suffix(".txt")
    if "images" in parts[:-1]:
        last = len(parts) - 1 - parts[::-1].index("images")
        below = root.joinpath(*parts[:last], "labels", *parts[last + 1 :])
        if below.is_file():
            return below
    return beside if beside.is_file() else None


def _yolo_annotation(names: Mapping[int, str], number: str, *shares: str) -> Annotation:
    return Annotation(names[int(number)], _yolo_box(list(map(float, shares))), SHARES)


def _yolo_box(numbers: Sequence[float]) -> tuple[float, float, float, float]:
    if len(numbers) in (4, 5):  # a fifth is how sure a model was
        x, y, width, height = numbers[:4]
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(f"a line of {len(numbers) + 1} numbers is neither a box nor a polygon")
    return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])


def _label_studio(source: Path) -> tuple[Named, list[Path]]:
    """Tasks as Label Studio exports them (JSON): rectangles, in hundredths of the picture, and choices of all of it."""
    file = _only_file(source, "*.json")
    tasks = json.loads(file.read_text(encoding="utf-8"))

    def read() -> Named:
        for task in tasks:
            own = []
            for said in task["annotations"]:
                for result in [] if said.get("was_cancelled") else said["result"]:
                    own += list(_label_studio_result(result))
            yield _label_studio_name(task["data"]), own

    return read(), _around(file)


def _label_studio_result(result: Mapping[str, Any]) -> Iterator[Annotation]:
    value = result["value"]
    for name in value.get("choices", ()):
        yield Annotation(str(name), None, None)
    of = (float(result.get("original_width", 1)), float(result.get("original_height", 1)))
    for name in value.get("rectanglelabels", ()):
        left, width = (float(value[key]) * of[0] / 100 for key in ("x", "width"))
        top, height = (float(value[key]) * of[1] / 100 for key in ("y", "height"))
        yield Annotation(str(name), _turned(left, top, width, height, float(value.get("rotation", 0))), of)


def _label_studio_name(data: Mapping[str, Any]) -> str:
    """The name of the file that a task is about: the first value that names an image."""
    for value in data.values():
        if isinstance(value, str):
            address = urlsplit(value)
            name = parse_qs(address.query).get("d", [unquote(address.path)])[0]
            if has_image_suffix(name):
                return name
    raise ValueError(f"a task names no image: {json.dumps(data)[:100]}")


def _cvat(source: Path) -> tuple[Named, list[Path]]:
    """`CVAT for images 1.1`: boxes and tags."""
    file = _only_file(source, "*.xml")
    root = ElementTree.fromstring(file.read_bytes())
    if root.tag != "annotations":
        raise ValueError(f"it is a document of {root.tag}")

    def read() -> Named:
        for image in root.iter("image"):
            of = (float(image.attrib["width"]), float(image.attrib["height"]))
            own = [Annotation(tag.attrib["label"], None, None) for tag in image.iter("tag")]
            for box in image.iter("box"):
                left, top, right, bottom = (float(box.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
                own.append(Annotation(box.attrib["label"], (left, top, right, bottom), of))
            yield image.attrib["name"], own

    return read(), _around(file)


_READERS: Mapping[str, Callable[[Path], tuple[Named, list[Path]]]] = {
    "coco": _coco,
    "yolo": _yolo,
    "labelstudio": _label_studio,
    "cvat": _cvat,
}

KINDS = {
    "coco": "file of COCO instances",
    "yolo": "directory of YOLO labels",
    "labelstudio": "export of Label Studio as JSON",
    "cvat": "export of `CVAT for images`",
}


def _turned(left: float, top: float, width: float, height: float, degrees: float) -> tuple[float, float, float, float]:
    """What encloses a rectangle that is turned clockwise about its upper left corner."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(left + x * cosine - y * sine, top + x * sine + y * cosine) for x in (0, width) for y in (0, height)]
    return (
        min(x for x, _ in corners),
        min(y for _, y in corners),
        max(x for x, _ in corners),
        max(y for _, y in corners),
    )


def _only_file(source: Path, pattern: str) -> Path:
    if not source.is_dir():
        return source
    files = sorted(source.glob(pattern))
    if len(files) != 1:
        raise UsageError(f"{source} holds {len(files)} files {pattern}; name the one that is meant")
    return files[0]


def _around(file: Path) -> list[Path]:
    return [file.parent, file.parent / "images", file.parent.parent, file.parent.parent / "images"]


def _locate(named: Named, directories: Sequence[Path]) -> Annotated:
    """Find the pictures of which something was said; names never lead out of the directories where they are looked for."""
    pictures, missing = [], 0
    for name, own in named:
        if not own:
            continue
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
        last = [
            re.sub(r"^[0-9a-f]{8}-", "", part) for part in parts[-1:]
        ]  # which Label Studio puts before an upload's name
        tries = [name for name in (parts, parts[-1:], last) if name]
        candidates = (directory.joinpath(*name) for directory in directories for name in tries)
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            missing += 1
        else:
            pictures.append(Picture(path, tuple(own)))
    return Annotated(pictures, missing)
