"""The engine: backbones loaded once, and answers that follow the store as other processes change it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearshot.backbones.allocator import share_one_heap
from nearshot.backbones.memory_budget import DECODING
from nearshot.backbones.protocol import Backbone
from nearshot.backbones.spec import canonical_name, parts_of
from nearshot.detectors.loading import load_detector
from nearshot.detectors.protocol import Detector
from nearshot.evaluation.projection import Projection, project
from nearshot.indexer.additions import Added, add_query, remove_query
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.status import RootState, Status, look_at_roots, read_held
from nearshot.retriever.answer import Answer
from nearshot.retriever.choose_backbone import choose_categories, choose_row, load_indexed
from nearshot.retriever.embedding import encode_words
from nearshot.retriever.fused import FusedBackbone
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.parts import Parts, PreparedPart
from nearshot.retriever.search import Results, SearchOptions, search
from nearshot.retriever.searcher import Searcher
from nearshot.retriever.watching import Watching
from nearshot.schema.catalog import BackboneRow, Catalog, CategoryCount
from nearshot.schema.errors import StoreError, UsageError, WeightsError
from nearshot.schema.lacking import Lacking
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Against, Role, Score
from nearshot.schema.watches import Lapse, lapses
from nearshot.service.batcher import BatchedBackbone, Batcher
from nearshot.service.metrics import Metrics
from nearshot.service.models import PARTS
from nearshot.service.renewed import Renewed
from nearshot.service.settings import Settings
from nearshot.vectors.searchable import open_searchable
from nearshot.vectors.segmented import SegmentedStore
from nearshot.vectors.segments import open_vectors

if TYPE_CHECKING:
    from nearshot.evaluation.review import Review

WATCH_SECONDS = 5.0
"""Interval at which the store is told what queries have scored."""

SEARCHERS, MAPS = 64, 32
"""Limits on how many searchers are kept open and how many maps are remembered."""

KEPT_SECONDS = 10.0
"""How long after its last query a searcher is kept up to date without being asked for."""

BEHIND_SECONDS, PATIENCE_SECONDS = 60.0, 0.1
"""How far lists, counts and maps may be behind a store that changes, and how long they wait for the newest."""


SPARE, WEIGHING_SECONDS = 100, 2.0
"""Groups that a review has more than are asked for, and how long one waits for them to be weighed anew."""

LARGE = 50_000
"""Contents of which more are counted before somebody asks: to count a million takes a second."""


@dataclass(frozen=True, slots=True)
class Served:
    """A backbone that was loaded, and the row of the store that its vectors belong to."""

    row: BackboneRow
    backbone: Backbone


class _Key(NamedTuple):
    backbone: str | None
    category: str | None
    score: Score | None
    against: Against
    words: bool
    exact: bool


class Engine:
    """Everything that requests share. Safe from any thread, once `load` is done.

    Its batcher has a thread of its own, or else whoever made the engine runs it.
    """

    def __init__(self, store: Store, settings: Settings, metrics: Metrics, *, own_thread: bool = True) -> None:
        self.store, self.settings, self.metrics = store, settings, metrics
        self.batcher = Batcher(
            capacity=settings.waiting,
            gather=settings.gather,
            share=settings.gather_share,
            observe=lambda size: metrics.batches.observe(size),
            own_thread=own_thread,
        )
        self.served: dict[str, Served] = {}
        self.skipped: dict[str, str] = {}
        self.ready = False
        self._searchers: Renewed[Searcher] = Renewed(
            store, most=SEARCHERS, age=settings.searcher_age, kept=KEPT_SECONDS, threads=settings.threads
        )
        self._adding, self._watching, self._detecting = threading.Lock(), threading.Lock(), threading.Lock()
        self._detectors: dict[str, Detector] = {}
        self._explaining = threading.Lock()
        self._explainers: dict[int, Backbone] = {}
        self._reports: Renewed[str] = Renewed(store, most=1)  # matplotlib draws for one thread only
        self.watching = Watching(store)
        self._watched_at = 0.0
        self._telling: threading.Thread | None = None
        self._lapses: list[Lapse] = []
        DECODING.fix(settings.decode_bytes)
        share_one_heap()
        behind = partial(Renewed[Any], store, behind=BEHIND_SECONDS, patience=PATIENCE_SECONDS)
        self._maps: Renewed[Projection] = behind(most=MAPS)
        self._counts: Renewed[list[CategoryCount]] = behind(most=1)
        # Runs and segments come without a revision. One who asks for the status waits for both of these.
        for_status = partial(behind, most=1, by_revision=False, patience=PATIENCE_SECONDS / 2)
        self._held: Renewed[Status] = for_status()
        self._roots: Renewed[list[RootState]] = for_status()
        self._reviews: Renewed[Review] = Renewed(store, most=8, patience=WEIGHING_SECONDS)
        self._lacking = Lacking()
        self._warming: threading.Thread | None = None
        self._warmed: dict[int, SegmentedStore] = {}

    def load(self) -> None:
        """Load the backbones. WeightsError where one that was asked for is not available, or none is."""
        with self.store.reading() as catalog:
            rows = {row.name: row for row in catalog.backbones()}
        wanted = tuple(map(canonical_name, self.settings.backbones)) or tuple(rows)
        known = [rows[name] for name in wanted if name in rows]
        self._warming = threading.Thread(target=self._warm, args=(known,), name="warming", daemon=True)
        self._warming.start()
        for name in sorted(wanted, key=lambda name: len(parts_of(name))):  # parts before what is fused of them
            if name not in rows:
                raise UsageError(f"nothing is indexed with {name}; run `nearshot index DATA --backbone {name}`")
            try:
                loaded = load_indexed(
                    self.store,
                    rows[name],
                    weights=self.settings.weights,
                    device=self.settings.device,
                    loaded={served.row.id: served.backbone for served in self.served.values()},
                )
            except WeightsError as error:
                if self.settings.backbones:
                    raise
                self.skipped[name] = str(error)
                continue
            self.served[name] = Served(rows[name], loaded)
        if not self.served:
            reasons = "; ".join(self.skipped.values()) or "nothing is indexed yet; run `nearshot index DATA`"
            raise WeightsError(f"there is no backbone to serve with: {reasons}")
        if self.store.mirror is not None:  # where there is none, that is said now
            with self.store.reading() as catalog:
                for served in self.served.values():
                    open_searchable(self.store, catalog, served.row, Role.SUPPORT)
        self.ready = True

    def _warm(self, rows: Sequence[BackboneRow]) -> None:
        """Read and check the segments while the backbones are loaded, and hold those of each until a searcher does; then begin
        to count what there is, where that is much.
        """
        with suppress(StoreError):  # the first query is told
            with self.store.reading() as catalog:
                is_large = catalog.newest_content() > LARGE
                for row in rows if self.store.mirror is None else ():  # else the mirror holds them
                    self._warmed[row.id] = open_vectors(self.store, catalog, row, Role.SUPPORT)
            if not is_large:
                return
            self._counts.begin(None, Catalog.count_categories)
            self._held.begin(None, self._hold)

    def _hold(self, _: Catalog) -> Status:
        return read_held(self.store)

    def index_options(self, categories: tuple[str, ...] = ()) -> IndexOptions:
        """Options of an index run with the backbones that are served."""
        settings = self.settings
        return IndexOptions(
            backbones=tuple(self.served),
            categories=categories,
            weights=settings.weights,
            device=settings.device,
            max_pixels=settings.max_pixels,
            follow_links=settings.follow_links,
        )

    def add(self, data: bytes, category: str) -> Added:
        """Put an image among a category's queries, and index it. One at a time."""
        with self._adding:
            return add_query(self.store, data, category, self.index_options((category,)), ready=self.shared())

    def remove(self, image_id: int) -> None:
        """Take an image that was added out again. UsageError for another, and for one that something was said of."""
        with self._adding:
            remove_query(self.store, image_id)

    def outdate(self) -> None:
        """Have the next query look at the store anew: this service has changed it."""
        for renewed in self._all_renewed():
            renewed.outdate()

    def report(self) -> str:
        """The evaluation of all that is served, as a page; drawn anew only when the store has changed."""
        # Imported when they are asked for: plots and statistics would keep a service waiting for a second when it starts.
        from nearshot.evaluation.evaluate import EvaluationOptions, evaluate
        from nearshot.evaluation.report import render_report

        def draw(_: Catalog) -> str:
            return render_report(self.store, evaluate(self.store, EvaluationOptions(backbones=tuple(self.served))))

        return self._reports.get(None, draw)

    def review(self, category: str | None, backbone: str | None, *, limit: int, every: bool) -> Review:
        """What is to be decided. Where weighing takes long, as it was weighed last, without what has been decided since."""
        from nearshot.evaluation.review import review, still_open  # which takes SciPy a while

        def weighed(_: Catalog) -> Review:
            return review(self.store, category, backbone=backbone, limit=most, every=every)

        most = limit - limit % -SPARE + SPARE
        key = (category, backbone, every, most)
        last = self._reviews.soon(key, weighed) or self._reviews.get(key, weighed)
        with self.store.reading() as catalog:
            return still_open(catalog, last, limit)

    def project(self, backbone: str | None, category: str, method: str) -> Projection:
        """A category in two dimensions. UsageError for what is not indexed, or a method that is not available."""
        row = self.searcher(QueryOptions(backbone=backbone, category=category)).row
        return self._maps.get(
            (row.id, category, method), lambda catalog: project(self.store, catalog, row, category, method)
        )

    def categories(self) -> list[CategoryCount]:
        """The categories, with their labels and queries counted; of a large store that changes, as a minute ago at most."""
        return self._counts.get(None, Catalog.count_categories)

    def status(self) -> Status:
        """What `nearshot status` tells; of a large store that changes, as a minute ago at most. Where data directories take
        longer to look at, they are not looked at yet: who asks again later is told.
        """
        held = self._held.get(None, self._hold)
        roots = self._roots.soon(None, lambda _: look_at_roots(self.store))
        return held if roots is None else replace(held, roots=roots)

    def _all_renewed(self) -> tuple[Renewed[Any], ...]:
        return self._searchers, self._reports, self._maps, self._counts, self._held, self._roots, self._reviews

    def watch(self, searcher: Searcher, answer: Answer, digest: str) -> None:
        """Take an answer's score down; the store is told of what was taken down every few seconds."""
        self.watching.note(searcher, answer, digest)
        with self._watching:
            idle = self._telling is None or not self._telling.is_alive()
            if idle and time.monotonic() - self._watched_at > WATCH_SECONDS:
                self._watched_at = time.monotonic()
                self._telling = threading.Thread(target=self._tell, name="watching", daemon=True)
                self._telling.start()  # a store that another process writes may have to be waited for

    def _tell(self) -> None:
        """Tell the store what was taken down, and see which promises have lapsed."""
        self.watching.flush()
        with self.store.reading() as catalog:
            lapsed = lapses(catalog)
        if lapsed != self._lapses:
            self._lapses = lapsed
            self.metrics.note_lapses(lapsed)
            self.outdate()

    def close(self) -> None:
        """Finish what was begun."""
        self.ready = False
        self.batcher.close()
        if self._warming is not None:
            self._warming.join()
        for renewed in self._all_renewed():
            renewed.close()
        if self._telling is not None:
            self._telling.join()
        self.watching.flush()

    def shared(self) -> dict[str, Backbone]:
        """The loaded backbones for an index run in this process."""
        backbones = [
            part
            for served in self.served.values()
            for part in (served.backbone.parts if isinstance(served.backbone, FusedBackbone) else (served.backbone,))
        ]
        return {part.description.name: BatchedBackbone(part, self.batcher) for part in backbones}

    def searcher(self, options: QueryOptions) -> Searcher:
        """Return what to compare with (`service.renewed`: how far behind the store). UsageError for what is not indexed."""
        key = _Key(
            options.backbone, options.category, options.score, options.against, options.text is not None, options.exact
        )
        return self._searchers.get(key, lambda catalog: self._open(catalog, options))

    def newest_searcher(self, options: QueryOptions) -> Searcher:
        """The same, of the store as it is now."""
        self._searchers.outdate()
        return self.searcher(options)

    def _open(self, catalog: Catalog, options: QueryOptions) -> Searcher:
        if self._warming is not None:
            self._warming.join()
        categories = choose_categories(catalog, options.category)
        if options.backbone is not None and canonical_name(options.backbone) not in self.served:
            reason = self.skipped.get(options.backbone)
            raise UsageError(
                f"{options.backbone} is not served here; take {' or '.join(sorted(self.served))}"
                + (f" ({reason})" if reason else "")
            )
        among = {served.row.id for served in self.served.values()}
        row, lacking = choose_row(
            catalog, options.backbone, categories, words=options.text is not None, among=among, lacking=self._lacking
        )
        searcher = Searcher(self.store, catalog, row, lacking, options)
        self._warmed = {other: held for other, held in self._warmed.items() if other in among and other != row.id}
        return searcher

    def backbone(self, searcher: Searcher) -> Backbone:
        """The loaded backbone of a searcher."""
        return next(served.backbone for served in self.served.values() if served.row.id == searcher.row.id)

    def parts(self, options: QueryOptions) -> Parts:
        """What some options ask about of each picture. A detector is loaded when it is first asked for: WeightsError."""
        options = replace(options, max_pixels=self.settings.max_pixels)
        if not options.detects:
            return Parts(options)
        name = options.detector_name
        with self._detecting:
            if name not in self._detectors:
                settings = self.settings
                self._detectors[name] = load_detector(name, settings.weights, device=settings.device)
        return Parts(options, self._detectors[name], self._detecting)

    def prepare(self, upload: BinaryIO, backbone: Backbone, parts: Parts) -> list[PreparedPart]:
        """Read an upload, decode it, and prepare its parts. ImageError where it is no image, or has none."""
        with self.metrics.stage("decode"):
            picture, digest = parts.read(upload.read())
        with self.metrics.stage("prepare"):
            return parts.prepared(picture, digest, backbone, most=PARTS)

    def explain(self, searcher: Searcher, answer: Answer, upload: BinaryIO) -> bytes:
        """What made an answer's score, as a PNG. The backbone is loaded in torch when it is first asked for."""
        from nearshot.retriever.explain import explain, load_explainer

        row, settings = searcher.row, self.settings
        with self._explaining:
            if row.id not in self._explainers:
                self._explainers[row.id] = load_explainer(row, weights=settings.weights, device=settings.device)
        upload.seek(0)
        data = upload.read()
        told = self.batcher.call(
            lambda: explain(self._explainers[row.id], answer, data, max_pixels=settings.max_pixels)
        ).result()
        png: bytes = told.as_png()
        return png

    def words(self, row: BackboneRow, words: str) -> NDArray[np.float32]:
        """The unit vector of some words. WeightsError where the row's backbone is not served."""
        served = next((candidate for candidate in self.served.values() if candidate.row.id == row.id), None)
        if served is None:
            raise WeightsError(f"{row.name} is not served here")
        vector: NDArray[np.float32] = self.batcher.call(lambda: encode_words(served.backbone, words)).result()
        return vector

    def search(self, query: str, options: SearchOptions) -> Results:
        """Find images by words, with the text encoder that is loaded."""
        among = {served.row.id for served in self.served.values()}
        return search(self.store, query, options, self.words, among=among, lacking=self._lacking)
