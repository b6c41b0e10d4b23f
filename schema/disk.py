"""Disk: regular files read without waiting for anybody, and files written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

import xxhash

NOT_REGULAR = "it is no regular file"

_ASIDE = re.compile(r"\.[0-9a-f]{32}\.part")


def cache_directory() -> Path:
    """Where files are kept that can be done without: `$NEARSHOT_CACHE`, else `nearshot` in `$XDG_CACHE_HOME` or `~/.cache`."""
    own = os.environ.get("NEARSHOT_CACHE")
    return Path(own or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/nearshot").expanduser()


def open_regular(path: Path) -> FileIO:
    """Open a file for reading; OSError where it is a pipe, a socket, a device or a directory, which may hang or never end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise OSError(errno.ENXIO, NOT_REGULAR, str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return FileIO(descriptor)


def read_regular(path: Path, *, most: int | None = None) -> bytes:
    """The bytes of a regular file; OSError where there are more than `most`, which are not read, and as `open_regular`."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise OSError(errno.EFBIG, f"{size:,} bytes are more than the cap of {most:,}", str(path))
        return file.read()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a regular file, in hexadecimal; OSError as `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def xxh3_of(path: Path) -> str:
    """The XXH3 of 128 bits of a regular file, in hexadecimal, which tells damage and no ill will; OSError as `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


@contextmanager
def written_whole(path: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """A path to write to, beside the file that it becomes when the block ends: whole and on the disk, or not there at all.

    `mode` are its permissions before the umask. What the block raises is passed on, and so is OSError; a file of that name is
    replaced only by a whole one. After a loss of power there is the old file or the new one, never a torn one.
    """
    aside = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
        yield aside
        _sync(aside)
        aside.replace(path)
        _sync(path.parent)
    except BaseException:
        with suppress(OSError):  # the error that brought us here is the one to tell
            aside.unlink(missing_ok=True)
        raise


def write_together(files: Sequence[tuple[Path, bytes]], *, threads: int) -> None:
    """Write files as `written_whole` does, and sync each directory but once. OSError; then some may be there, each whole."""
    asides = [path.with_name(f".{uuid.uuid4().hex}.part") for path, _ in files]
    try:
        with ThreadPoolExecutor(threads, thread_name_prefix="write") as pool:
            list(pool.map(_write_synced, asides, (data for _, data in files)))
        for aside, (path, _) in zip(asides, files, strict=True):
            aside.replace(path)
        for directory in dict.fromkeys(path.parent for path, _ in files):
            _sync(directory)
    except BaseException:
        with suppress(OSError):  # the error that brought us here is the one to tell
            for aside in asides:
                aside.unlink(missing_ok=True)
        raise


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sweep_aside(directory: Path) -> None:
    """Delete what `written_whole` left behind in a directory when it was killed. Nobody may be writing there."""
    with suppress(OSError):
        for path in directory.iterdir():
            if _ASIDE.fullmatch(path.name):
                path.unlink(missing_ok=True)


def make_directories(*paths: Path) -> None:
    """Make directories that are not there, in the order given, each in one that is: OSError. No loss of power undoes it."""
    for path in paths:
        with suppress(FileExistsError):
            path.mkdir()
            _sync(path.parent)


def delete_file(path: Path) -> None:
    """Delete a file, if it is there: OSError. No loss of power brings it back."""
    path.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Bring a file's bytes, or a directory's names, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
