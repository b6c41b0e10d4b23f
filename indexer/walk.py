"""A walk over a data directory on a disk, by names and one `stat` a file; nothing is opened but labels.csv."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path, PurePosixPath

from nearshot.indexer.listed_labels import ListedLabels
from nearshot.indexer.remarks import Remarks, by_stem
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
    place_raw,
)
from nearshot.schema.disk import read_regular
from nearshot.schema.errors import UsageError
from nearshot.schema.images import NO_FILE, FileState, FoundImage
from nearshot.schema.vocabulary import Role

NOT_UTF8 = "its name is not UTF-8; rename it"
DIRECTORY_NAMED_IMAGE = "a directory with an image's name; rename it"
DANGLING_LINK = "a link to nothing"
LINK_OUTSIDE = "a link that leads out of the data directory; passed over without --follow-links"
LINK_LOOP = "a link that leads back to itself"
NOT_A_FILE = "neither a file nor a directory"

_NAME = attrgetter("name")


class Walk:
    """One walk over a data directory on a disk; it fills in the remarks."""

    def __init__(self, root: str, remarks: Remarks, *, follow_links: bool, raw: str | None) -> None:
        self._root, self._follow_links, self._raw = root, follow_links, raw
        self._sections = (SUPPORT_DIRECTORY, QUERY_DIRECTORY) if raw is None else (raw,)
        self._inside = os.path.join(os.path.realpath(root), "")  # noqa: PTH118
        self._remarks = remarks
        self._elsewhere: Counter[str] = Counter()

    def top(self) -> list[str]:
        """The names of the categories; files beside them are outside the contract."""
        names = []
        for entry in self._entries(())[0]:
            if not _is_utf8(entry.name):
                self._breach((_shown(entry.name),), NOT_UTF8)
            elif not _is_directory(entry):
                self._breach((entry.name,), NOT_IN_A_CATEGORY)
            elif self._leads_outside(entry):
                self._breach((entry.name,), LINK_OUTSIDE)
            else:
                names.append(entry.name)
        return names

    def category(self, name: str) -> Iterator[FoundImage]:
        """Everything in one category, shots before queries, which are given their true labels."""
        if self._raw is not None:
            if os.path.isdir(self._path((name, self._raw))):  # noqa: PTH112 (Path.is_dir may raise)
                yield from self._directory((name, self._raw), frozenset())
            return
        self._elsewhere.clear()
        listed = ListedLabels(lambda path: read_regular(Path(self._root, path)), name)
        yield from listed.given_to(self._directory((name,), frozenset()))
        self._remarks.breaches.extend(
            Breach(f"{path}/", NOT_A_SECTION, files) for path, files in sorted(self._elsewhere.items())
        )
        self._remarks.breaches.extend(listed.breaches())

    def _directory(self, parts: tuple[str, ...], above: frozenset[tuple[int, int]]) -> Iterator[FoundImage]:
        try:
            here = Path(self._path(parts)).stat()
        except OSError:
            here = None
        inside = above | {(here.st_dev, here.st_ino)} if here else above
        is_section = len(parts) > 1 and parts[1] in self._sections
        beside: list[str] = []
        texts: list[os.DirEntry[str]] = []
        entries, failed = self._entries(parts)
        if failed:
            yield failed
        for entry in entries:
            entry_parts = (*parts, entry.name)
            image = None
            if not _is_utf8(entry.name):
                image = self._failed((*parts, _shown(entry.name)), NOT_UTF8)
            elif (len(parts) == 1 and entry.name == RAW_DIRECTORY) or (
                len(entry_parts) in (2, 3)
                and entry.name == LABELS_FILE
                and entry_parts[1] in (LABELS_FILE, QUERY_DIRECTORY)
            ):
                continue
            elif self._leads_outside(entry):
                image = self._failed(entry_parts, LINK_OUTSIDE)
            elif self._is_link_loop(entry, inside):
                image = self._failed(entry_parts, LINK_LOOP)
            elif not _is_directory(entry):
                if is_section and not self._raw and is_sidecar_name(entry.name):
                    texts.append(entry)
                else:
                    image = self._file(entry_parts, entry)
            elif is_section and has_image_suffix(entry.name):
                image = self._failed(entry_parts, DIRECTORY_NAMED_IMAGE)
            else:
                yield from self._directory(entry_parts, inside)
            if image:
                beside.append(image.path)
                yield image
        if texts:
            self._sidecars(parts, texts, beside)

    def _sidecars(self, parts: tuple[str, ...], texts: list[os.DirEntry[str]], beside: list[str]) -> None:
        """Give caption files to the images of their names in the same directory."""
        directory = "/".join(parts)
        named = by_stem(beside)
        for entry in texts:
            paths = named.get(PurePosixPath(entry.name).stem)
            if not paths:
                self._file((*parts, entry.name), entry)  # outside the contract
                continue
            try:
                file_stat = entry.stat()
            except OSError as error:
                self._breach((*parts, entry.name), f"a caption file that cannot be read: {_reason(error)}")
                continue
            if not stat.S_ISREG(file_stat.st_mode):
                self._breach((*parts, entry.name), NOT_A_FILE)
                continue
            state = FileState(file_stat.st_size, file_stat.st_mtime_ns, file_stat.st_ctime_ns)
            self._remarks.give_sidecar(f"{directory}/{entry.name}", state, paths)

    def _file(self, parts: tuple[str, ...], entry: os.DirEntry[str]) -> FoundImage | None:
        placement = self._place(parts)
        if isinstance(placement, str):
            self._breach(parts, placement)
            return None
        failure, state = None, NO_FILE
        try:
            file_stat = entry.stat()
        except FileNotFoundError:
            if not entry.is_symlink():
                return None  # it vanished since the directory was read
            failure = DANGLING_LINK
        except OSError as error:
            failure = LINK_LOOP if error.errno == errno.ELOOP else _reason(error)
        else:
            state = FileState(file_stat.st_size, file_stat.st_mtime_ns, file_stat.st_ctime_ns)
            failure = None if stat.S_ISREG(file_stat.st_mode) else NOT_A_FILE
        path = "/".join(parts)
        return FoundImage(path, placement.category, placement.role, placement.label, placement.shot, state, failure)

    def _place(self, parts: Sequence[str]) -> Place | str:
        return place_file(parts) if self._raw is None else place_raw(parts, self._raw)

    def _entries(self, parts: tuple[str, ...]) -> tuple[list[os.DirEntry[str]], FoundImage | None]:
        """What lies in a directory, in the order of names; where it cannot be read, an image that failed, or a breach."""
        try:
            with os.scandir(self._path(parts)) as listing:
                entries = sorted((each for each in listing if not is_ignored(each.name)), key=_NAME)
        except OSError as error:
            if not parts:
                raise UsageError(f"{self._root} cannot be read: {error.strerror}") from error
            self._remarks.unread.append("/".join(parts))
            return [], self._failed(parts, f"the directory cannot be read: {error.strerror}")
        return entries, None

    def _failed(self, parts: tuple[str, ...], reason: str) -> FoundImage | None:
        """Take what cannot be used as an image that failed where images lie, and as outside the contract elsewhere."""
        section = parts[1] if len(parts) > 1 else None
        if section not in self._sections:
            self._remarks.breaches.append(Breach("/".join(parts), reason))
            return None
        role = Role.SUPPORT if section == SUPPORT_DIRECTORY else Role.QUERY
        placement = self._place(parts)
        label, shot = (None, None) if isinstance(placement, str) else (placement.label, placement.shot)
        return FoundImage("/".join(parts), parts[0], role, label, shot, NO_FILE, reason)

    def _breach(self, parts: tuple[str, ...], rule: str) -> None:
        if len(parts) > 2 and rule == NOT_A_SECTION:
            self._elsewhere["/".join(parts[:2])] += 1  # a whole directory elsewhere is one line
        else:
            self._remarks.breaches.append(Breach("/".join(parts), rule))

    def _leads_outside(self, entry: os.DirEntry[str]) -> bool:
        """Tell whether an entry is a link to something outside the data directory, which is passed over."""
        if self._follow_links or not entry.is_symlink() or not os.path.exists(entry.path):  # noqa: PTH110 (Path.exists may raise)
            return False
        return not os.path.realpath(entry.path).startswith(self._inside)

    def _is_link_loop(self, entry: os.DirEntry[str], inside: frozenset[tuple[int, int]]) -> bool:
        if not entry.is_symlink():
            return False
        try:
            file_stat = entry.stat()
        except OSError as error:
            return error.errno == errno.ELOOP
        return (file_stat.st_dev, file_stat.st_ino) in inside

    def _path(self, parts: tuple[str, ...]) -> str:
        return os.path.join(self._root, *parts)  # noqa: PTH118 (a hot path)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
