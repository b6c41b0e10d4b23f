"""Quiet TIFF: libtiff writes what it dislikes of a file to standard error, without its name; Pillow raises it besides."""

from __future__ import annotations

import ctypes
import ctypes.util
from contextlib import suppress
from pathlib import Path

import PIL


def silence_libtiff() -> None:
    """Take libtiff's handlers of warnings and errors away, in the library that Pillow was built with or comes with."""
    libraries = [
        *map(str, Path(PIL.__file__).parents[1].glob("pillow.libs/libtiff*")),
        ctypes.util.find_library("tiff"),
    ]
    for library in filter(None, libraries):
        with suppress(OSError, AttributeError):
            tiff = ctypes.CDLL(library)
            tiff.TIFFSetWarningHandler(None)
            tiff.TIFFSetErrorHandler(None)
