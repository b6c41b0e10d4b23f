"""Pictures: the forms in which a program or a notebook gives an image."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.decode import upright
from nearshot.retriever.sources import is_folder, read_queries
from nearshot.schema.errors import ImageError, UsageError
from nearshot.schema.paths import path_of

Picture = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
"""An image: a path, its encoded bytes, a PIL image, or an array (height, width, 3) uint8, RGB."""


def is_picture(given: object) -> bool:
    """Tell whether something is one image, and not many."""
    return isinstance(given, str | os.PathLike | bytes | Image.Image | np.ndarray)


def read_picture(
    picture: Picture, number: int, *, whole: bool = False
) -> tuple[str, bytes | Image.Image | OSError | ImageError]:
    """Return what to call the number-th image, and its bytes or upright pixels (all of them: `whole`), or why there are none.

    Raises UsageError for what is no image in any of these forms.
    """
    if isinstance(picture, bytes):
        return f"image {number}", picture
    if isinstance(picture, Image.Image):
        name = str(getattr(picture, "filename", "") or f"image {number}")
        try:
            return name, upright(picture, whole=whole)
        except ImageError as error:
            return name, error
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
            raise UsageError(
                f"an array of shape {picture.shape} and dtype {picture.dtype} is no image; "
                "give (height, width, 3) uint8, RGB"
            )
        return f"image {number}", Image.fromarray(np.ascontiguousarray(picture))
    if not isinstance(picture, str | os.PathLike):
        raise UsageError(f"{type(picture).__name__} is no image; give a path, bytes, a PIL image or an array")
    path = path_of(picture)
    if is_folder(path):
        raise UsageError(f"{path} is a directory; give its images, such as sorted(Path({str(path)!r}).iterdir())")
    [(name, data)] = read_queries([path])
    return name, data
