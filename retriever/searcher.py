"""The searcher: all that queries are compared with, as one state of the store has it; it holds no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever.answer import Answer
from nearshot.retriever.choose_backbone import choose_categories
from nearshot.retriever.choose_score import choose_score
from nearshot.retriever.context import Context, PolicyNote
from nearshot.retriever.decision import Negative, decide
from nearshot.retriever.label_index import LabelIndex
from nearshot.retriever.marked import marked_images
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.policy import Policy, origin_of, policy_in_force, prior_policy
from nearshot.retriever.prediction_set import PredictionSet, SetSamples, prediction_set
from nearshot.retriever.rank import Candidate, Hit, order_candidates, rank_candidates, rank_hits
from nearshot.retriever.scores import DECIMALS, NEIGHBOURS, cosines
from nearshot.retriever.stopping import MarkedList, Stop, find_stop
from nearshot.retriever.strangers import strangers_are_gone
from nearshot.schema.calibrations import CalibrationRow, all_calibrations
from nearshot.schema.captions import captions_shown
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import UsageError, option
from nearshot.schema.feedback import negatives, rejected_in
from nearshot.schema.images import Shown
from nearshot.schema.labelled import support_digest
from nearshot.schema.lacking import count_failed
from nearshot.schema.segments import touched
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Against, Role, Score, Verdict
from nearshot.schema.watches import lapses
from nearshot.vectors.protocol import Neighbours, nearest
from nearshot.vectors.searchable import open_searchable

SHOWN = 10_000
"""Number of images a searcher remembers, with their paths and labels, before it begins anew: some 5 MB. Where a query
finds more than half as many, twice what it finds."""


ATTEMPTS = 10
"""How often a question is asked anew where the store changes while it is asked."""


class Searcher:
    """Searcher for one backbone's queries of a category (or all), by a score. Any number of threads may ask it.

    `revision` is the state of the store that it belongs to. `chosen` is the score, and why it was taken. `labels` are those
    searched: category to label to number of images. Of the support images, the backbone has dealt with `covered` and not yet
    with `lacking`. `stale` are the categories whose support set changed after they were calibrated, `lapses` the promises
    that no longer hold. `is_watched` tells whether the scores of queries bear on a promise (`retriever.watching`).
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        row: BackboneRow,
        lacking: int,
        options: QueryOptions,
        *,
        once: bool = False,
    ) -> None:
        """Open the vectors, for one question (`once`) or many. Of the options, category, score and against count.

        Raises UsageError and StoreError.
        """
        categories = choose_categories(catalog, options.category)
        self.row, self.lacking = row, lacking
        self.revision = catalog.revision()
        self._store = store
        roles = [Role.SUPPORT] if options.against == Against.SUPPORT else list(Role)
        whole = {Role.SUPPORT: True, Role.QUERY: options.exact or options.text is not None}
        self._vectors = {
            role: open_searchable(store, catalog, row, role, category=options.category, whole=whole[role], once=once)
            for role in roles
        }
        self.covered = len(self._vectors[Role.SUPPORT]) + count_failed(catalog, row, categories, Role.SUPPORT)
        labels = self._vectors[Role.SUPPORT].labels()
        self.labels = {category: labels.get(category, {}) for category in categories}
        self.supported = [category for category, labels in self.labels.items() if labels]
        calibrations = all_calibrations(catalog, row.id)
        counts = {category: self.labels[category] for category in self.supported}
        self.chosen = choose_score(options.score, row.name, counts, calibrations)
        self._score = self.chosen.score
        if not self._score.compares_categories and len(self.supported) > 1:
            raise UsageError(
                f"{self._score} compares labels within a category; name one with {option('category')}, "
                f"or take {option('score')} max_sim or prototype"
            )
        self._calibrations = {
            calibration.category: calibration for calibration in calibrations if calibration.score == self._score
        }
        self.stale = [
            category
            for category in self.supported
            if category in self._calibrations
            and _is_stale(catalog, row, self._calibrations[category], sum(self.labels[category].values()))
        ]
        self.lapses = [
            lapse
            for lapse in lapses(catalog)
            if (lapse.backbone, lapse.score) == (row.name, self._score) and lapse.category in self.supported
        ]
        only = self._calibrations.get(self.supported[0]) if len(self.supported) == 1 else None
        about = only.about() if only is not None else {}
        self.is_watched = options.text is None and bool(about.get("stream"))
        self._samples = SetSamples.from_json(about["sets"]) if "sets" in about else None
        self._marked: dict[Against, list[MarkedList]] = {}
        self._shown: dict[int, Shown] = {}
        self._indexes = self._label_indexes(catalog)
        rejecting = rejected_in(catalog)
        self._negatives = {
            category: negatives(catalog, row, category) for category in self.supported if category in rejecting
        }

    def policy(self, category: str, options: QueryOptions) -> Policy:
        """Return what the user set; for the rest what was calibrated, else the backbone's prior."""
        policy = policy_in_force(self.row, self._score, self._calibrations.get(category))
        if options.threshold is not None:
            policy = replace(policy, threshold=options.threshold, calibrated=False, by_hand=False)
        if options.margin_floor is not None:
            policy = replace(policy, margin_floor=options.margin_floor, calibrated=False, by_hand=False)
        return policy

    def origin(self, category: str, options: QueryOptions) -> str:
        """Say in words where a category's policy comes from."""
        given = [options.threshold is not None, options.margin_floor is not None]
        if all(given):
            return "as given"
        origin = origin_of(self.row.name, self._calibrations.get(category))
        return f"as given, the rest {origin}" if any(given) else origin

    def context(self, options: QueryOptions) -> Context:
        """Gather what a user should know of answers by these options."""
        policies = {category: self.policy(category, options) for category in self.supported}
        return Context(
            backbone=self.row.name,
            score=self.chosen.score.value,
            score_reason=self.chosen.reason,
            labels={category: list(self.labels[category]) for category in self.supported},
            policies={
                category: PolicyNote(policy.threshold, policy.margin_floor, self.origin(category, options))
                for category, policy in policies.items()
            },
            covered=self.covered,
            lacking=self.lacking,
            stale=self.stale,
            lapsed={lapse.category: lapse.reason for lapse in self.lapses},
            recall=self.recall(options),
        )

    def recall(self, options: QueryOptions) -> float | None:
        """The recall@10 of the approximate indexes that hits among queries come from; None where all are compared."""
        return self._vectors[Role.QUERY].recall() if self._is_approximate(options) else None

    def _is_approximate(self, options: QueryOptions) -> bool:
        """Tell whether hits among queries may come from approximate indexes. Mixed with words, a query lies elsewhere than
        images do, by which recall is measured.
        """
        return Role.QUERY in self._vectors and not options.exact and options.text is None

    def answer(self, name: str, vector: NDArray[np.float32], options: QueryOptions) -> Answer:
        """Answer a unit vector (1, dimension) by options that have the category, score and against of this searcher."""
        return self.decide(name, vector, self.search(vector, options)[0], options)

    def search(self, vectors: NDArray[np.float32], options: QueryOptions) -> list[Mapping[Role, list[Hit]]]:
        """The hits of each role that a decision and the answer need, of each of some unit vectors (n, dimension).

        OutdatedError where the store has changed and its vectors are searched elsewhere: then a newer searcher is asked.
        """
        support = self._support(vectors, options, None if options.coverage is not None else 2)
        queries = [_NOTHING] * len(vectors)
        if Role.QUERY in self._vectors:
            others = self._vectors[Role.QUERY]
            queries = (others.search_near if self._is_approximate(options) else others.search)(vectors, options.top_k)
        known = self._known([*support, *queries])
        return [
            {Role.SUPPORT: _hits(known, shots), Role.QUERY: _hits(known, others)}
            for shots, others in zip(support, queries, strict=True)
        ]

    def _support(self, vectors: NDArray[np.float32], options: QueryOptions, labels: int | None) -> list[Neighbours]:
        """The nearest shots: as many as are shown, and vote; and the nearest one of each of the nearest labels (None: of all).

        Where candidates rest on hits, a second label, if there is one, is so among them.
        """
        k = max(options.top_k, NEIGHBOURS if self._score == Score.KNN_VOTE else 0)
        by_labels = 0 if self._score.rests_on_means else labels
        return self._vectors[Role.SUPPORT].search_labels(vectors, k, by_labels)

    def decide(
        self, name: str, vector: NDArray[np.float32], hits: Mapping[Role, list[Hit]], options: QueryOptions
    ) -> Answer:
        """Decide on what `search` found."""
        support, queries = hits[Role.SUPPORT], hits[Role.QUERY]
        shown = {Against.SUPPORT: support, Against.QUERY: queries, Against.ALL: support + queries}[options.against]
        candidates = self._candidates(vector, support)
        policy = (
            self.policy(candidates[0].category, options) if candidates else prior_policy(self.row.name, self._score)
        )
        decision = decide(candidates, policy, self._nearest_negative(candidates, vector, support))
        stop = None if options.false is None else self.stop(options.false, options)
        kept = rank_hits(shown)[: options.top_k]
        best = tuple(hit for hit in kept if stop is None or stop.keeps(round(hit.score, DECIMALS)))
        ambiguous = decision.verdict == Verdict.AMBIGUOUS
        scores = self._scores(vector, candidates, options) if ambiguous or options.coverage is not None else {}
        close = (
            label
            for label, score in scores.items()
            if round(candidates[0].score - score, DECIMALS) < policy.margin_floor
        )
        return Answer(
            path=name,
            backbone=self.row.name,
            category=options.category,
            decision=decision,
            hits=best,
            captions=self._captions(best) if options.captions else None,
            score_by=self._score,
            close=tuple(close) if ambiguous else (),
            possible=None if options.coverage is None else self._possible(scores, options.coverage),
            stop=stop,
        )

    def stop(self, rate: float, options: QueryOptions) -> Stop:
        """Find where hits end for a share of false ones, by what is known of hits: read once, for any share."""
        if options.against not in self._marked:
            with self._store.reading() as catalog:
                self._marked[options.against] = marked_images(catalog, self.row, list(self.labels), options.against)
        return find_stop(self._marked[options.against], rate, options.top_k)

    def _scores(
        self, vector: NDArray[np.float32], candidates: Sequence[Candidate], options: QueryOptions
    ) -> dict[str, float]:
        """The scores of all labels of the nearest candidate's category, best first."""
        if not candidates:
            return {}
        category = candidates[0].category
        if self._score.rests_on_means:
            return self._indexes[category].scores(vector)
        if options.coverage is None:  # then all labels are among the candidates already
            [near] = self._support(vector, options, None)
            candidates = rank_candidates(_hits(self._known([near]), near), self._score)
        return {candidate.label: candidate.score for candidate in candidates if candidate.category == category}

    @property
    def strangers(self) -> int:
        """The number of strangers that p-values rest on; 0 where nothing tells, or several categories are searched."""
        return len(self._samples.strangers) if self._samples is not None and len(self.supported) == 1 else 0

    def _possible(self, scores: Mapping[str, float], coverage: float) -> PredictionSet:
        """The labels of the one category that is searched which cannot be ruled out. UsageError where nothing tells."""
        if len(self.supported) > 1:
            raise UsageError(f"labels are ruled out within a category: name one with {option('category')}")
        if self._samples is None:
            raise UsageError(
                f"labels are ruled out by what calibration saw: run `nearshot calibrate --score {self._score}`"
            )
        return prediction_set(scores, self._samples, coverage)

    def _candidates(self, vector: NDArray[np.float32], support: Sequence[Hit]) -> list[Candidate]:
        """The labels, best first: all where the score rests on hits; else the two best, with those that tie with them."""
        if not self._score.rests_on_means:
            return rank_candidates(support, self._score)
        best = [scored_label for index in self._indexes.values() for scored_label in index.best(vector)]
        least = sorted((scored_label.score for scored_label in best), reverse=True)[:2][-1:]
        candidates = []
        for scored_label in best:
            if scored_label.score >= least[0]:  # only these need their nearest image
                vectors = self._vectors[Role.SUPPORT].vectors(scored_label.ids)
                near = nearest(vector[0], scored_label.ids, vectors, 1)
                hits = _hits(self._known([near]), near)
                candidates.append(
                    Candidate(scored_label.category, scored_label.label, rank_hits(hits)[0], scored_label.score)
                )
        return order_candidates(candidates)

    def _label_indexes(self, catalog: Catalog) -> dict[str, LabelIndex]:
        """Return the means of labels, per category, where the score rests on them."""
        if not self._score.rests_on_means:
            return {}
        vectors = self._vectors[Role.SUPPORT]
        return {
            category: LabelIndex.of(
                self._store,
                catalog,
                self.row,
                category,
                self._score,
                [(label, ids) for _, label, ids in labelled],
                vectors,
                calibration=self._calibrations.get(category),
            )
            for category, labelled in groupby(vectors.labelled(), key=itemgetter(0))
        }

    def _nearest_negative(
        self, candidates: Sequence[Candidate], vector: NDArray[np.float32], support: Sequence[Hit]
    ) -> Negative | None:
        """The rejected image of the nearest candidate's category, where one is nearer to the query than any shot."""
        rejected = self._negatives.get(candidates[0].category) if candidates else None
        if rejected is None or not len(rejected.paths):
            return None
        near = cosines(vector, rejected.vectors)[0]
        worst = int(near.argmax())
        if near[worst] <= max(round(hit.score, DECIMALS) for hit in support):
            return None
        return Negative(rejected.paths[worst], float(near[worst]))

    def _captions(self, hits: Sequence[Hit]) -> dict[int, str]:
        with self._store.reading() as catalog:
            return captions_shown(catalog.connection, [hit.image.id for hit in hits])

    def _known(self, neighbours: Sequence[Neighbours]) -> Mapping[int, Shown]:
        """What to show of images, by id: what is not known yet is read in one query."""
        ids = {image_id for near in neighbours for image_id in near.ids.tolist()}
        if len(self._shown) > max(SHOWN, 2 * len(ids)):
            self._shown = {}
        known = self._shown  # it only grows, whatever other threads do
        if unread := ids - known.keys():
            with self._store.reading() as catalog:
                known |= catalog.shown(unread)
        return known


def _hits(known: Mapping[int, Shown], near: Neighbours) -> list[Hit]:
    return [Hit(known[i], score) for i, score in zip(near.ids.tolist(), near.scores.tolist(), strict=True)]


_NOTHING = Neighbours(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


def _is_stale(catalog: Catalog, row: BackboneRow, calibration: CalibrationRow, shots: int) -> bool:
    """Tell whether the shots (there are so many now), or the strangers in the model, are no longer those of the calibration.

    The digest of all shots is asked last: of most categories their number, or that none has changed, tells.
    """
    category, seen = calibration.category, calibration.about().get("seen")
    if seen and seen["images"] != shots:
        return True
    may_differ = not seen or len(touched(catalog, row, Role.SUPPORT, seen["revision"], category)) > 0
    if may_differ and calibration.support_digest != support_digest(catalog, row, category):
        return True
    return strangers_are_gone(catalog, row, category, calibration)
