"""Annotations: the boxes and labels of pictures, as COCO, YOLO, Label Studio and CVAT write them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

from nearshot.schema.contract import has_image_suffix
from nearshot.schema.errors import UsageError, option
from nearshot.schema.vocabulary import AnnotationFormat

Sides = tuple[float, float, float, float]
"""Left, top, right and bottom."""

NO_BOX: Sides = (math.nan, math.nan, math.nan, math.nan)
"""What a shape has that is no box, and encloses none that is known."""

SHARES = (1.0, 1.0)
"""The size of a picture whose boxes are shares of it."""


class Annotation(NamedTuple):
    """What a part of a picture shows: a box, or None for all of it.

    The box is in pixels of a picture of the size `of` (width, height), or where that is None of the picture as it is.
    """

    name: str
    box: Sides | None
    of: tuple[float, float] | None


class Picture(NamedTuple):
    """A picture, by its file, and what was said of it."""

    path: Path
    annotations: tuple[Annotation, ...]


class Annotated(NamedTuple):
    """The pictures of a set that are there, and how many that it names are not, or cannot be told from others."""

    pictures: list[Picture]
    missing: int


class _Said(NamedTuple):
    """What was said of a picture, which is called by one of these names."""

    names: tuple[str, ...]
    annotations: list[Annotation]


class _Read(NamedTuple):
    """What a file says of pictures, and where those are looked for."""

    said: Iterator[_Said]
    directories: list[Path]


def read_annotated(kind: AnnotationFormat, source: Path, images: Path | None = None) -> Annotated:
    """Read annotations of a kind; their pictures are looked for around them, or in `images`.

    UsageError where there are none, where they are not what they should be, or where no picture is there.
    """
    try:
        read = _READERS[kind](source, images)
        directories = [images] if images is not None else read.directories
        annotated = _locate(list(read.said), directories)
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error}") from error
    except _BROKEN as error:
        raise UsageError(f"{source} is no {KINDS[kind]}: {type(error).__name__}: {error}") from error
    if not annotated.pictures:
        raise UsageError(
            f"{source} names {annotated.missing} pictures, of which none is in {' or '.join(map(str, directories))}; "
            f"say where they are with {option('images')}"
            if annotated.missing
            else f"{source} says of no picture what it shows"
        )
    return annotated


_BROKEN = (
    *(AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError),
    ElementTree.ParseError,
)
"""What files are found to be that are not what they should be."""


def _coco(source: Path, images: Path | None) -> _Read:
    """Instances of COCO: https://cocodataset.org/#format-data."""
    file = _only_file(source, "*.json")
    data = json.loads(file.read_text(encoding="utf-8-sig"))
    names = {each["id"]: str(each["name"]) for each in data["categories"]}
    boxes: dict[Any, list[tuple[str, list[float]]]] = {}
    for each in data["annotations"]:
        if not each.get("iscrowd") and each.get("bbox"):
            numbers = [float(number) for number in each["bbox"]]
            boxes.setdefault(each["image_id"], []).append((names[each["category_id"]], numbers))

    def read() -> Iterator[_Said]:
        for image in data["images"]:
            own = [
                Annotation(
                    name, (left, top, left + width, top + height), _size(image.get("width"), image.get("height"))
                )
                for name, (left, top, width, height) in boxes.get(image["id"], ())
            ]
            yield _Said((str(image["file_name"]),), own)

    split = re.sub(r"^(instances|annotations|_annotations\.coco)[_.]?", "", file.stem)
    return _Read(read(), [*_around(file), *([file.parent.parent / split] if split else [])])


def _yolo(source: Path, images: Path | None) -> _Read:
    """A directory of pictures with a text file each, beside it or below `labels`.

    A line is a class's number, and a box's middle and size, or the corners of a polygon, as shares of the picture. The classes'
    names are in data.yaml (`names`), or a line each in classes.txt or obj.names.
    """
    root = source if source.is_dir() else source.parent
    names, about = _yolo_names(source)
    if isinstance(path := about.get("path"), str) and (root / path).is_dir():
        root = root / path
    pictures = root if images is None else images
    has_points = "kpt_shape" in about

    def read() -> Iterator[_Said]:
        for picture in sorted(each for each in pictures.rglob("*") if has_image_suffix(each.name) and each.is_file()):
            text = _yolo_text(root, pictures, picture)
            if text is not None:
                lines = text.read_text(encoding="utf-8-sig").splitlines()
                own = [_yolo_annotation(names, line.split(), has_points=has_points) for line in lines if line.strip()]
                yield _Said((picture.relative_to(pictures).as_posix(),), own)

    return _Read(read(), [pictures])


def _yolo_names(source: Path) -> tuple[Mapping[int, str], Mapping[str, Any]]:
    """The names of the classes, and what else data.yaml says."""
    usual = ("data.yaml", "data.yml", "classes.txt", "obj.names")
    candidates = [source] if source.is_file() else [source / name for name in usual]
    for file in candidates:
        if file.is_file() and file.suffix in (".yaml", ".yml"):
            import yaml

            try:
                about = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
            except yaml.YAMLError as error:
                raise ValueError(error) from error
            named = about["names"]
            numbered = dict(named.items() if isinstance(named, dict) else enumerate(named))
            if not all(isinstance(name, str | int | float) for name in numbered.values()):
                raise ValueError("a class's name is no text")
            return {int(number): str(name) for number, name in numbered.items()}, about
        if file.is_file():
            lines = file.read_text(encoding="utf-8-sig").splitlines()
            return dict(enumerate(line.strip() for line in lines if line.strip())), {}
    raise UsageError(f"{source} has neither data.yaml nor classes.txt, which name the classes")


def _yolo_text(root: Path, pictures: Path, picture: Path) -> Path | None:
    """The file that says what a picture shows: beside it, or where `labels` stands for `images`, or below `labels`."""
    parts = picture.with_suffix(".txt").parts
    inside = picture.relative_to(pictures).with_suffix(".txt")
    candidates = [picture.with_suffix(".txt"), root / "labels" / inside]
    if "images" in parts[len(root.parts) : -1]:
        last = len(parts) - 1 - parts[::-1].index("images")
        candidates.insert(0, Path(*parts[:last], "labels", *parts[last + 1 :]))
    return next((path for path in candidates if path.is_file()), None)


def _yolo_annotation(names: Mapping[int, str], line: Sequence[str], *, has_points: bool) -> Annotation:
    numbers = [float(number) for number in line[1:]]
    if has_points or len(numbers) in (4, 5):  # a fifth is how sure a model was; points of a pose come after the box
        x, y, width, height = numbers[:4]
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    elif len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(f"a line of {len(line)} numbers is neither a box nor a polygon")
    else:
        box = _enclosing(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return Annotation(names[int(line[0])], box, SHARES)


def _label_studio(source: Path, images: Path | None) -> _Read:
    """Tasks as Label Studio exports them (JSON): shapes, in hundredths of the picture, and choices of all of it."""
    file = _only_file(source, "*.json")
    tasks = json.loads(file.read_text(encoding="utf-8-sig"))
    if any("annotations" not in task for task in tasks):
        raise UsageError(f"{file} has tasks without annotations; export as JSON, not as JSON-MIN")

    def read() -> Iterator[_Said]:
        for task in tasks:
            results = [
                result for said in task["annotations"] if not said.get("was_cancelled") for result in said["result"]
            ]
            own = [annotation for result in results for annotation in _label_studio_result(result)]
            yield _Said(_label_studio_names(task["data"]), own)

    return _Read(read(), _around(file))


def _label_studio_result(result: Mapping[str, Any]) -> Iterator[Annotation]:
    value = result.get("value") or {}
    of = _size(result.get("original_width"), result.get("original_height")) or SHARES
    scales = (of[0] / 100, of[1] / 100)
    for kind, names in value.items():
        if kind == "choices" and "x" not in value:  # else they are of a shape, not of the picture
            yield from (Annotation(str(name), None, None) for name in names)
        elif kind.endswith("labels"):
            box = _label_studio_box(kind, value, scales, float(value.get("rotation") or 0))
            yield from (Annotation(str(name), box, of) for name in names)


def _label_studio_box(kind: str, value: Mapping[str, Any], scales: tuple[float, float], degrees: float) -> Sides:
    if kind == "rectanglelabels":
        left, width = (float(value[key]) * scales[0] for key in ("x", "width"))
        top, height = (float(value[key]) * scales[1] for key in ("y", "height"))
        return _turned((left, top, left + width, top + height), degrees, about=(left, top))
    if kind == "polygonlabels":
        return _enclosing([(float(x) * scales[0], float(y) * scales[1]) for x, y in value["points"]])
    return NO_BOX


def _label_studio_names(data: Mapping[str, Any]) -> tuple[str, ...]:
    """What the file that a task is about may be called: the first value that names an image; none."""
    for value in data.values():
        if isinstance(value, str):
            address = urlsplit(value)
            name = parse_qs(address.query).get("d", [unquote(address.path)])[0]
            if has_image_suffix(name):
                return (name, re.sub(r"(^|/)[0-9a-f]{8}-([^/]+)$", r"\1\2", name))  # put before what was uploaded
    return ()


def _cvat(source: Path, images: Path | None) -> _Read:
    """`CVAT for images 1.1`: boxes, polygons and tags."""
    file = _only_file(source, "*.xml")
    root = ElementTree.fromstring(file.read_bytes())
    if root.tag != "annotations":
        raise ValueError(f"it is a document of {root.tag}")
    if root.find("track") is not None:
        raise UsageError(f"{file} is of a video; export it as `CVAT for images`")

    def read() -> Iterator[_Said]:
        for image in root.iter("image"):
            of = _size(image.get("width"), image.get("height"))
            own = [
                Annotation(shape.attrib["label"], None if shape.tag == "tag" else _cvat_box(shape), of)
                for shape in image
                if "label" in shape.attrib
            ]
            name = image.attrib["name"]
            yield _Said((*([f"{image.attrib['subset']}/{name}"] if image.get("subset") else []), name), own)

    return _Read(read(), _around(file))


def _cvat_box(shape: ElementTree.Element) -> Sides:
    if shape.tag == "box":
        left, top, right, bottom = (float(shape.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        middle = ((left + right) / 2, (top + bottom) / 2)
        return _turned((left, top, right, bottom), float(shape.get("rotation") or 0), about=middle)
    if shape.tag == "polygon":
        points = [point.split(",") for point in shape.attrib["points"].split(";")]
        return _enclosing([(float(x), float(y)) for x, y in points])
    return NO_BOX


_READERS: Mapping[AnnotationFormat, Callable[[Path, Path | None], _Read]] = {
    AnnotationFormat.COCO: _coco,
    AnnotationFormat.YOLO: _yolo,
    AnnotationFormat.LABELSTUDIO: _label_studio,
    AnnotationFormat.CVAT: _cvat,
}

KINDS = {
    AnnotationFormat.COCO: "file of COCO instances",
    AnnotationFormat.YOLO: "directory of YOLO labels",
    AnnotationFormat.LABELSTUDIO: "export of Label Studio as JSON",
    AnnotationFormat.CVAT: "export of `CVAT for images`",
}


def _size(width: Any, height: Any) -> tuple[float, float] | None:
    """The size that a picture had when it was annotated, where that is known."""
    of = (float(width or 0), float(height or 0))
    return of if min(of) > 0 else None


def _turned(box: Sides, degrees: float, *, about: tuple[float, float]) -> Sides:
    """What encloses a rectangle that is turned clockwise about a point."""
    if not degrees:
        return box
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(x - about[0], y - about[1]) for x in box[::2] for y in box[1::2]]
    return _enclosing([(about[0] + x * cosine - y * sine, about[1] + x * sine + y * cosine) for x, y in corners])


def _enclosing(points: Sequence[tuple[float, float]]) -> Sides:
    across, down = [x for x, _ in points], [y for _, y in points]
    return min(across), min(down), max(across), max(down)


def _only_file(source: Path, pattern: str) -> Path:
    if not source.is_dir():
        return source
    files = sorted(source.glob(pattern))
    if len(files) != 1:
        raise UsageError(f"{source} holds {len(files)} files {pattern}; name the one that is meant")
    return files[0]


def _around(file: Path) -> list[Path]:
    return [file.parent, file.parent / "images", file.parent.parent, file.parent.parent / "images"]


def _locate(said: Sequence[_Said], directories: Sequence[Path]) -> Annotated:
    """Find the pictures of which something was said: by their names, or where no two are called so, by the last part of those.

    Names never lead out of the directories where they are looked for, and no two pictures are the same file.
    """
    wanted = [each for each in said if each.annotations]
    names = [[_parts(name) for name in each.names] for each in wanted]
    last = Counter(part for own in names for part in {parts[-1] for parts in own if parts})
    paths: dict[Path, int] = {}
    for number, own in enumerate(names):
        path = _first(directories, own)
        if path is not None:
            paths.setdefault(path, number)
    located = {number: path for path, number in paths.items()}
    for number, own in enumerate(names):
        if number not in located:
            alone = [parts[-1:] for parts in own if parts and last[parts[-1]] == 1]
            path = _first(directories, alone)
            if path is not None and path not in paths:
                paths[path] = number
                located[number] = path
    pictures = [Picture(located[number], tuple(wanted[number].annotations)) for number in sorted(located)]
    return Annotated(pictures, len(wanted) - len(pictures))


def _parts(name: str) -> list[str]:
    return [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]


def _first(directories: Sequence[Path], names: Sequence[Sequence[str]]) -> Path | None:
    """The first file that there is of some names, by its parts, in some directories."""
    for parts in names:
        for directory in directories:
            try:
                if parts and (path := directory.joinpath(*parts)).is_file():
                    return path
            except (OSError, ValueError):  # a name that no file can have
                continue
    return None
