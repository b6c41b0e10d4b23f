"""Objects: files in a store of objects (Amazon S3, Google Cloud Storage and what speaks like them), by fsspec.

Who may read them is told by where the libraries below look for it: the environment, configuration files, the machine itself.
Whatever fails is an OSError, as it is on a disk: AwayError but for an object that is not there, or is already.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import xxhash

from nearshot.schema.errors import AwayError, UsageError
from nearshot.schema.images import FileState

if TYPE_CHECKING:
    from upath import UPath

for library in ("aiobotocore", "botocore", "fsspec", "gcsfs", "s3fs"):
    logging.getLogger(library).addHandler(logging.NullHandler())  # else what they raise is printed, too

ERRNOS = {FileNotFoundError: errno.ENOENT, FileExistsError: errno.EEXIST}
WORDS = {errno.ENOENT: "there is no such object or bucket", errno.EEXIST: "there is one already"}
HINTS = {
    "NoCredentialsError": "; set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`"
}
"""What to do about some of the libraries' errors, by their names."""

QUERY = re.compile(r"\?[^\s\"']*")
"""What a URL says behind its path, which no user has named."""


PAGE = 1000
"""Objects that S3 lists with one request, at most."""

PATIENCE: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 2, "mode": "standard"}}
    }
}
"""How long the libraries wait for a store, and how often they ask again."""


class Straight(NamedTuple):
    """Names of what lies straight in a directory of objects: the directories and the files, each in order."""

    directories: list[str]
    files: list[str]


def path_of(scheme: str, rest: str) -> UPath:
    """The path of an object or a directory of them; UsageError where the packages for it are not here."""
    try:
        from fsspec import get_filesystem_class
        from upath import UPath

        get_filesystem_class(scheme)
    except ImportError as error:
        raise UsageError(f"{scheme}://{rest} needs a package: pip install 'nearshot[{scheme}]'") from error
    path: UPath = UPath(f"{scheme}://{rest}", use_listings_cache=False, **PATIENCE.get(scheme, {}))
    return path


def listing(directory: UPath) -> dict[str, FileState]:
    """Every object below a directory: its path relative to it, and its state. OSError.

    A thousand come with each request. An object whose name ends in a slash stands for a directory, and is passed over.
    """
    start = _start(directory)
    with _telling(directory):
        infos = _listed_s3(directory) if directory.protocol == "s3" else _listed(directory)
        return {
            name.removeprefix(start): _state(info)
            for name, info in infos
            if name.startswith(start) and not name.endswith("/")
        }


def _listed(directory: UPath) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object below a directory, with what the listing says of it, all of which is in memory at once."""
    infos: dict[str, dict[str, Any]] = directory.fs.find(directory.path, detail=True)
    yield from ((name, info) for name, info in infos.items() if info["type"] == "file")


def _listed_s3(directory: UPath) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same, a page at a time: of a million objects what S3 says of each would take 2 GB."""
    bucket, prefix, _ = directory.fs.split_path(directory.path)
    more: dict[str, str] = {}
    while True:
        page = directory.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{prefix}/", MaxKeys=PAGE, **more)
        for each in page.get("Contents", ()):
            yield f"{bucket}/{each['Key']}", {**each, "size": each["Size"]}
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def straight_in(directory: UPath) -> Straight:
    """What lies straight in a directory; none of either where there is no such directory. OSError."""
    try:
        with _telling(directory):
            infos: list[dict[str, Any]] = directory.fs.ls(directory.path, detail=True)
    except FileNotFoundError:
        if not _has_bucket(directory):
            raise
        infos = []
    start = _start(directory)
    names: dict[str, set[str]] = {"directory": set(), "file": set()}
    for info in infos:
        if info["name"].startswith(start):
            names[info["type"]].add(info["name"].removeprefix(start).rstrip("/"))
    return Straight(*(sorted(names[kind] - {""}) for kind in ("directory", "file")))


def is_directory(path: UPath) -> bool:
    """Tell whether anything lies below a path; OSError where that cannot be told."""
    try:
        return any(straight_in(path))
    except FileNotFoundError:
        return False


def names_in(directory: UPath) -> list[str]:
    """The names of what lies straight in a directory; OSError."""
    inside = straight_in(directory)
    return [*inside.directories, *inside.files]


def read(path: UPath, *, most: int | None = None) -> bytes:
    """The bytes of an object; OSError, also where there are more than `most`, which are not read."""
    if most is not None and (size := state_of(path).size) > most:
        raise OSError(errno.EFBIG, f"{size:,} bytes are more than the cap of {most:,}", str(path))
    with _telling(path):
        data: bytes = path.fs.cat_file(path.path)
    return data


def state_of(path: UPath) -> FileState:
    """The state of an object; OSError."""
    with _telling(path):
        info: dict[str, Any] = path.fs.info(path.path)
    if info["type"] != "file":
        raise FileNotFoundError(errno.ENOENT, "there is no such object", str(path))
    return _state(info)


def write(path: UPath, data: bytes) -> None:
    """Write an object, which is there whole or not at all; OSError, FileExistsError where there is one already."""
    with _telling(path):
        path.fs.pipe_file(path.path, data, mode="create")


def delete(path: UPath) -> None:
    """Delete an object, if it is there; OSError."""
    with suppress(FileNotFoundError), _telling(path):
        path.fs.rm_file(path.path)


def _has_bucket(path: UPath) -> bool:
    bucket = path.path.partition("/")[0]
    try:
        with _telling(path):
            path.fs.ls(bucket)
    except FileNotFoundError:
        return False
    return True


def _start(directory: UPath) -> str:
    return f"{directory.path.rstrip('/')}/"


def _state(info: dict[str, Any]) -> FileState:
    """The state of an object by what a listing tells: its size, when it was written, to a second, and a number for its version.

    S3 tells versions of an object apart by a tag, Google by a generation. A listing may be finer about time than a question
    about one object is.
    """
    written = info.get("LastModified") or info.get("timeCreated") or 0
    if isinstance(written, str):
        written = datetime.fromisoformat(written)
    seconds = int(written.timestamp()) if isinstance(written, datetime) else 0
    version = str(info.get("generation") or info.get("ETag") or "")
    return FileState(int(info["size"]), seconds * 10**9, xxhash.xxh3_64_intdigest(version.encode()) >> 1)


@contextmanager
def _telling(path: UPath) -> Iterator[None]:
    """Have whatever the libraries raise be an OSError that tells why in a line."""
    try:
        yield
    except Exception as error:
        number = next((number for kind, number in ERRNOS.items() if isinstance(error, kind)), None)
        if number is not None:
            raise OSError(number, WORDS[number], str(path)) from error
        told = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise AwayError(str(path).rstrip("/"), QUERY.sub("", told) + HINTS.get(type(error).__name__, "")) from error
