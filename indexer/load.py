"""Loading: a file's bytes read once, hashed, and, where a vector is wanted, decoded and prepared for every backbone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

from PIL import Image

from nearshot.backbones.decode import decode
from nearshot.backbones.in_order import in_order
from nearshot.backbones.limits import MAX_BYTES
from nearshot.backbones.protocol import Prepared
from nearshot.schema.disk import open_regular
from nearshot.schema.errors import ImageError
from nearshot.schema.images import NO_FILE, FileState, FoundImage
from nearshot.schema.paths import AT_ONCE, AnyPath, path_of, read_file
from nearshot.schema.store import Store

Result = TypeVar("Result")

Read: TypeAlias = tuple[FileState, bytes]
"""A file's state and its bytes."""

WAITING_BYTES = 4 << 20
"""An object of more is not fetched before it is its turn: sixteen wait for each thread or process that decodes."""

CANNOT_BE_READ = "cannot be read"
VANISHED = "it vanished before it could be read"
CHANGED_WHILE_READ = "it changed while it was read; the next run takes it up"


class Listed(NamedTuple):
    """An object, by its URL, and the state in which it was listed."""

    path: str
    state: FileState


Source: TypeAlias = Path | Listed
"""What is to be loaded."""


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

    def load(self, file: Source) -> Loaded | Skipped:
        """Read one file; whatever is wrong with it becomes a Skipped."""
        return read_image(file, self._use)

    def load_all(self, files: Sequence[Source]) -> list[Loaded | Skipped]:
        """Read some files, one after the other; of objects, the next ones are fetched meanwhile."""
        if not any(isinstance(file, Listed) for file in files):
            return [self.load(file) for file in files]
        fetched = in_order(_fetched_ahead, files, workers=AT_ONCE, ahead=AT_ONCE)
        return [self.load(file) if read is None else _using(read, self._use) for file, read in fetched]

    def _use(self, state: FileState, data: bytes) -> Loaded:
        sha256 = hashlib.sha256(data).hexdigest()
        names = self.wanted(sha256)
        return Loaded(state, sha256, self._picture(data, names) if names else None)

    def _picture(self, data: bytes, names: Collection[str]) -> Picture:
        picture, image_format = decode(data, max_pixels=self.max_pixels)
        prepared = {name: self.prepare(name, picture) for name in names}
        return Picture(picture.width, picture.height, image_format, prepared)


def source_of(root: AnyPath, image: FoundImage) -> Source:
    """What a loader is given of an image below a root."""
    path = root / image.path
    return path if isinstance(path, Path) else Listed(str(path), image.state)


def read_image(file: Source, use: Callable[[FileState, bytes], Result]) -> Result | Skipped:
    """Read one file and use its bytes; whatever is wrong with it becomes a Skipped.

    What a later run may find otherwise, with the file as it is, has no state: it is tried again.
    """
    return _using(_read(file), use)


def _using(read: Read | Skipped, use: Callable[[FileState, bytes], Result]) -> Result | Skipped:
    if isinstance(read, Skipped):
        return read
    state, data = read
    try:
        return use(state, data)
    except OSError as error:
        return Skipped(NO_FILE, f"{CANNOT_BE_READ}: {error.strerror or error}")
    except MemoryError:
        return Skipped(NO_FILE, "not enough memory to decode it")
    except ImageError as error:
        return Skipped(state, str(error))


def _read(file: Source) -> Read | Skipped:
    try:
        return _read_object(file) if isinstance(file, Listed) else _read_from_disk(file)
    except FileNotFoundError:
        return Skipped(NO_FILE, VANISHED)
    except OSError as error:
        return Skipped(NO_FILE, f"{CANNOT_BE_READ}: {error.strerror or error}")
    except MemoryError:
        return Skipped(NO_FILE, "not enough memory to read it")


def _read_from_disk(path: Path) -> Read | Skipped:
    with open_regular(path) as file:
        state = _state(file.fileno())
        if state.size > MAX_BYTES:
            return _too_large(state)
        data = file.read()
        if len(data) != state.size or _state(file.fileno()) != state:
            return Skipped(NO_FILE, CHANGED_WHILE_READ)
    return state, data


def _read_object(file: Listed) -> Read | Skipped:
    """An object comes whole, as it was at some moment after it was listed: one that changed since is read by the next run."""
    if file.state.size > MAX_BYTES:
        return _too_large(file.state)
    data = read_file(path_of(file.path))
    return (file.state, data) if len(data) == file.state.size else Skipped(NO_FILE, CHANGED_WHILE_READ)


def _fetched_ahead(file: Source) -> Read | Skipped | None:
    """What was read of an object; None for one that is too large to wait in memory."""
    return _read(file) if isinstance(file, Listed) and file.state.size <= WAITING_BYTES else None


def _too_large(state: FileState) -> Skipped:
    return Skipped(state, f"{state.size:,} bytes are more than the cap of {MAX_BYTES:,}")


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
