"""A listing of a data directory in a store of objects: what a walk tells of a disk, by a request for every thousand files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from nearshot.indexer.listed_labels import ListedLabels
from nearshot.indexer.remarks import Remarks, by_stem
from nearshot.indexer.walk import DIRECTORY_NAMED_IMAGE
from nearshot.schema.contract import (
    LABELS_FILE,
    NOT_A_SECTION,
    NOT_IN_A_CATEGORY,
    QUERY_DIRECTORY,
    RAW_DIRECTORY,
    SUPPORT_DIRECTORY,
    Breach,
    Place,
    has_image_suffix,
    is_ignored,
    is_sidecar_name,
    place_file,
)
from nearshot.schema.errors import UsageError
from nearshot.schema.images import NO_FILE, FileState, FoundImage
from nearshot.schema.objects import listing, read, straight_in
from nearshot.schema.paths import named
from nearshot.schema.vocabulary import Role

if TYPE_CHECKING:
    from upath import UPath

NO_PATH = "a name that can be no path: a part of it is empty, . or .., or names a version"
INSIDE_AN_IMAGE = "below an image, as on no disk; rename one of them"

Parts = tuple[str, ...]


class Listing:
    """One listing of a data directory, category by category, in the order in which a walk over the same files goes.

    Where it does not answer (AwayError) nothing is known of it, and nothing may count as gone.
    """

    def __init__(self, root: UPath, remarks: Remarks) -> None:
        self._root, self._remarks = root, remarks

    def top(self) -> list[str]:
        """The names of the categories; files beside them are outside the contract."""
        try:
            inside = straight_in(self._root)
        except FileNotFoundError as error:
            raise UsageError(f"{named(self._root)} cannot be listed: {error.strerror}") from error
        files = [name for name in inside.files if not is_ignored(name)]
        self._remarks.breaches.extend(Breach(name, NOT_IN_A_CATEGORY) for name in files)
        return [name for name in inside.directories if not is_ignored(name)]

    def category(self, name: str) -> Iterator[FoundImage]:
        """Everything in one category, shots before queries, which are given their true labels."""
        states = listing(self._root / name)
        listed = ListedLabels(lambda path: self._read_listed(path, name, states), name)
        yield from listed.given_to(self._images(name, states))
        self._remarks.breaches.extend(listed.breaches())

    def _read_listed(self, path: str, category: str, states: Mapping[str, FileState]) -> bytes:
        if path.removeprefix(f"{category}/") not in states:
            raise FileNotFoundError(path)
        return read(self._root / path)

    def _images(self, category: str, states: Mapping[str, FileState]) -> Iterator[FoundImage]:
        elsewhere: Counter[str] = Counter()
        beside: dict[Parts, list[str]] = {}
        texts: dict[Parts, list[str]] = {}
        failed: set[Parts] = set()
        for parts in _in_order(category, states):
            path, state = "/".join(parts), states["/".join(parts[1:])]
            is_section = parts[1] in (SUPPORT_DIRECTORY, QUERY_DIRECTORY)
            placement = place_file(parts)
            if any(part in ("", ".", "..") or "\0" in part or "?versionId=" in part for part in parts):
                self._remarks.breaches.append(Breach(path, NO_PATH))
            elif any(map(is_ignored, parts[1:])) or _is_passed_over(parts):
                continue
            elif is_section and (directory := _named_as_an_image(parts)):
                if "/".join(directory[1:]) in states:
                    self._remarks.breaches.append(Breach(path, INSIDE_AN_IMAGE))
                elif directory not in failed:
                    failed.add(directory)
                    yield _failed(directory)
            elif is_section and is_sidecar_name(parts[-1]):
                texts.setdefault(parts[:-1], []).append(path)
            elif isinstance(placement, Place):
                beside.setdefault(parts[:-1], []).append(path)
                yield FoundImage(path, placement.category, placement.role, placement.label, placement.shot, state)
            elif len(parts) > 2 and placement == NOT_A_SECTION:
                elsewhere["/".join(parts[:2])] += 1  # a whole directory elsewhere is one line
            else:
                self._remarks.breaches.append(Breach(path, placement))
        for directory, paths in texts.items():
            self._give_sidecars(paths, by_stem(beside.get(directory, ())), states)
        self._remarks.breaches.extend(
            Breach(f"{path}/", NOT_A_SECTION, files) for path, files in sorted(elsewhere.items())
        )

    def _give_sidecars(self, paths: list[str], named: Mapping[str, list[str]], states: Mapping[str, FileState]) -> None:
        for path in paths:
            _, _, below = path.partition("/")
            images = named.get(next(iter(by_stem([path]))))
            if images:
                self._remarks.give_sidecar(path, states[below], images)
            elif isinstance(rule := place_file(path.split("/")), str):
                self._remarks.breaches.append(Breach(path, rule))


def _in_order(category: str, names: Iterable[str]) -> list[Parts]:
    """The paths of objects, split at the slashes, as a walk comes upon files."""
    return sorted((category, *name.split("/")) for name in names)


def _named_as_an_image(parts: Parts) -> Parts | None:
    """The directory with an image's name, if any, that a file lies in."""
    return next((parts[:end] for end in range(3, len(parts)) if has_image_suffix(parts[end - 1])), None)


def _is_passed_over(parts: Parts) -> bool:
    is_listing = len(parts) in (2, 3) and parts[-1] == LABELS_FILE and parts[1] in (LABELS_FILE, QUERY_DIRECTORY)
    return parts[1] == RAW_DIRECTORY or is_listing


def _failed(parts: Parts) -> FoundImage:
    """A directory with an image's name, which is told as an image that cannot be used."""
    role = Role.SUPPORT if parts[1] == SUPPORT_DIRECTORY else Role.QUERY
    placement = place_file(parts)
    label, shot = (None, None) if isinstance(placement, str) else (placement.label, placement.shot)
    return FoundImage("/".join(parts), parts[0], role, label, shot, NO_FILE, DIRECTORY_NAMED_IMAGE)
