"""Importing: data sets as they are published, written into the directory contract. The same arguments give the same files."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from nearshot.backbones.decode import decode
from nearshot.detectors.cutting import Cutting, cut
from nearshot.detectors.protocol import enclosing
from nearshot.indexer.annotations import Sides, read_annotated
from nearshot.schema.contract import QUERY_DIRECTORY, SUPPORT_DIRECTORY, has_image_suffix, is_ignored, is_label
from nearshot.schema.disk import sha256_of
from nearshot.schema.errors import ImageError, UsageError, option
from nearshot.schema.images import UNKNOWN
from nearshot.schema.vocabulary import AnnotationFormat

Save = Callable[[Path], bool]
"""Writes one image to a path without a suffix, and adds the suffix; False where it cannot be used."""

ARCHIVES = {"cifar10": "cifar-10-python.tar.gz", "stl10": "stl10_binary.tar.gz"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """Number of shots and queries of each class (fewer queries where images are fewer), which classes are to be strangers,
    the seed of the choice, and whether it may `add` to a category that is there."""

    category: str
    add: bool = False
    shots: int = 5
    queries: int = 100
    unknown: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Imported:
    """Result of an import: what became of images; `there` are those that were so already, `unusable` were passed over."""

    labels: int
    shots: int
    queries: int
    unknown: int
    there: int = 0
    unusable: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """An image of a data set, and the `picture` that it is, or is a part of."""

    save: Save
    picture: str


@dataclass(frozen=True, slots=True)
class Source:
    """A data set's images by class: those that shots are chosen from, and those that queries are. They may be the same.

    `missing` tells how many pictures it names that are not there.
    """

    shots: Mapping[str, Sequence[Given]]
    queries: Mapping[str, Sequence[Given]]
    missing: int = 0


def read_folder(directory: Path) -> Source:
    """One directory per class, with images anywhere below it. Of files with the same bytes the first counts.

    UsageError where there is none.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory; give the one that holds one directory per class")
    classes: dict[str, list[Given]] = {}
    seen: set[str] = set()
    for own in sorted(path for path in directory.iterdir() if path.is_dir() and not is_ignored(path.name)):
        files = sorted(path for path in own.rglob("*") if path.is_file() and has_image_suffix(path.name))
        distinct = [path for path in files if _is_new(path, seen)]
        if distinct:
            classes[own.name] = [Given(_copier(path), str(path)) for path in distinct]
    if not classes:
        raise UsageError(f"{directory} holds no directories with images; there should be one per class")
    return Source(classes, classes)


def read_torchvision(name: str, directory: Path) -> Source:
    """CIFAR-10 or STL-10 by torchvision's own readers: shots from the training images, queries from the test images.

    `directory` holds the archive as published (or is it), or what was unpacked from it; nothing is downloaded. UsageError
    where it is not there or not whole.
    """
    from torchvision import datasets

    if directory.is_file():
        if directory.name != ARCHIVES[name]:
            raise UsageError(f"{directory} is not {ARCHIVES[name]}")
        directory = directory.parent
    archive = directory / ARCHIVES[name]
    reader: Any = {"cifar10": datasets.CIFAR10, "stl10": datasets.STL10}[name]
    if archive.is_file() and not (directory / reader.base_folder).is_dir():
        try:
            with tarfile.open(archive) as packed:
                packed.extractall(directory, filter="data")
        except (OSError, tarfile.TarError) as error:
            shutil.rmtree(directory / reader.base_folder, ignore_errors=True)
            raise UsageError(f"{archive} cannot be unpacked: {error}; fetch it anew") from error
    try:
        splits = (
            [reader(directory, train=train) for train in (True, False)]
            if name == "cifar10"
            else [reader(directory, split=split) for split in ("train", "test")]
        )
    except RuntimeError as error:
        raise UsageError(
            f"{directory} holds neither {ARCHIVES[name]} nor what is in it, whole; fetch it from its authors' page"
        ) from error
    shots, queries = (_by_class(split, number) for number, split in enumerate(splits))
    return Source(shots, queries)


def read_annotations(kind: AnnotationFormat, source: Path, images: Path | None = None) -> Source:
    """The parts of pictures that annotations name (`indexer.annotations`), as they are cut out; whole pictures as they are.

    UsageError as `read_annotated` raises it.
    """
    annotated = read_annotated(kind, source, images)
    classes: dict[str, list[Given]] = {}
    for path, own in annotated.pictures:
        for annotation in dict.fromkeys(own):
            save = _copier(path) if annotation.box is None else _cutter(path, annotation.box, annotation.of)
            classes.setdefault(annotation.name, []).append(Given(save, str(path)))
    return Source(classes, classes, annotated.missing)


def write_contract(source: Source, data: Path, options: ImportOptions) -> Imported:
    """Choose images and write them below `data`, a data directory. No query is (a part of) a picture that a shot is of.

    A new category appears at once, or not at all. To one that is there (`add`), files are added one after the other, none in
    the place of another; those whose bytes are there already count, and are not written again: so the same can be done again.

    UsageError where a class has too few images for the shots, a stranger is no class, or the category is there already.
    """
    target = data / options.category
    if target.exists() and not options.add:
        raise UsageError(
            f"{target} is there already; add to it with {option('add')}, or choose another {option('category')}"
        )
    classes = sorted({*source.shots, *source.queries})
    if missing := [name for name in options.unknown if name not in classes]:
        raise UsageError(f"no class '{missing[0]}'; there are {', '.join(classes)}")
    labels = [name for name in classes if name not in options.unknown and name != UNKNOWN]
    if not labels:
        raise UsageError("all classes are to be unknown: leave some to be known")
    if odd := [name for name in classes if not is_label(name) and name != UNKNOWN]:
        raise UsageError(f"a class cannot be named {odd[0]!r} in the directory contract; rename it")
    aside = data / f".{options.category}.part"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        writer = _Writer(aside, target)
        shots: list[Given] = []
        for name in labels:
            chosen, before = _chosen(source.shots.get(name, ()), name, options.seed), writer.elsewhere
            own = writer.write(chosen, options.shots, Path(SUPPORT_DIRECTORY, name), "shot{}".format)
            if len(own) < options.shots:
                others = writer.elsewhere - before
                raise UsageError(
                    f"'{name}' has {len(own)} images: too few for {options.shots} shots"
                    + (f" ({others} more are in {target} already, as queries or under another label)" if others else "")
                )
            shots += own
        seen = {given.picture for given in shots}
        queries = {}
        for name in classes:
            chosen = _chosen(source.queries.get(name, ()), name, options.seed)
            rest = [given for given in chosen if given.picture not in seen]
            directory = Path(QUERY_DIRECTORY, name if name in labels else UNKNOWN)
            queries[name] = len(
                writer.write(rest, options.queries, directory, partial("{}-{:05}".format, name), first=0)
            )
        writer.finish()
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    known = sum(queries[name] for name in labels)
    unknown = sum(queries.values()) - known
    return Imported(len(labels), len(shots), known, unknown, writer.there, len(writer.unusable))


_NEW = Path()
"""Where what was just written is, so far."""


class _Writer:
    """Writes images aside, then moves them to a category: all at once where it is not there, else one after the other."""

    def __init__(self, aside: Path, target: Path) -> None:
        self._aside, self._target = aside, target
        paths = sorted(path.relative_to(target) for path in target.rglob("*"))
        files = [path for path in paths if (target / path).is_file()]
        self._directories = {sha256_of(target / path): path.parent for path in files}
        self._names = {*paths, *(path.with_suffix("") for path in files)}  # a shot may be a directory
        self.there = self.elsewhere = 0
        self.unusable = set[Given]()

    def write(
        self, images: Sequence[Given], most: int, directory: Path, name: Callable[[int], str], *, first: int = 1
    ) -> list[Given]:
        """Write images under numbered names, or see that they are there, until there are so many of them; which they are.

        One whose bytes are elsewhere in the category, or were just written, is passed over: what is a query is no shot.
        """
        used: list[Given] = []
        number = first
        for given in images:
            if len(used) == most:
                break
            while directory / name(number) in self._names:
                number += 1
            written = self._written(given, directory / name(number))
            if written is None:
                self.unusable.add(given)
                continue
            sha256 = sha256_of(written)
            if sha256 in self._directories:
                written.unlink()
                if self._directories[sha256].is_relative_to(directory):
                    self.there += 1
                    used.append(given)
                elif self._directories[sha256] != _NEW:
                    self.elsewhere += 1
            else:
                self._directories[sha256] = _NEW
                number += 1
                used.append(given)
        return used

    def finish(self) -> None:
        """Move what was written to where it belongs."""
        self._aside.mkdir(parents=True, exist_ok=True)
        if not self._target.exists():
            self._aside.replace(self._target)
            return
        for path in sorted(path for path in self._aside.rglob("*") if path.is_file()):
            moved = self._target / path.relative_to(self._aside)
            moved.parent.mkdir(parents=True, exist_ok=True)
            path.replace(moved)

    def _written(self, given: Given, path: Path) -> Path | None:
        aside = self._aside / path
        aside.parent.mkdir(parents=True, exist_ok=True)
        if not given.save(aside):
            return None
        [written] = aside.parent.glob(f"{escape(aside.name)}.*")
        return written


def _chosen(images: Sequence[Given], name: str, seed: int) -> list[Given]:
    """All images of a class in an order that hangs on the seed and the class's name alone."""
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    order = np.random.default_rng(int.from_bytes(key[:8], "big")).permutation(len(images))
    return [images[index] for index in order]


def _is_new(path: Path, seen: set[str]) -> bool:
    """Tell whether a file's bytes were not seen before, and remember them."""
    before = len(seen)
    seen.add(sha256_of(path))
    return len(seen) > before


def _copier(source: Path) -> Save:
    def save(path: Path) -> bool:
        shutil.copyfile(source, path.with_name(path.name + source.suffix.lower()))
        return True

    return save


def _cutter(source: Path, box: Sides, of: tuple[float, float] | None) -> Save:
    """What a box encloses, as PNG; nothing where it lies outside of the picture, or the picture cannot be used.

    Of a picture that EXIF turns, the box may be of the picture as it is shown or as it lies in its file. It is used where the
    size that it was annotated at tells that it was shown.
    """

    def save(path: Path) -> bool:
        try:
            data = source.read_bytes()
            picture = decode(data, whole=True).picture
            with Image.open(io.BytesIO(data)) as image:
                lying, is_turned = image.size, image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        except (ImageError, OSError):
            return False
        if is_turned and (of is None or (of[0] > of[1]) == (lying[0] > lying[1]) or picture.size == lying):
            return False
        width, height = of or picture.size
        scales = (picture.width / width, picture.height / height)
        sides = [
            round(side * scales[number % 2], 3) for number, side in enumerate(box)
        ]  # shares are not quite what they were
        part = enclosing(sides, picture.size)
        if part is None:
            return False
        cut(picture, part, None, Cutting(padding=0)).save(path.with_name(f"{path.name}.png"))
        return True

    return save


def _by_class(split: Any, number: int) -> dict[str, list[Given]]:
    """The images of a torchvision split, as PNG, by class."""
    images_by_class: dict[str, list[Given]] = {name: [] for name in split.classes}
    labels = split.labels if hasattr(split, "labels") else split.targets
    for index, label in enumerate(labels):
        images_by_class[split.classes[int(label)]].append(Given(_saver(split, index), f"{number}/{index}"))
    return images_by_class


def _saver(split: Any, index: int) -> Save:
    def save(path: Path) -> bool:
        picture: Image.Image = split[index][0]
        picture.save(path.with_name(f"{path.name}.png"))
        return True

    return save
