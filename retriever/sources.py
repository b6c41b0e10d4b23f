"""Sources: the images that a user names, as bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from nearshot.backbones.limits import MAX_BYTES
from nearshot.schema.contract import is_ignored, is_image_name
from nearshot.schema.disk import read_regular

STANDARD_INPUT = "-"


def read_queries(paths: Iterable[Path], standard_input: bytes | None = None) -> Iterator[tuple[str, bytes | OSError]]:
    """The images that paths name, with their bytes: `-` is standard input, a directory all images below it, in order."""
    for path in paths:
        if str(path) == STANDARD_INPUT:
            yield STANDARD_INPUT, standard_input or b""
        elif os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where permission is missing)
            yield from ((str(image), _read(image)) for image in images_below(path))
        else:
            yield str(path), _read(path)


def images_below(directory: Path) -> list[Path]:
    """All files below a directory that are named as images may be, in the order of their paths; broken links too."""
    paths = []
    for parent, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if not is_ignored(name)]
        paths += [Path(parent, name) for name in names if is_image_name(name) and not is_ignored(name)]
    return sorted(paths)


def _read(path: Path) -> bytes | OSError:
    try:
        return read_regular(path, most=MAX_BYTES)
    except OSError as error:
        return error
