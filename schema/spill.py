"""Spilling: arrays that are larger than memory should hold, in a file without a name that is gone with the array."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearshot.schema.errors import StoreError

HELD = 256 << 20
"""Bytes of vectors that are held in memory; more are mapped from a file, whose pages the system takes back when it must."""

LASTING = Path("/var/tmp")
"""Where large temporary files belong (Filesystem Hierarchy Standard 3.0, 5.15): /tmp may be memory itself."""


def gathered(parts: Iterable[NDArray[np.float32]], count: int, dimension: int) -> NDArray[np.float32]:
    """Vectors that come in parts (any number, dimension), together (count, dimension); not to be written to.

    StoreError where there are many, and no room for them in the directory for temporary files.
    """
    if 4 * count * dimension <= HELD:
        vectors = np.empty((count, dimension), dtype=np.float32)
        start = 0
        for part in parts:
            vectors[start : start + len(part)] = part
            start += len(part)
        return vectors
    directory = LASTING if "TMPDIR" not in os.environ and os.access(LASTING, os.W_OK) else None
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            for part in parts:  # written, not mapped to be written to: a full disk is an error then, and not a signal
                file.write(np.ascontiguousarray(part, dtype=np.float32).data)
            file.flush()
            return np.memmap(file, dtype=np.float32, mode="r", shape=(count, dimension)).view(np.ndarray)
    except OSError as error:
        where = directory or Path(tempfile.gettempdir())
        needed = 4 * count * dimension >> 20
        raise StoreError(
            f"no room in {where} for {needed:,} MiB of vectors ({error.strerror}); name another directory in TMPDIR"
        ) from error
