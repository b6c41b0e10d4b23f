"""Remarks: what a discovery has to say besides the images that it came upon."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from nearshot.schema.contract import Breach
from nearshot.schema.images import FileState, Sidecar


@dataclass(frozen=True, slots=True)
class Remarks:
    """What lies outside the contract, directories that could not be read, and caption files by the path of their image."""

    breaches: list[Breach] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    sidecars: dict[str, Sidecar] = field(default_factory=dict)

    def give_sidecar(self, path: str, state: FileState, images: Iterable[str]) -> None:
        """Give a caption file to the images that it lies beside."""
        for image in images:
            self.sidecars[image] = Sidecar(path, state)


def by_stem(paths: Iterable[str]) -> dict[str, list[str]]:
    """The paths of one directory's files by what their names are without the suffix."""
    named: dict[str, list[str]] = {}
    for path in paths:
        named.setdefault(PurePosixPath(path).stem, []).append(path)
    return named
