"""Paths: of files on a disk, and of objects in a store of objects, which a URL names: s3://BUCKET/..., gs://BUCKET/...

What is done with a file that may be either is done by the functions here. On a disk they are those of `schema.disk`; an object
is read and written whole by fsspec (`schema.objects`).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union
from urllib.parse import unquote, urlsplit

from nearshot.schema import disk
from nearshot.schema.errors import UsageError
from nearshot.schema.images import FileState

if TYPE_CHECKING:
    from upath import UPath

AnyPath: TypeAlias = Union[Path, "UPath"]
"""A path on a disk, or that of an object."""

AT_ONCE = 16
"""Objects that are asked about, or on their way, at once: each takes tens of milliseconds, and next to no work."""

EXTRAS = {"s3": "s3", "gs": "gs"}
"""The schemes of objects, and the extra of nearshot that each needs."""


def is_url(text: str | os.PathLike[str]) -> bool:
    """Tell whether something names a place by a scheme, and is no path on a disk."""
    return isinstance(text, str) and "://" in text


def path_of(text: str | os.PathLike[str]) -> AnyPath:
    """The path that something names. UsageError for a scheme that is not known, or whose package is not here."""
    if not is_url(text):
        return Path(text)
    scheme, _, rest = str(text).partition("://")
    scheme = scheme.lower()
    if scheme == "file":
        url = urlsplit(str(text))
        if url.netloc not in ("", "localhost"):
            raise UsageError(f"{text} names the machine {url.netloc}; give a path on this one")
        return Path(unquote(url.path))
    if scheme not in EXTRAS:
        raise UsageError(f"{text}: {scheme}:// is not known; give a directory, or file://, s3:// or gs://")
    if not rest.partition("/")[0]:
        raise UsageError(f"{text} names no bucket; give {scheme}://BUCKET/DIRECTORY")
    from nearshot.schema import objects

    return objects.path_of(scheme, rest.rstrip("/"))


def is_object(path: AnyPath) -> bool:
    """Tell whether a path is that of an object, which is on no disk."""
    return not isinstance(path, Path)


def resolved(path: AnyPath) -> AnyPath:
    """A path without links, . and .., absolute: what the store knows it by."""
    return Path(os.path.realpath(path)) if isinstance(path, Path) else path


def named(path: AnyPath) -> str:
    """What the store calls a data directory."""
    return str(path) if isinstance(path, Path) else str(path).rstrip("/")


def read_file(path: AnyPath, *, most: int | None = None) -> bytes:
    """The bytes of a file; OSError where there are none, or more than `most`, which are not read."""
    if isinstance(path, Path):
        return disk.read_regular(path, most=most)
    from nearshot.schema import objects

    return objects.read(path, most=most)


def sha256_of(path: AnyPath) -> str:
    """The SHA-256 of a file, in hexadecimal; OSError."""
    if isinstance(path, Path):
        return disk.sha256_of(path)
    return hashlib.sha256(read_file(path)).hexdigest()


def state_of(path: AnyPath) -> FileState:
    """The state of a file; OSError."""
    if isinstance(path, Path):
        status = path.stat()
        return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    from nearshot.schema import objects

    return objects.state_of(path)


def on_disk(text: str | os.PathLike[str]) -> Path:
    """The path on a disk that something names; UsageError for an object's."""
    path = path_of(text)
    if not isinstance(path, Path):
        raise UsageError(f"{text} is on no disk, where this works: copy it here, or mount it")
    return path


def is_directory(path: AnyPath) -> bool:
    """Tell whether there is a directory: of objects, whether there is one below; OSError where that cannot be told."""
    if isinstance(path, Path):
        return path.is_dir()
    from nearshot.schema import objects

    return objects.is_directory(path)


def is_gone(directory: str) -> bool:
    """Tell whether a data directory, as the store calls it, is certainly not there: that nobody may look proves nothing."""
    try:
        return not is_directory(path_of(directory))
    except (OSError, UsageError):
        return False


def is_file(path: AnyPath) -> bool:
    """Tell whether there is a file, which a link may lead to; OSError where that cannot be told."""
    return path.is_file() if isinstance(path, Path) else is_there(path)


def is_there(path: AnyPath) -> bool:
    """Tell whether there is a file (or a link, or a directory on a disk); OSError where that cannot be told."""
    if isinstance(path, Path):
        return os.path.lexists(path)
    try:
        state_of(path)
    except FileNotFoundError:
        return False
    return True


def names_in(directory: AnyPath) -> list[str]:
    """What lies straight in a directory; OSError. A directory of objects that has none is there, and empty."""
    if isinstance(directory, Path):
        return [path.name for path in directory.iterdir()]
    from nearshot.schema import objects

    return objects.names_in(directory)


def write_file(path: AnyPath, data: bytes) -> None:
    """Write a file whole, or not at all: OSError. An object that is there already is left as it is: FileExistsError."""
    if isinstance(path, Path):
        with disk.written_whole(path) as aside:
            aside.write_bytes(data)
        return
    from nearshot.schema import objects

    objects.write(path, data)


def make_directories(*paths: AnyPath) -> None:
    """Make directories that are not there, in the order given, each in one that is: OSError. Objects need none."""
    disk.make_directories(*(path for path in paths if isinstance(path, Path)))


def delete_file(path: AnyPath) -> None:
    """Delete a file, if it is there: OSError."""
    if isinstance(path, Path):
        disk.delete_file(path)
        return
    from nearshot.schema import objects

    objects.delete(path)
