"""Watching: the scores of answers taken down for the store, beside the calibration whose promise they bear on."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import suppress

from nearshot.retriever.answer import Answer
from nearshot.retriever.drift import Watch
from nearshot.retriever.searcher import Searcher
from nearshot.schema.calibrations import all_calibrations
from nearshot.schema.errors import StoreError
from nearshot.schema.store import Store
from nearshot.schema.watches import WatchRow, put_watch, stored_watches

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

    def note(self, searcher: Searcher, answer: Answer, digest: str) -> None:
        """Note an answer to an image with a SHA-256, where it bears on a promise; the same image counts once."""
        nearest = answer.decision.nearest
        if nearest is None or not searcher.is_watched:
            return
        key = (searcher.row.id, nearest.category, answer.score_by.value)
        with self._lock:
            self._noted.setdefault(key, []).append((nearest.score, digest))

    def flush(self) -> None:
        """Bring the store's watches up to what was noted."""
        with self._lock:
            noted, self._noted = self._noted, {}
        if not noted:
            return
        with suppress(StoreError), self._store.writing() as editor:
            for (backbone_id, category, score), seen in noted.items():
                calibrations = {
                    (calibration_row.category, calibration_row.score): calibration_row
                    for calibration_row in all_calibrations(editor, backbone_id)
                }
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
