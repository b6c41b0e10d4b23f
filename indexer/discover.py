"""Discovery: what lies in a data directory, by names and one `stat` a file; nothing is opened but labels.csv."""

from __future__ import annotations

import csv
import errno
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path, PurePosixPath

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
NOT_A_ROW = "a row is path,label, the path that of a query, relative to the file's directory"
NOT_A_FILE = "neither a file nor a directory"

_NAME = attrgetter("name")


class Discovery:
    """A walk over a data directory (or some categories of it), in the order of names: iterate over it, once, for its images.

    Nothing is kept of an image that was passed on. What lies outside the contract (`breaches`), the directories that could not
    be read (`unread`) and the caption files (`sidecars`, by the path of the image that they lie beside) are complete when the
    iteration ends; `categories` are known from the start.
    """

    def __init__(
        self, root: Path, categories: Collection[str] = (), *, follow_links: bool = False, raw: str | None = None
    ) -> None:
        """Raise UsageError where it is no data directory, or has no such category.

        With `raw`, the name of a directory in the categories, what is walked over are the raw pictures in those.
        """
        if not root.is_dir():
            raise UsageError(
                f"{root} is not a directory; give the data directory that holds <category>/{SUPPORT_DIRECTORY}/"
            )
        if (root / SUPPORT_DIRECTORY).is_dir() or (root / QUERY_DIRECTORY).is_dir():
            raise UsageError(f"{root} is a category, not the data directory; give {root.resolve().parent}")
        self.breaches: list[Breach] = []
        self.unread: list[str] = []
        self.sidecars: dict[str, Sidecar] = {}
        self._walk = _Walk(str(root), self, follow_links=follow_links, raw=raw)
        names = self._walk.top()
        if missing := sorted(set(categories) - set(names)):
            raise UsageError(f"no category '{missing[0]}' in {root}; there are {', '.join(names) or 'none'}")
        self.categories = [name for name in names if not categories or name in categories]

    def __iter__(self) -> Iterator[FoundImage]:
        """Walk."""
        for name in self.categories:
            yield from self._walk.category(name)

    def hides(self, path: str) -> bool:
        """Tell whether a path lies in a directory that could not be read, so that its absence proves nothing."""
        return any(path.startswith(f"{directory}/") for directory in self.unread)


class _Walk:
    """One walk over a data directory; it fills in a Discovery."""

    def __init__(self, root: str, discovery: Discovery, *, follow_links: bool, raw: str | None) -> None:
        self._root, self._follow_links, self._raw = root, follow_links, raw
        self._sections = (SUPPORT_DIRECTORY, QUERY_DIRECTORY) if raw is None else (raw,)
        self._inside = os.path.join(os.path.realpath(root), "")  # noqa: PTH118
        self._found = discovery
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
        listed = _ListedLabels(self._root, name)
        labels: set[str] = set()
        for image in self._directory((name,), frozenset()):
            if image.role == Role.SUPPORT:
                if image.label and not image.failure:
                    labels.add(image.label)
                yield image
            else:
                label = listed.take(image.path, labels)
                label = true_label(image.path.split("/"), labels) or label
                yield image if label == image.label else replace(image, label=label)
        self._found.breaches.extend(
            Breach(f"{path}/", NOT_A_SECTION, files) for path, files in sorted(self._elsewhere.items())
        )
        self._found.breaches.extend(listed.breaches())

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
        named: dict[str, list[str]] = {}
        for path in beside:
            named.setdefault(PurePosixPath(path).stem, []).append(path)
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
            for path in paths:
                self._found.sidecars[path] = Sidecar(f"{directory}/{entry.name}", state)

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
            self._found.unread.append("/".join(parts))
            return [], self._failed(parts, f"the directory cannot be read: {error.strerror}")
        return entries, None

    def _failed(self, parts: tuple[str, ...], reason: str) -> FoundImage | None:
        """Take what cannot be used as an image that failed where images lie, and as outside the contract elsewhere."""
        section = parts[1] if len(parts) > 1 else None
        if section not in self._sections:
            self._found.breaches.append(Breach("/".join(parts), reason))
            return None
        role = Role.SUPPORT if section == SUPPORT_DIRECTORY else Role.QUERY
        placement = self._place(parts)
        label, shot = (None, None) if isinstance(placement, str) else (placement.label, placement.shot)
        return FoundImage("/".join(parts), parts[0], role, label, shot, NO_FILE, reason)

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


class _ListedLabels:
    """True labels from labels.csv beside or in 6.preprocessed/; a row that names no query or no label is a breach."""

    def __init__(self, root: str, category: str) -> None:
        self._rows: dict[str, list[tuple[str, int, str]]] = {}
        self._breaches: list[tuple[str, int, str]] = []
        for directory in (category, f"{category}/{QUERY_DIRECTORY}"):
            relative = f"{directory}/{LABELS_FILE}"
            try:
                with Path(root, relative).open(encoding="utf-8-sig", newline="") as file:
                    rows = list(csv.reader(file))
            except FileNotFoundError:
                continue
            except (OSError, ValueError, csv.Error) as error:
                self._breaches.append((relative, 0, f"cannot be read: {error}"))
                continue
            for number, row in enumerate(rows, start=1):
                if not row or (number == 1 and [cell.strip().lower() for cell in row] == ["path", "label"]):
                    continue
                if len(row) != 2:
                    self._breaches.append((relative, number, NOT_A_ROW))
                else:
                    line = (relative, number, row[1].strip())
                    self._rows.setdefault(f"{directory}/{row[0].strip()}", []).append(line)

    def take(self, path: str, labels: set[str]) -> str | None:
        """The label that is listed for a query, the last one where there are several."""
        label = None
        for relative, number, listed in self._rows.pop(path, ()):
            if listed in labels or listed == UNKNOWN:
                label = listed
            else:
                rule = f"'{listed}' is neither a label of the support set nor {UNKNOWN}"
                self._breaches.append((relative, number, rule))
        return label

    def breaches(self) -> list[Breach]:
        """What was wrong, in the order of the lines, when every query has been taken."""
        unknown = [(relative, number, NOT_A_ROW) for rows in self._rows.values() for relative, number, _ in rows]
        return [
            Breach(f"{relative} line {number}" if number else relative, rule, files=0 if number else 1)
            for relative, number, rule in sorted([*self._breaches, *unknown])
        ]


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
