"""Discovery: what lies in a data directory, by names and one `stat` a file; nothing is opened but labels.csv."""

from __future__ import annotations

import csv
import errno
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from nearshot.schema.contract import (
    LABELS_FILE,
    NOT_A_SECTION,
    NOT_IN_A_CATEGORY,
    QUERY_DIRECTORY,
    SUPPORT_DIRECTORY,
    Breach,
    has_image_suffix,
    is_ignored,
    is_sidecar_name,
    place_file,
    true_label,
)
from nearshot.schema.errors import UsageError
from nearshot.schema.images import NO_FILE, UNKNOWN, FileState, FoundImage, Sidecar
from nearshot.schema.vocabulary import Role

NOT_UTF8 = "its name is not UTF-8; rename it"
DIRECTORY_NAMED_IMAGE = "a directory with an image's name; rename it"
DANGLING_LINK = "a link to nothing"
LINK_OUTSIDE = "a link that leads out of the data directory; passed over without --follow-links"
LINK_LOOP = "a link that leads back to itself"
NOT_A_FILE = "neither a file nor a directory"


@dataclass(slots=True)
class Discovery:
    """Result of discovery: images in the contract, what lies outside it, and directories that could not be read.

    `sidecars` are the caption files, by the path of the image that they lie beside.
    """

    categories: list[str] = field(default_factory=list)
    images: list[FoundImage] = field(default_factory=list)
    breaches: list[Breach] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    sidecars: dict[str, Sidecar] = field(default_factory=dict)

    def hides(self, path: str) -> bool:
        """Tell whether a path lies in a directory that could not be read, so that its absence proves nothing."""
        return any(path.startswith(f"{directory}/") for directory in self.unread)


def discover(root: Path, categories: Collection[str] = (), *, follow_links: bool = False) -> Discovery:
    """Walk a data directory (or only some categories of it), in the order of names.

    Raises UsageError where it is no data directory, or has no such category.
    """
    if not root.is_dir():
        raise UsageError(
            f"{root} is not a directory; give the data directory that holds <category>/{SUPPORT_DIRECTORY}/"
        )
    if (root / SUPPORT_DIRECTORY).is_dir() or (root / QUERY_DIRECTORY).is_dir():
        raise UsageError(f"{root} is a category, not the data directory; give {root.resolve().parent}")
    discovery = Discovery()
    walk = _Walk(str(root), discovery, follow_links=follow_links)
    names = walk.top()
    if missing := sorted(set(categories) - set(names)):
        raise UsageError(f"no category '{missing[0]}' in {root}; there are {', '.join(names) or 'none'}")
    for name in names:
        if not categories or name in categories:
            walk.category(name)
    return discovery


class _Walk:
    """One walk over a data directory; it fills in a Discovery."""

    def __init__(self, root: str, discovery: Discovery, *, follow_links: bool) -> None:
        self._root, self._follow_links = root, follow_links
        self._inside = os.path.join(os.path.realpath(root), "")  # noqa: PTH118
        self._found = discovery
        self._elsewhere: Counter[str] = Counter()

    def top(self) -> list[str]:
        """The names of the categories; files beside them are outside the contract."""
        names = []
        for entry in self._entries(()):
            if not _is_utf8(entry.name):
                self._breach((_shown(entry.name),), NOT_UTF8)
            elif not _is_directory(entry):
                self._breach((entry.name,), NOT_IN_A_CATEGORY)
            elif self._leads_outside(entry):
                self._breach((entry.name,), LINK_OUTSIDE)
            else:
                names.append(entry.name)
        return names

    def category(self, name: str) -> None:
        """Everything in one category, its queries labelled."""
        discovery = self._found
        discovery.categories.append(name)
        before = len(discovery.images)
        self._elsewhere.clear()
        self._directory((name,), frozenset())
        discovery.breaches.extend(
            Breach(f"{path}/", NOT_A_SECTION, files) for path, files in sorted(self._elsewhere.items())
        )
        images = discovery.images[before:]
        labels = {image.label for image in images if image.role == Role.SUPPORT and image.label and not image.failure}
        listed = self._listed_labels(name, labels)
        discovery.images[before:] = [_with_true_label(image, labels, listed) for image in images]

    def _directory(self, parts: tuple[str, ...], above: frozenset[tuple[int, int]]) -> None:
        try:
            here = Path(self._path(parts)).stat()
        except OSError:
            here = None
        inside = above | {(here.st_dev, here.st_ino)} if here else above
        before = len(self._found.images)
        texts: list[os.DirEntry[str]] = []
        for entry in self._entries(parts):
            entry_parts = (*parts, entry.name)
            if not _is_utf8(entry.name):
                self._fail((*parts, _shown(entry.name)), NOT_UTF8)
            elif (
                len(entry_parts) in (2, 3)
                and entry.name == LABELS_FILE
                and entry_parts[1] in (LABELS_FILE, QUERY_DIRECTORY)
            ):
                continue
            elif self._leads_outside(entry):
                self._fail(entry_parts, LINK_OUTSIDE)
            elif self._is_link_loop(entry, inside):
                self._fail(entry_parts, LINK_LOOP)
            elif not _is_directory(entry):
                if (
                    is_sidecar_name(entry.name)
                    and len(entry_parts) > 2
                    and entry_parts[1] in (SUPPORT_DIRECTORY, QUERY_DIRECTORY)
                ):
                    texts.append(entry)
                else:
                    self._file(entry_parts, entry)
            elif (
                len(entry_parts) > 2
                and entry_parts[1] in (SUPPORT_DIRECTORY, QUERY_DIRECTORY)
                and has_image_suffix(entry.name)
            ):
                self._fail(entry_parts, DIRECTORY_NAMED_IMAGE)
            else:
                self._directory(entry_parts, inside)
        if texts:
            self._sidecars(parts, texts, self._found.images[before:])

    def _sidecars(self, parts: tuple[str, ...], texts: list[os.DirEntry[str]], images: list[FoundImage]) -> None:
        """Give caption files to the images of their names in the same directory."""
        directory = "/".join(parts)
        beside: dict[str, list[str]] = {}
        for image in images:
            parent, _, name = image.path.rpartition("/")
            if parent == directory:
                beside.setdefault(PurePosixPath(name).stem, []).append(image.path)
        for entry in texts:
            named = beside.get(PurePosixPath(entry.name).stem)
            if not named:
                self._file((*parts, entry.name), entry)
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
            for path in named:
                self._found.sidecars[path] = Sidecar(f"{directory}/{entry.name}", state)

    def _file(self, parts: tuple[str, ...], entry: os.DirEntry[str]) -> None:
        placement = place_file(parts)
        if isinstance(placement, str):
            self._breach(parts, placement)
            return
        failure, state = None, NO_FILE
        try:
            file_stat = entry.stat()
        except FileNotFoundError:
            if not entry.is_symlink():
                return  # it vanished since the directory was read
            failure = DANGLING_LINK
        except OSError as error:
            failure = LINK_LOOP if error.errno == errno.ELOOP else _reason(error)
        else:
            state = FileState(file_stat.st_size, file_stat.st_mtime_ns, file_stat.st_ctime_ns)
            failure = None if stat.S_ISREG(file_stat.st_mode) else NOT_A_FILE
        path = "/".join(parts)
        self._found.images.append(
            FoundImage(path, placement.category, placement.role, placement.label, placement.shot, state, failure)
        )

    def _entries(self, parts: tuple[str, ...]) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self._path(parts)) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if not parts:
                raise UsageError(f"{self._root} cannot be read: {error.strerror}") from error
            self._found.unread.append("/".join(parts))
            self._fail(parts, f"the directory cannot be read: {error.strerror}")
            return
        yield from (entry for entry in entries if not is_ignored(entry.name))

    def _fail(self, parts: tuple[str, ...], reason: str) -> None:
        """Take what cannot be used as an image that failed where images lie, and as outside the contract elsewhere."""
        section = parts[1] if len(parts) > 1 else None
        if section not in (SUPPORT_DIRECTORY, QUERY_DIRECTORY):
            self._found.breaches.append(Breach("/".join(parts), reason))
            return
        role = Role.QUERY if section == QUERY_DIRECTORY else Role.SUPPORT
        placement = place_file(parts)
        label, shot = (None, None) if isinstance(placement, str) else (placement.label, placement.shot)
        self._found.images.append(FoundImage("/".join(parts), parts[0], role, label, shot, NO_FILE, reason))

    def _breach(self, parts: tuple[str, ...], rule: str) -> None:
        if len(parts) > 2 and rule == NOT_A_SECTION:
            self._elsewhere["/".join(parts[:2])] += 1  # a whole directory elsewhere is one line
        else:
            self._found.breaches.append(Breach("/".join(parts), rule))

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

    def _listed_labels(self, category: str, labels: set[str]) -> dict[str, str]:
        """Labels by path from labels.csv beside or in 6.preprocessed/; a row that names no image or label is a breach."""
        listed: dict[str, str] = {}
        for directory in (category, f"{category}/{QUERY_DIRECTORY}"):
            relative = f"{directory}/{LABELS_FILE}"
            try:
                with Path(self._root, relative).open(encoding="utf-8-sig", newline="") as file:
                    rows = list(csv.reader(file))
            except FileNotFoundError:
                continue
            except (OSError, ValueError, csv.Error) as error:
                self._found.breaches.append(Breach(relative, f"cannot be read: {error}"))
                continue
            queries = {
                image.path for image in self._found.images if image.category == category and image.role == Role.QUERY
            }
            for number, row in enumerate(rows, start=1):
                if not row or (number == 1 and [cell.strip().lower() for cell in row] == ["path", "label"]):
                    continue
                path, label = f"{directory}/{row[0].strip()}", row[-1].strip()
                if len(row) != 2 or path not in queries:
                    rule = "a row is path,label, the path that of a query, relative to the file's directory"
                elif label not in labels and label != UNKNOWN:
                    rule = f"'{label}' is neither a label of the support set nor {UNKNOWN}"
                else:
                    listed[path] = label
                    continue
                self._found.breaches.append(Breach(f"{relative} line {number}", rule, files=0))
        return listed


def _with_true_label(image: FoundImage, labels: set[str], listed: dict[str, str]) -> FoundImage:
    if image.role != Role.QUERY:
        return image
    label = true_label(image.path.split("/"), labels) or listed.get(image.path)
    return image if label == image.label else replace(image, label=label)


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
