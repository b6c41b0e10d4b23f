"""Statistics on disk: what a score that rests on means was fitted to, so that the next process need not fit again.

Derived, like segments: one file per backbone, category and score, which names the revision and the strangers that it was
fitted to, and carries its own SHA-256. One that is stale, torn or of another kind is passed over, and written anew.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever.discriminant import Discriminant
from nearshot.retriever.scores import Discriminants, Prototypes, Scorer
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.disk import read_regular, written_whole
from nearshot.schema.segments import touched
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role, Score

FORMAT = 1
"""Raised when what is fitted, or how it is written, changes."""

DIGEST = 32
"""Bytes of the SHA-256 that a file begins with."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A scorer of m labels and which images (n,) are whose: `ids` in the order of their labels' `numbers`."""

    names: tuple[str, ...]
    numbers: NDArray[np.int64]
    ids: NDArray[np.int64]
    scorer: Scorer


@dataclass(frozen=True, slots=True)
class StatisticsFile:
    """The file of one backbone, category and score, for the strangers (SHA-256) that the model knows."""

    path: Path
    row: BackboneRow
    category: str
    score: Score
    strangers: Sequence[str]

    @classmethod
    def of(
        cls, store: Store, catalog: Catalog, row: BackboneRow, category: str, score: Score, strangers: Sequence[str]
    ) -> StatisticsFile:
        """Locate the file in a store."""
        named = [row.id, category, score, *filter(None, [catalog.identity()])]
        name = hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]
        return cls(store.directory / "statistics" / f"{name}.npz", row, category, score, strangers)

    def read(self, catalog: Catalog, held: NDArray[np.int64]) -> Fitted | None:
        """Read what it holds, if nothing has changed since; `held` are the ids (n,), ascending, that the backbone has now."""
        try:
            data = read_regular(self.path)
            if hashlib.sha256(memoryview(data)[DIGEST:]).digest() != data[:DIGEST]:
                return None
            with np.load(io.BytesIO(memoryview(data)[DIGEST:]), allow_pickle=False) as kept:
                about = json.loads(str(kept["about"]))
                arrays = {name: kept[name] for name in kept.files if name != "about"}
        except (OSError, ValueError, KeyError, BadZipFile):
            return None
        if about["of"] != self._facts() or not np.array_equal(np.sort(arrays["ids"]), held):
            return None
        if len(touched(catalog, self.row, Role.SUPPORT, about["revision"], self.category)):
            return None
        scorer: Scorer
        if self.score == Score.PROTOTYPE:
            scorer = Prototypes(arrays["means"])
        else:
            parts: dict[str, Any] = {field.name: arrays[field.name] for field in fields(Discriminant)}
            scorer = Discriminants(Discriminant(**(parts | {"isotropic": float(parts["isotropic"])})))
        return Fitted(tuple(about["names"]), arrays["numbers"], arrays["ids"], scorer)

    def write(self, fitted: Fitted, revision: int) -> None:
        """Keep what was fitted to a revision; a store that cannot be written goes without."""
        scorer = fitted.scorer
        parts: dict[str, Any] = {}
        if isinstance(scorer, Prototypes):
            parts = {"means": scorer.means}
        elif isinstance(scorer, Discriminants):
            parts = {field.name: getattr(scorer.discriminant, field.name) for field in fields(Discriminant)}
        about = json.dumps({"of": self._facts(), "revision": revision, "names": fitted.names})
        buffer = io.BytesIO()
        buffer.write(bytes(DIGEST))
        np.savez(buffer, about=np.array(about), numbers=fitted.numbers, ids=fitted.ids, **parts)
        view = buffer.getbuffer()
        view[:DIGEST] = hashlib.sha256(view[DIGEST:]).digest()
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(self.path) as aside:
                aside.write_bytes(view)

    def _facts(self) -> list[Any]:
        return [FORMAT, self.row.fingerprint, self.category, self.score.value, list(self.strangers)]
