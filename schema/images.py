"""Facts about an image in nearshot: its role, its place in the directory contract, its state on disk and in the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from nearshot.schema.vocabulary import Role

UNKNOWN = "Unknown"
"""The true label of a query that shows none of its category's labels."""


class FileState(NamedTuple):
    """Result of one `stat` of a file: bytes, and nanoseconds since the epoch. Equal states mean an unchanged file.

    ctime is part of it because copying tools restore mtime, and because a permission that was mended changes ctime alone.
    """

    size: int
    mtime_ns: int
    ctime_ns: int


NO_FILE = FileState(0, 0, 0)


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image (or what should be one) found in a data directory.

    `path` is relative to the root, with forward slashes. `failure` is a reason known without reading the file.
    """

    path: str
    category: str
    role: Role
    label: str | None
    shot: str | None
    state: FileState
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A caption by hand: a text file beside an image, of the same name but for the suffix. `path` is relative to the root."""

    path: str
    state: FileState


class KnownImage(NamedTuple):
    """An image as the store knows it. `failure` is set when it could not be used, by the decoder named.

    `revision` is that of the last change of its row.
    """

    id: int
    path: str
    category: str
    role: str
    label: str | None
    shot: str | None
    size: int
    mtime_ns: int
    ctime_ns: int
    content_id: int | None
    failure: str | None
    decoder: str | None
    present: bool
    revision: int

    @property
    def state(self) -> FileState:
        """The file's state when it was last read."""
        return FileState(self.size, self.mtime_ns, self.ctime_ns)


class Origin(NamedTuple):
    """Where a crop came from: the raw picture's path, absolute, the box (left, top, right, bottom) in its upright pixels, what
    the detector called it, and its score there; None for what a detector does not tell."""

    picture: str
    box: tuple[int, int, int, int]
    name: str | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Shown:
    """An indexed image as a result shows it; `path` is absolute, so that it can be opened from anywhere.

    `origin` is None but for crops that are as they were cut.
    """

    id: int
    path: str
    category: str
    role: Role
    label: str | None
    shot: str | None
    origin: Origin | None = None
