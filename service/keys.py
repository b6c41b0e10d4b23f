"""API keys: hashes in a file or in the store, so that who reads them cannot use them; and what each key may do."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from nearshot.schema.api_keys import api_key_rows, put_api_keys
from nearshot.schema.disk import written_whole
from nearshot.schema.errors import NearshotError, UsageError
from nearshot.schema.store import Store, utc_now


class Access(StrEnum):
    """Kind of access that a key gives: to ask, or to change the store as well."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept: its name, the SHA-256 of its secret, its scopes, and when it was made.

    The secret has 256 random bits: a fast hash of it cannot be searched through, as that of a password can.
    """

    name: str
    sha256: str
    scopes: tuple[Access, ...]
    created: str


def read_keys(kept: Path | Store) -> list[Key]:
    """The keys of a file, or those that a store has. UsageError where a file cannot be read, or is no such file."""
    if not isinstance(kept, Path):
        with kept.reading() as catalog:
            rows = api_key_rows(catalog)
        return [
            Key(name, sha256, tuple(map(Access, scopes.split())), created) for name, sha256, scopes, created in rows
        ]
    try:
        told = json.loads(kept.read_text(encoding="utf-8"))
        return [
            Key(
                str(row["name"]),
                bytes.fromhex(row["sha256"]).hex(),
                tuple(map(Access, row["scopes"])),
                str(row["created"]),
            )
            for row in told
        ]
    except OSError as error:
        raise UsageError(f"cannot read {kept}: {error.strerror}; make it with `nearshot keys add NAME`") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{kept} is not a file of API keys; make one with `nearshot keys add NAME`") from error


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


FOLLOWING_SECONDS = 0.5
"""How often services look which keys the store has."""


class StoredKeys:
    """The keys that a store has, for all services over it: followed, so that one that is revoked is refused within a second.

    While the store does not answer, those that it had are in force; nothing that rests on it is answered then.
    """

    def __init__(self, store: Store) -> None:
        """Read them, and follow them; raises StoreError."""
        self._store = store
        self._keys = read_keys(store)
        self._closing = threading.Event()
        self._following = threading.Thread(target=self._follow, name="keys", daemon=True)
        self._following.start()

    def __call__(self) -> Sequence[Key]:
        """The keys as they were a moment ago."""
        return self._keys

    def close(self) -> None:
        """Follow them no more."""
        self._closing.set()
        self._following.join()

    def _follow(self) -> None:
        while not self._closing.wait(FOLLOWING_SECONDS):
            with suppress(NearshotError):
                self._keys = read_keys(self._store)


def add_key(kept: Path | Store, name: str, scopes: Sequence[Access]) -> str:
    """Make a key in a file or a store, and return its secret, which is kept nowhere. UsageError for a name that is taken."""
    secret = f"nearshot_{secrets.token_urlsafe(32)}"
    with _changing(kept) as keys:
        if any(key.name == name for key in keys):
            raise UsageError(f"there is a key '{name}' already; revoke it, or take another name")
        keys.append(Key(name, _hash(secret), tuple(scopes), utc_now()))
    return secret


def revoke_key(kept: Path | Store, name: str) -> None:
    """Take a key out of a file or a store. UsageError where it has none of the name."""
    read_keys(kept)  # of a file that is not there nothing is made
    with _changing(kept) as keys:
        if all(key.name != name for key in keys):
            raise UsageError(f"there is no key '{name}'; there are {', '.join(key.name for key in keys) or 'none'}")
        keys[:] = [key for key in keys if key.name != name]


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
def _changing(kept: Path | Store) -> Iterator[list[Key]]:
    """The keys, to be changed; what is left of them at the end is written, whole, before anybody else may change them."""
    if isinstance(kept, Path):
        with _alone(kept):
            keys = read_keys(kept) if kept.exists() else []
            yield keys
            _write(kept, keys)
        return
    with kept.writing() as editor:
        keys = read_keys(kept)
        yield keys
        put_api_keys(editor, [(key.name, key.sha256, " ".join(key.scopes), key.created) for key in keys])


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
