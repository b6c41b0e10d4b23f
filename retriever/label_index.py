"""The label index: what the labels of one category are known by, for scores that rest on their means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever.scores import Labelled, Numbers, Scorer, fit
from nearshot.retriever.statistics_file import Fitted, StatisticsFile
from nearshot.retriever.strangers import strangers_in_force
from nearshot.schema.calibrations import CalibrationRow
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Score
from nearshot.vectors.protocol import VectorStore


@dataclass(frozen=True, slots=True, eq=False)
class ScoredLabel:
    """A label of a category, its score, and the ids (n,) of its images."""

    category: str
    label: str
    score: float
    ids: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class LabelIndex:
    """A scorer of m labels, and which images (n,) are whose: `ids` in the order of their labels' `numbers`.

    A query costs m x d, however many images the labels have; fitted once for a state of the store, and kept on disk.
    """

    category: str
    names: tuple[str, ...]
    numbers: Numbers
    ids: NDArray[np.int64]
    scorer: Scorer

    @classmethod
    def of(
        cls,
        store: Store,
        catalog: Catalog,
        row: BackboneRow,
        category: str,
        score: Score,
        labelled: Sequence[tuple[str, NDArray[np.int64]]],
        vectors: VectorStore,
        *,
        calibration: CalibrationRow | None,
    ) -> LabelIndex:
        """Fit the score to what is labelled (one label at least, in order, each with the ids (n,) of its images).

        Of the strangers it knows those in force: where it was calibrated, its threshold was set for these.
        """
        strangers = strangers_in_force(catalog, row, category, score, calibration)
        file = StatisticsFile.of(store, catalog, row, category, score, strangers.hashes)
        ids = np.concatenate([own for _, own in labelled])
        fitted = file.read(catalog, np.sort(ids))
        if fitted is None:
            names = tuple(label for label, _ in labelled)
            numbers = np.repeat(np.arange(len(names)), [len(own) for _, own in labelled])
            scorer = fit(score, Labelled(names, numbers, vectors.vectors(ids), strangers.vectors))
            fitted = Fitted(names, numbers, ids, scorer)
            file.write(fitted, catalog.revision())
        return cls(category, fitted.names, fitted.numbers, fitted.ids, fitted.scorer)

    def scores(self, vector: NDArray[np.float32]) -> dict[str, float]:
        """The scores of all labels, best first."""
        scores = self.scorer.scores(vector)[0]
        return {self.names[number]: float(scores[number]) for number in np.argsort(-scores, kind="stable")}

    def best(self, vector: NDArray[np.float32]) -> Iterator[ScoredLabel]:
        """The two best labels of a query (1, d), and those that tie with them."""
        scores = self.scorer.scores(vector)[0]
        least = np.partition(scores, -2)[-2] if len(scores) > 1 else scores[0]
        for number in np.flatnonzero(scores >= least).tolist():
            first, last = np.searchsorted(self.numbers, [number, number + 1])
            yield ScoredLabel(self.category, self.names[number], float(scores[number]), self.ids[first:last])
