"""Options of an index run."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nearshot.backbones.decode import decoder_version
from nearshot.backbones.limits import MAX_PIXELS
from nearshot.schema.vocabulary import Ann, Loading, Precision, VectorKind

SEGMENT_INTERVAL = 50_000
"""Images between two writings of segments in a long run, so that queries meanwhile have little to catch up on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexOptions:
    """Options of an index run; None leaves the choice to nearshot. `ann` and `vectors` are kept for the runs after it.

    `ray` is the address of a Ray cluster whose nodes read and encode.
    """

    backbones: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    weights: Path | None = None
    device: str = "auto"
    precision: Precision | None = None
    batch_size: int | None = None
    workers: int | None = None
    loading: Loading = Loading.AUTO
    ray: str | None = None
    max_pixels: int = MAX_PIXELS
    follow_links: bool = False
    ann: Ann | None = None
    vectors: VectorKind | None = None
    segment_interval: int = SEGMENT_INTERVAL

    @property
    def decoder(self) -> str:
        """The decoder and its cap: a failed file is tried again when either changes."""
        return f"{decoder_version()} {self.max_pixels}"

    @property
    def threads(self) -> int:
        """Number of threads, or processes, that read and decode."""
        return self.workers or min(os.cpu_count() or 1, 16)

    def as_json(self) -> dict[str, Any]:
        """The options as the run's record keeps them."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
