"""Sources: the images that a user names, as bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nearshot.backbones.limits import MAX_BYTES
from nearshot.schema.contract import is_ignored, is_image_name
from nearshot.schema.paths import AnyPath, is_directory, is_there, read_file

if TYPE_CHECKING:
    from upath import UPath

STANDARD_INPUT = "-"


def read_queries(
    paths: Iterable[AnyPath], standard_input: bytes | None = None
) -> Iterator[tuple[str, bytes | OSError]]:
    """The images that paths name, with their bytes: `-` is standard input, a directory all images below it, in order."""
    for path in paths:
        if str(path) == STANDARD_INPUT:
            yield STANDARD_INPUT, standard_input or b""
        elif is_folder(path):
            yield from ((str(image), _read(image)) for image in _below(path))
        else:
            yield str(path), _read(path)


def is_folder(path: AnyPath) -> bool:
    """Tell whether a path is a directory; where that cannot be told, it is none."""
    try:
        if isinstance(path, Path):
            return os.path.isdir(path)  # noqa: PTH112 (Path.is_dir may raise)
        return not is_there(path) and is_directory(path)  # a name may be both an object's and a directory's
    except OSError:
        return False


def images_below(directory: Path) -> list[Path]:
    """All files below a directory that are named as images may be, in the order of their paths; broken links too."""
    paths = []
    for parent, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if not is_ignored(name)]
        paths += [Path(parent, name) for name in names if is_image_name(name) and not is_ignored(name)]
    return sorted(paths)


def _below(directory: AnyPath) -> Sequence[AnyPath]:
    return images_below(directory) if isinstance(directory, Path) else _objects_below(directory)


def _objects_below(directory: UPath) -> list[UPath]:
    from nearshot.schema.objects import listing

    names = (name.split("/") for name in listing(directory))
    wanted = (parts for parts in names if is_image_name(parts[-1]) and not any(map(is_ignored, parts)))
    return [directory / "/".join(parts) for parts in sorted(wanted)]


def _read(path: AnyPath) -> bytes | OSError:
    try:
        return read_file(path, most=MAX_BYTES)
    except OSError as error:
        return error
