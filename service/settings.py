"""Settings: the limits that a service keeps."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nearshot.backbones.limits import MAX_PIXELS, most_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a service: what it loads, and how much it takes at once. Sizes are in bytes, times in seconds.

    `backbones` are loaded at the start; empty means all that are indexed and whose weights are here. `waiting` images at most
    are between upload and answer, and bodies of `held_bytes` in all; what comes beyond is told to retry later. Decoding takes
    `decode_bytes` at once. A prepared image
    waits for others that are being decoded or may come, for `gather` at the longest or for `gather_share` of the last forward
    pass. Answers are behind the store by `searcher_age` and what it takes to make a searcher (`service.renewed`).
    """

    backbones: tuple[str, ...] = ()
    device: str = "auto"
    weights: Path | None = None
    max_pixels: int = MAX_PIXELS
    decode_bytes: int = most_bytes(MAX_PIXELS)
    follow_links: bool = False
    upload_bytes: int = 64 << 20
    upload_images: int = 32
    held_bytes: int = 1 << 30
    waiting: int = 256
    gather: float = 0.004
    gather_share: float = 0.125
    seconds: float = 60.0
    threads: int = max(4, os.cpu_count() or 1)
    searcher_age: float = 0.25
