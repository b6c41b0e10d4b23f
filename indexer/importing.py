"""Importing: data sets as they are published, written into the directory contract. The same arguments give the same files."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nearshot.schema.contract import QUERY_DIRECTORY, SUPPORT_DIRECTORY, Place, has_image_suffix, is_ignored, place_file
from nearshot.schema.disk import sha256_of
from nearshot.schema.errors import UsageError, option
from nearshot.schema.images import UNKNOWN

Save = Callable[[Path], None]
"""Writes one image to a path without a suffix, and adds the suffix."""

ARCHIVES = {"cifar10": "cifar-10-python.tar.gz", "stl10": "stl10_binary.tar.gz"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """Number of shots and queries of each class (fewer queries where images are fewer), which classes are to be strangers,
    and the seed of the choice."""

    category: str
    shots: int = 5
    queries: int = 100
    unknown: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Imported:
    """Result of an import."""

    labels: int
    shots: int
    queries: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Source:
    """A data set's images by class: those that shots are chosen from, and those that queries are. They may be the same."""

    shots: Mapping[str, Sequence[Save]]
    queries: Mapping[str, Sequence[Save]]


def read_folder(directory: Path) -> Source:
    """One directory per class, with images anywhere below it. Of files with the same bytes the first counts.

    UsageError where there is none.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory; give the one that holds one directory per class")
    classes: dict[str, list[Save]] = {}
    seen: set[str] = set()
    for own in sorted(path for path in directory.iterdir() if path.is_dir() and not is_ignored(path.name)):
        files = sorted(path for path in own.rglob("*") if path.is_file() and has_image_suffix(path.name))
        distinct = [path for path in files if _is_new(path, seen)]
        if distinct:
            classes[own.name] = [_copier(path) for path in distinct]
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
    return Source(*map(_by_class, splits))


def write_contract(source: Source, data: Path, options: ImportOptions) -> Imported:
    """Choose images and write them below `data`, a data directory; all of it appears at once, or not at all.

    UsageError where a class has too few images for the shots, a stranger is no class, or the category is there already.
    """
    target = data / options.category
    if target.exists():
        raise UsageError(f"{target} is there already; remove it, or choose another {option('category')}")
    classes = sorted({*source.shots, *source.queries})
    if missing := [name for name in options.unknown if name not in classes]:
        raise UsageError(f"no class '{missing[0]}'; there are {', '.join(classes)}")
    labels = [name for name in classes if name not in options.unknown and name != UNKNOWN]
    if not labels:
        raise UsageError("all classes are to be unknown: leave some to be known")
    for name in labels:
        placement = place_file((options.category, SUPPORT_DIRECTORY, name, "shot1.png"))
        if not isinstance(placement, Place) or placement.label != name or has_image_suffix(name):
            raise UsageError(f"a class cannot be named '{name}' in the directory contract; rename it")
        if len(source.shots.get(name, ())) < options.shots:
            raise UsageError(
                f"'{name}' has {len(source.shots.get(name, ()))} images: too few for {options.shots} shots"
            )
    aside = data / f".{options.category}.part"
    shutil.rmtree(aside, ignore_errors=True)
    counts = {"shots": 0, "queries": 0, "unknown": 0}
    try:
        for name in classes:
            known = name in labels
            shots = _chosen(source.shots.get(name, ()), name, options.seed)[: options.shots if known else 0]
            rest = [save for save in _chosen(source.queries.get(name, ()), name, options.seed) if save not in shots]
            for number, save in enumerate(shots, start=1):
                _write(save, aside / SUPPORT_DIRECTORY / name / f"shot{number}")
            directory = aside / QUERY_DIRECTORY / (name if known else UNKNOWN)
            for number, save in enumerate(rest[: options.queries]):
                _write(save, directory / f"{name}-{number:05}")
            counts["shots"] += len(shots)
            counts["queries" if known else "unknown"] += len(rest[: options.queries])
        aside.replace(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Imported(len(labels), counts["shots"], counts["queries"], counts["unknown"])


def _chosen(images: Sequence[Save], name: str, seed: int) -> list[Save]:
    """All images of a class in an order that hangs on the seed and the class's name alone."""
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    order = np.random.default_rng(int.from_bytes(key[:8], "big")).permutation(len(images))
    return [images[index] for index in order]


def _write(save: Save, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path)


def _is_new(path: Path, seen: set[str]) -> bool:
    """Tell whether a file's bytes were not seen before, and remember them."""
    before = len(seen)
    seen.add(sha256_of(path))
    return len(seen) > before


def _copier(source: Path) -> Save:
    def save(path: Path) -> None:
        shutil.copyfile(source, path.with_name(path.name + source.suffix.lower()))

    return save


def _by_class(split: Any) -> dict[str, list[Save]]:
    """The images of a torchvision split, as PNG, by class."""
    images_by_class: dict[str, list[Save]] = {name: [] for name in split.classes}
    labels = split.labels if hasattr(split, "labels") else split.targets
    for index, label in enumerate(labels):
        images_by_class[split.classes[int(label)]].append(_saver(split, index))
    return images_by_class


def _saver(split: Any, index: int) -> Save:
    def save(path: Path) -> None:
        picture: Image.Image = split[index][0]
        picture.save(path.with_name(f"{path.name}.png"))

    return save
