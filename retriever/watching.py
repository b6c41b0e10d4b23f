"""Watching: the scores of answers taken down for the store, beside the calibration whose promise they bear on."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from retriever.answer import Answer
from retriever.drift import Watch
from retriever.reference import Reference
from schema.calibrations import all_calibrations
from schema.errors import StoreError
from schema.store import Store
from schema.watches import WatchRow, put_watch, stored_watches

log = logging.getLogger(__name__)

Key = tuple[int, str, str]
"""Backbone, category and score."""


class Watching:
    """Takes down scores, and writes them to the store when asked to. Safe from any thread; a store that cannot be written is
    no error: then this process alone knows.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._noted: dict[Key, list[tuple[float, str]]] = {}

    def note(self, reference: Reference, answer: Answer, vector: NDArray[np.float32]) -> None:
        """Note an answer to a unit vector (1, d), where it bears on a promise."""
        nearest = answer.decision.nearest
        if nearest is None or not reference.is_watched:
            return
        key = (reference.row.id, nearest.category, answer.score_by.value)
        with self._lock:
            self._noted.setdefault(key, []).append((nearest.score, hashlib.sha256(vector.tobytes()).hexdigest()))

    def flush(self) -> None:
        """Bring the store's watches up to what was noted."""
        with self._lock:
            noted, self._noted = self._noted, {}
        if not noted:
            return
        with suppress(StoreError), self._store.writing() as editor:
            for (backbone_id, category, score), seen in noted.items():
                calibrations = {(one.category, one.score): one for one in all_calibrations(editor, backbone_id)}
                calibration = calibrations.get((category, score))
                if calibration is None:
                    continue
                row = stored_watches(editor, backbone_id).get((category, score))
                kept = row is not None and row.calibrated == calibration.created
                watch = Watch.from_json(row.parsed()) if row is not None and kept else Watch()
                reference = calibration.about().get("stream", [])
                told = [watch.observe(value, digest, reference) for value, digest in seen]
                if any(told):
                    state = json.dumps(watch.as_json())
                    put_watch(editor, WatchRow(backbone_id, category, score, calibration.created, state))
