"""Loading: a file's bytes read once, hashed, and, where a vector is wanted, decoded and prepared for every backbone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from nearshot.backbones.decode import decode
from nearshot.backbones.limits import MAX_BYTES
from nearshot.backbones.protocol import Prepared
from nearshot.schema.disk import open_regular
from nearshot.schema.errors import ImageError
from nearshot.schema.images import NO_FILE, FileState
from nearshot.schema.store import Store

Result = TypeVar("Result")

VANISHED = "it vanished before it could be read"
CHANGED_WHILE_READ = "it changed while it was read; the next run takes it up"


@dataclass(frozen=True, slots=True)
class Picture:
    """Result of decoding an image: width and height in pixels, upright, and the picture prepared for some backbones."""

    width: int
    height: int
    image_format: str
    prepared: Mapping[str, Prepared]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file that was read. `picture` is None where the store needs nothing but the hash."""

    state: FileState
    sha256: str
    picture: Picture | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that cannot be used, and why."""

    state: FileState
    reason: str


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads files on any number of threads.

    `prepare` prepares a picture for the backbone of a name, or raises ImageError; `wanted` names the backbones that still need
    a content, by its SHA-256.
    """

    prepare: Callable[[str, Image.Image], Prepared]
    wanted: Callable[[str], Collection[str]]
    max_pixels: int

    def load(self, path: Path) -> Loaded | Skipped:
        """Read one file; whatever is wrong with it becomes a Skipped."""
        return read_image(path, self._use)

    def _use(self, state: FileState, data: bytes) -> Loaded:
        sha256 = hashlib.sha256(data).hexdigest()
        names = self.wanted(sha256)
        return Loaded(state, sha256, self._picture(data, names) if names else None)

    def _picture(self, data: bytes, names: Collection[str]) -> Picture:
        picture, image_format = decode(data, max_pixels=self.max_pixels)
        prepared = {name: self.prepare(name, picture) for name in names}
        return Picture(picture.width, picture.height, image_format, prepared)


def read_image(path: Path, use: Callable[[FileState, bytes], Result]) -> Result | Skipped:
    """Read one file and use its bytes; whatever is wrong with it becomes a Skipped.

    What a later run may find otherwise, with the file as it is, has no state: it is tried again.
    """
    state = NO_FILE
    try:
        with open_regular(path) as file:
            state = _state(file.fileno())
            if state.size > MAX_BYTES:
                return Skipped(state, f"{state.size:,} bytes are more than the cap of {MAX_BYTES:,}")
            data = file.read()
            if len(data) != state.size or _state(file.fileno()) != state:
                return Skipped(NO_FILE, CHANGED_WHILE_READ)
        return use(state, data)
    except FileNotFoundError:
        return Skipped(NO_FILE, VANISHED)
    except OSError as error:
        return Skipped(NO_FILE, f"cannot be read: {error.strerror or error}")
    except MemoryError:
        return Skipped(NO_FILE, "not enough memory to decode it")
    except ImageError as error:
        return Skipped(state, str(error))


def lacking(store: Store, backbone_ids: Mapping[str, int]) -> Callable[[str], list[str]]:
    """The question that a loader asks of every file: which backbones, by name, have not dealt with this SHA-256?"""

    def names(sha256: str) -> list[str]:
        with store.reading() as catalog:
            content = catalog.content(sha256)
        return [name for name, row_id in backbone_ids.items() if content is None or row_id not in content.dealt_with]

    return names


def _state(descriptor: int) -> FileState:
    file_stat = os.fstat(descriptor)
    return FileState(file_stat.st_size, file_stat.st_mtime_ns, file_stat.st_ctime_ns)
