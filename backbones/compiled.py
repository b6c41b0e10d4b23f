"""Compiled backbones: what ONNX Runtime encodes with, kept in a cache of the user's, by the fingerprint of what was compiled.

Below the cache's directory, `compiled/<fingerprint>-<runtime>/` holds a record and the files that it gives the digests of, and
`identities/<signature>` the fingerprint that weights of that signature have: so that neither the weights nor their library
need be loaded to know who they are. Nothing is used that its digest does not vouch for; all of it can be deleted at any time.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from filelock import FileLock

from nearshot.backbones.pillow_pixels import PillowPixels
from nearshot.backbones.preparation import Preparation
from nearshot.backbones.protocol import Description
from nearshot.schema.disk import cache_directory, read_regular, written_whole, xxh3_of
from nearshot.schema.errors import NearshotError, UsageError
from nearshot.schema.vocabulary import Precision

FORMAT = 1
RECORD = "compiled.json"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
RUNTIMES = ("auto", "torch")


class CompiledError(NearshotError):
    """A compiled backbone that cannot be used, though it may be whole: there is no memory, or it is just being replaced."""


class DamagedError(CompiledError):
    """A compiled backbone whose bytes are not those that were written."""


@dataclass(frozen=True)
class Compiled:
    """A compiled backbone in the cache, or (`refused`) the reason why it was not compiled."""

    directory: Path
    record: dict[str, Any]

    @property
    def refused(self) -> str | None:
        """Why it was not compiled; None where it was."""
        reason: str | None = self.record.get("refused")
        return reason

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(file.stat().st_size for file in self.directory.iterdir())

    @property
    def encodes_text(self) -> bool:
        """Tell whether words were compiled as well as images."""
        return "text.onnx" in self.record["files"]

    def description(self, name: str) -> Description:
        """The identity of the backbone that was compiled, under a name."""
        return Description(name, self.record["dimension"], Precision.FP32, self.record["fingerprint"])

    @cached_property
    def preparation(self) -> Preparation:
        """How it prepares pictures: by Pillow and NumPy alone."""
        return Preparation(PillowPixels(**self.record["pixels"]), np.array(self.record["table"], dtype=np.float32))

    def checked(self, *names: str) -> list[Path]:
        """The paths of files whose bytes are those that were written; raises CompiledError for any that differs."""
        return [self._checked(name) for name in names]

    def _checked(self, name: str) -> Path:
        path = self.directory / name
        try:
            digest = xxh3_of(path)
        except FileNotFoundError as error:
            raise DamagedError(f"{path} is not there") from error
        except OSError as error:
            raise CompiledError(f"{path} cannot be read: {error.strerror}") from error
        if digest != self.record["files"].get(name):
            raise DamagedError(f"{path} is damaged")
        return path


class CompiledCache:
    """The compiled backbones of a user."""

    def __init__(self, root: Path) -> None:
        """`root` need not be there yet."""
        self.root = root
        self._compiled, self._identities = root / "compiled", root / "identities"

    def fingerprint_of(self, signature: str) -> str | None:
        """The fingerprint that weights of a signature have, as far as it is known."""
        fingerprint = _text(self._identities / signature)
        return fingerprint if fingerprint is not None and _FINGERPRINT.fullmatch(fingerprint) else None

    def of(self, fingerprint: str) -> Compiled | None:
        """What was compiled of a fingerprint for this runtime, None for nothing; DamagedError where its record is damaged."""
        directory = self._compiled / _key(fingerprint)
        text = _text(directory / RECORD)
        if text is None:
            return None
        try:
            record = json.loads(text)
            digest = record.pop("xxh3")
        except (ValueError, KeyError, AttributeError) as error:
            raise DamagedError(f"{directory / RECORD} is damaged") from error
        if digest != _digest(record) or record.get("fingerprint") != fingerprint:
            raise DamagedError(f"{directory / RECORD} is damaged")
        return Compiled(directory, record)

    def knows(self, fingerprint: str) -> bool:
        """Tell whether there is a record of a fingerprint for this runtime, without looking into it."""
        return (self._compiled / _key(fingerprint) / RECORD).is_file()

    def identify(self, signature: str, fingerprint: str) -> None:
        """Remember that weights of a signature have a fingerprint."""
        self._identities.mkdir(parents=True, exist_ok=True)
        with written_whole(self._identities / signature) as path:
            path.write_text(fingerprint, encoding="ascii")

    def forget(self, signature: str) -> None:
        """Remember no more which fingerprint weights of a signature have."""
        (self._identities / signature).unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the cache while compiling, so that two processes do not compile the same."""
        self._compiled.mkdir(parents=True, exist_ok=True)
        with FileLock(self._compiled / ".lock"):
            yield

    def keep(self, fingerprint: str, write: Callable[[Path], dict[str, Any]]) -> Compiled:
        """Keep what `write` puts into a directory, with the record that it returns; replaces what was there, atomically.

        Of what was compiled of the same fingerprint for other runtimes the newest stays, for environments that are used in
        turn; the leavings of whoever was killed here go.
        """
        own = self._compiled / _key(fingerprint)
        others = (path for path in self._compiled.glob(f"{fingerprint}-*") if path != own)
        older = sorted(others, key=lambda path: -path.stat().st_mtime)[1:]
        for left in [own, *older, *self._compiled.glob(".*.part")]:
            shutil.rmtree(left, ignore_errors=True)
        aside = self._compiled / f".{uuid.uuid4().hex}.part"
        aside.mkdir(parents=True)
        try:
            record = write(aside)
            record |= {
                "fingerprint": fingerprint,
                "files": {path.name: xxh3_of(path) for path in sorted(aside.iterdir())},
            }
            with written_whole(aside / RECORD) as path:
                path.write_text(json.dumps(record | {"xxh3": _digest(record)}), encoding="ascii")
            aside.rename(own)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        kept = self.of(fingerprint)
        assert kept is not None
        return kept

    def remove(self, fingerprint: str) -> bool:
        """Delete what was compiled of a fingerprint; tells whether there was anything."""
        there = list(self._compiled.glob(f"{fingerprint}-*"))
        for directory in there:
            shutil.rmtree(directory, ignore_errors=True)
        return bool(there)


def compiled_cache() -> CompiledCache | None:
    """The one in the user's cache (`schema.disk.cache_directory`).

    None where `$NEARSHOT_RUNTIME` is `torch`: then nothing is compiled, nor is anything compiled used. UsageError where it is
    neither that nor `auto`.
    """
    runtime = os.environ.get("NEARSHOT_RUNTIME") or "auto"
    if runtime not in RUNTIMES:
        raise UsageError(f"NEARSHOT_RUNTIME is '{runtime}'; it can be {' or '.join(RUNTIMES)}")
    if runtime == "torch":
        return None
    return CompiledCache(cache_directory())


def _key(fingerprint: str) -> str:
    return f"{fingerprint}-{FORMAT}-onnxruntime-{version('onnxruntime')}-{platform.machine()}"


def _digest(record: dict[str, Any]) -> str:
    return xxhash.xxh3_128(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _text(path: Path) -> str | None:
    try:
        return read_regular(path).decode("ascii", errors="replace")
    except OSError:
        return None
