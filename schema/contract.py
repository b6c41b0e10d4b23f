"""The directory contract: which place in a data directory means what. Pure: it looks at names, never at the disk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from nearshot.schema.images import UNKNOWN
from nearshot.schema.vocabulary import Role

SUPPORT_DIRECTORY = "2.support-set"
QUERY_DIRECTORY = "6.preprocessed"
RAW_DIRECTORY = "1.raw"
"""Directory, under a category, for raw pictures: no images of the index, but what `nearshot crop` cuts some out of."""

LABELS_FILE = "labels.csv"
SIDECAR_SUFFIX = ".txt"
ADDED = "added"
"""Directory, under a category's queries, for images that came another way. It is no label, so nothing is said of them."""

LABEL_BYTES = 200
"""The longest label, in UTF-8; file systems end names at 255."""

IMAGE_SUFFIXES = frozenset(
    {
        ".apng",
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".heic",
        ".heif",
        ".hif",
        ".ico",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
    }
    | {".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
VIDEO_SUFFIXES = frozenset(
    {".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)
"""How the names of videos end, which are raw pictures only."""

SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})

_NEARLY = {
    **dict.fromkeys(("supportset", "support", "supportsets", "supports", "shots"), SUPPORT_DIRECTORY),
    **dict.fromkeys(("preprocessed", "preprocess", "preproccessed", "queries", "query"), QUERY_DIRECTORY),
    **dict.fromkeys(("raw", "raws"), RAW_DIRECTORY),
}
"""Directories that are nearly sections, by their letters alone."""

_NEARLY_A_SHOT = re.compile(r"shot[\s_.#(-]*([0-9]{1,6})\)?(\.[a-z0-9]+)?", re.IGNORECASE)

_SHOT = re.compile(r"shot[0-9]+", re.IGNORECASE)

NOT_IN_A_CATEGORY = "a file straight in the data directory; images belong under <category>/"
NOT_A_SECTION = f"neither {SUPPORT_DIRECTORY}/ nor {QUERY_DIRECTORY}/"
NOT_A_SHOT = "not a shot; a shot is an image file shotN, or a directory shotN holding images"
NOT_AN_IMAGE = "not an image file"
NOT_A_PICTURE = "neither an image file nor a video"
NO_IMAGE_BESIDE = "a caption file NAME.txt belongs beside an image of that NAME; there is none"
RESERVED_LABEL = f"'{UNKNOWN}' is reserved for queries that show no label; rename this directory"


@dataclass(frozen=True, slots=True)
class Place:
    """Place in the contract, and what it says of the image that lies there."""

    category: str
    role: Role
    label: str | None
    shot: str | None


@dataclass(frozen=True, slots=True)
class Breach:
    """A path outside the contract (`files` of them, for a directory) and the rule that it breaks."""

    path: str
    rule: str
    files: int = 1


def meant(path: str) -> str | None:
    """What a path outside the contract was likely meant to be: a section, or a shot, by nearly its name; None for no idea."""
    parts = path.rstrip("/").split("/")
    if len(parts) >= 2 and parts[1] not in (SUPPORT_DIRECTORY, QUERY_DIRECTORY, RAW_DIRECTORY):
        section = _NEARLY.get(re.sub("[^a-z]", "", parts[1].lower()))
        return section and "/".join([parts[0], section, *parts[2:]])
    for number, part in enumerate(parts[2:4], start=2):
        if parts[1] == SUPPORT_DIRECTORY and (match := _NEARLY_A_SHOT.fullmatch(part)):
            name = f"shot{int(match[1])}{match[2] or ''}"
            return "/".join([*parts[:number], name, *parts[number + 1 :]]) if name != part else None
    return None


def nothing_in(root: str) -> str:
    """What to say of a data directory without images."""
    return f"nothing to index in {root}: put shots in <category>/{SUPPORT_DIRECTORY}/<label>/shot1.jpg, shot2.jpg, ..."


def is_ignored(name: str) -> bool:
    """Tell whether a name is never looked at: hidden files, and what desktop systems leave behind."""
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def has_image_suffix(name: str) -> bool:
    """Tell whether a file name ends like an image's."""
    return _split(name)[1].lower() in IMAGE_SUFFIXES


def is_image_name(name: str) -> bool:
    """Tell whether a file name may be an image's: an image suffix, or no suffix at all."""
    return has_image_suffix(name) or "." not in name


def is_video_name(name: str) -> bool:
    """Tell whether a file name ends like a video's."""
    return _split(name)[1].lower() in VIDEO_SUFFIXES


def is_sidecar_name(name: str) -> bool:
    """Tell whether a file name is that of a caption beside an image."""
    return _split(name)[1].lower() == SIDECAR_SUFFIX


def place_file(parts: Sequence[str]) -> Place | str:
    """Place a file by its path under the data directory, split at the slashes; a string is the rule that it breaks."""
    if len(parts) == 1:
        return NOT_IN_A_CATEGORY
    category, section, *rest = parts
    if section not in (SUPPORT_DIRECTORY, QUERY_DIRECTORY) or not rest:
        return NOT_A_SECTION
    if not is_image_name(rest[-1]):
        return NO_IMAGE_BESIDE if is_sidecar_name(rest[-1]) else NOT_AN_IMAGE
    if section == QUERY_DIRECTORY:
        return Place(category, Role.QUERY, None, None)
    if shot := _shot_name(rest[0], is_file=len(rest) == 1):
        return Place(category, Role.SUPPORT, category, shot)
    if len(rest) > 1 and rest[0] == UNKNOWN:
        return RESERVED_LABEL
    if len(rest) > 1 and (shot := _shot_name(rest[1], is_file=len(rest) == 2)):
        return Place(category, Role.SUPPORT, rest[0], shot)
    return NOT_A_SHOT


def place_raw(parts: Sequence[str], section: str) -> Place | str:
    """Place a raw picture by its path, split at the slashes, where `section` holds them; a string is the rule it breaks.

    Its label is the first directory that it lies in, None where it lies in none.
    """
    category, *rest = parts
    if len(rest) < 2 or rest[0] != section:
        return NOT_A_SECTION
    if not is_image_name(rest[-1]) and not is_video_name(rest[-1]):
        return NOT_A_PICTURE
    return Place(category, Role.QUERY, rest[1] if len(rest) > 2 else None, None)


def true_label(query_parts: Sequence[str], labels: Iterable[str]) -> str | None:
    """The label that a query's own path tells, if any: its first directory under 6.preprocessed/ that names one."""
    known = {*labels, UNKNOWN}
    return next((part for part in query_parts[2:-1] if part in known), None)


def is_label(name: str) -> bool:
    """Tell whether a name that a person gives can be a label: what a directory of shots can be called, and is read as one."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    plain = (
        bool(name)
        and name.isprintable()
        and name == name.strip()
        and name == PurePosixPath(name).name
        and size <= LABEL_BYTES
    )
    if not plain or is_ignored(name) or has_image_suffix(name) or name == ADDED:
        return False
    placement = place_file(("category", SUPPORT_DIRECTORY, name, "shot1.png"))
    return isinstance(placement, Place) and placement.label == name


def _shot_name(name: str, *, is_file: bool) -> str | None:
    stem = _split(name)[0] if is_file else name
    return stem if _SHOT.fullmatch(stem) else None


def _split(name: str) -> tuple[str, str]:
    """Stem and suffix of a file name, as `PurePosixPath` has them, in a tenth of the time: every file is asked for both."""
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")
