"""API keys: a file of hashes, so that who reads it cannot use them; and what each key may do."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from nearshot.schema.disk import written_whole
from nearshot.schema.errors import UsageError
from nearshot.schema.store import utc_now


class Access(StrEnum):
    """Kind of access that a key gives: to ask, or to change the store as well."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the file has it: its name, the SHA-256 of its secret, its scopes, and when it was made.

    The secret has 256 random bits: a fast hash of it cannot be searched through, as that of a password can.
    """

    name: str
    sha256: str
    scopes: tuple[Access, ...]
    created: str


def read_keys(file: Path) -> list[Key]:
    """The keys of a file. UsageError where it cannot be read, or is no such file."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        return [
            Key(
                str(row["name"]),
                bytes.fromhex(row["sha256"]).hex(),
                tuple(map(Access, row["scopes"])),
                str(row["created"]),
            )
            for row in rows
        ]
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}; make it with `nearshot keys add NAME`") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{file} is not a file of API keys; make one with `nearshot keys add NAME`") from error


class KeyFile:
    """The keys of a file, read again whenever it has changed: a key that is revoked is refused from then on."""

    def __init__(self, file: Path) -> None:
        """Read it now; raises UsageError."""
        self._file = file
        self._state: tuple[int, int] | None = None
        self._keys: list[Key] = []
        self()

    def __call__(self) -> Sequence[Key]:
        """The keys as they are now. Where the file is gone there are none."""
        try:
            status = self._file.stat()
        except OSError:
            if self._state is None:
                return self._read()
            return ()
        if self._state != (status.st_mtime_ns, status.st_ino):
            self._read()
            self._state = (status.st_mtime_ns, status.st_ino)
        return self._keys

    def _read(self) -> list[Key]:
        self._keys = read_keys(self._file)
        return self._keys


def add_key(file: Path, name: str, scopes: Sequence[Access]) -> str:
    """Make a key, and return its secret, which is kept nowhere. UsageError for a name that is taken."""
    secret = f"nearshot_{secrets.token_urlsafe(32)}"
    with _alone(file):
        keys = read_keys(file) if file.exists() else []
        if any(key.name == name for key in keys):
            raise UsageError(f"there is a key '{name}' already; revoke it, or take another name")
        _write(file, [*keys, Key(name, _hash(secret), tuple(scopes), utc_now())])
    return secret


def revoke_key(file: Path, name: str) -> None:
    """Take a key out of the file. UsageError where it has none of the name."""
    with _alone(file):
        keys = read_keys(file)
        if all(key.name != name for key in keys):
            raise UsageError(f"there is no key '{name}'; there are {', '.join(key.name for key in keys) or 'none'}")
        _write(file, [key for key in keys if key.name != name])


def access_of(keys: Sequence[Key], secret: str) -> frozenset[Access]:
    """Return what a secret may do: nothing if it is no key's. Takes equally long for any secret."""
    given = _hash(secret)
    scopes: frozenset[Access] = frozenset()
    for key in keys:
        if hmac.compare_digest(key.sha256, given):
            scopes = frozenset(key.scopes)
    return scopes


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold the file against other processes that would change it, from before it is read until it is written."""
    lock = FileLock(file.with_name(f".{file.name}.lock"), timeout=10)
    try:
        lock.acquire()
    except (OSError, Timeout) as error:
        raise UsageError(f"cannot write {file}: {error}") from error
    try:
        yield
    finally:
        lock.release()


def _write(file: Path, keys: Sequence[Key]) -> None:
    """Replace the file as a whole; only its owner may read it."""
    try:
        with written_whole(file, mode=0o600) as aside:
            aside.write_text(json.dumps([asdict(key) for key in keys], indent=1), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error
