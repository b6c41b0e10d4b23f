"""The names of crops: the same picture, words and number give the same name, and no two crops the same. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

LONGEST = 200
"""The most bytes of a picture's name, or of words, in a crop's."""


def crop_name(picture: str, words: Sequence[str], number: int) -> str:
    """The name of a picture's crop: `cups.jpg.1.png`, or with words `cups.jpg.a-mug.1.png`."""
    parts = [_short(PurePosixPath(picture).name), *([_in_a_name(words)] if words else []), str(number), "png"]
    return ".".join(parts)


def _in_a_name(words: Sequence[str]) -> str:
    """Words as part of a file's name: themselves, with hyphens, where that can be told from all others; else with a digest."""
    plain = "-".join(words[0].split(" ")) if len(words) == 1 else ""
    if re.fullmatch(r"[0-9a-z]+(-[0-9a-z]+)*", plain) and "-" not in words[0] and len(plain) <= 40:
        return plain
    slug = "-".join(re.findall(r"[0-9a-z]+", " ".join(words).lower()))[:30]
    digest = hashlib.sha256(repr(tuple(words)).encode()).hexdigest()[:8]
    return f"{slug}-{digest}" if slug else digest


def _short(name: str) -> str:
    encoded = name.encode()
    if len(encoded) <= LONGEST:
        return name
    return f"{encoded[: LONGEST - 9].decode(errors='ignore')}-{hashlib.sha256(encoded).hexdigest()[:8]}"
