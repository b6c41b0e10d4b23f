"""The index: the door for notebooks and programs, over the functions that the commands and the service use."""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.limits import MAX_PIXELS
from nearshot.backbones.protocol import Backbone
from nearshot.detectors.cutting import Cutting
from nearshot.detectors.selection import Selection
from nearshot.evaluation.evaluate import Evaluation, EvaluationOptions, evaluate
from nearshot.evaluation.next_labels import Advice, advise
from nearshot.evaluation.review import Review, review
from nearshot.evaluation.what_if import WhatIf, what_if
from nearshot.indexer.captions import CaptionOptions, CaptionReport, CaptionRun, set_caption
from nearshot.indexer.crop_options import CropOptions
from nearshot.indexer.crop_report import CropReport
from nearshot.indexer.crops import CropRun
from nearshot.indexer.feedback import add_shot, reject, undo
from nearshot.indexer.mirroring import MirrorRun
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.report import Report
from nearshot.indexer.run import IndexRun
from nearshot.indexer.status import Status, read_status
from nearshot.indexer.verify import Finding, verify
from nearshot.picture import Picture, is_picture, read_picture
from nearshot.progress import progress_bar
from nearshot.retriever.answer import Answer, Unreadable
from nearshot.retriever.by_hand import set_policy, undo_policy
from nearshot.retriever.calibrate import CalibrationOptions, calibrate_all
from nearshot.retriever.choose_backbone import choose_categories, choose_row, load_indexed
from nearshot.retriever.conformal import Aim, Aims
from nearshot.retriever.embedding import encode_words
from nearshot.retriever.explain import Explanation, explain, load_explainer
from nearshot.retriever.find_policy import Calibration
from nearshot.retriever.marking import LISTED, mark_files, mark_found
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Given, Retriever
from nearshot.retriever.search import Results, SearchOptions, search
from nearshot.retriever.watch import WatchOptions, WatchRun
from nearshot.schema.catalog import BackboneRow
from nearshot.schema.contract import RAW_DIRECTORY
from nearshot.schema.errors import ImageError, UsageError, option
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.images import Shown
from nearshot.schema.location import location_of
from nearshot.schema.paths import AnyPath, on_disk, path_of
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import (
    Action,
    Against,
    Ann,
    Guard,
    Loading,
    Masked,
    Mode,
    Precision,
    Role,
    Score,
    VectorKind,
)
from nearshot.vectors.mirrors import Mirrored
from nearshot.vectors.segments import open_vectors

if TYPE_CHECKING:
    from types import TracebackType

Value = TypeVar("Value", bound=StrEnum)

RETRIEVERS = 8
"""Limit on how many sets of options are kept ready to answer."""


def open(
    directory: str | os.PathLike[str],
    *,
    create: bool = False,
    device: str = "auto",
    weights: str | os.PathLike[str] | None = None,
    mirror: str | None = None,
) -> Index:
    """Open an index.

    Args:
        directory: where it lies, or the address of a PostgreSQL database; what the commands call --store.
        create: make it where there is none.
        device: where models run: auto, cuda, cuda:N, mps or cpu.
        weights: a directory with weights, a subdirectory per backbone, for machines without a network.
        mirror: the address of the Milvus that has a mirror of the vectors (`nearshot mirror`), milvus://HOST:19530, and is
            asked for the nearest; None: they are read into memory.

    Returns:
        The index, which may be used as a context manager.

    Raises:
        UsageError: there is none, and `create` is not set.
        StoreError: it cannot be opened, or was written by a newer nearshot.
    """
    store = Store(location_of(directory), create=create, mirror=mirror)
    return Index(store, device=device, weights=Path(weights) if weights else None)


class Choices(TypedDict, total=False):
    """Options of a query, as `retriever.options.QueryOptions` has them; what is not given is as calibrated."""

    backbone: str | None
    category: str | None
    score: str | None
    threshold: float | None
    margin_floor: float | None
    top_k: int
    against: str
    coverage: float | None
    false: float | None
    text: str | None
    text_weight: float
    captions: bool
    exact: bool
    box: tuple[int, int, int, int] | Sequence[tuple[int, int, int, int]]
    find: str | Sequence[str]
    objects: bool
    detector: str | None
    max_pixels: int


class Index:
    """An open index. Any number of threads may use it; models are loaded once, when they are first needed."""

    def __init__(self, store: Store, *, device: str = "auto", weights: Path | None = None) -> None:
        """Take over an open store; `nearshot.open` is the usual way."""
        self._opened: Store | None = store
        self._directory, self._device, self._weights = store.directory, device, weights
        self._location = store.shown_location
        self._loaded: dict[int, Backbone] = {}
        self._explainers: dict[int, Backbone] = {}
        self._retrievers: OrderedDict[QueryOptions, Retriever] = OrderedDict()
        self._opening, self._encoding = threading.Lock(), threading.Lock()

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"nearshot.open({self._location!r})"

    def close(self) -> None:
        """Close the store, and let go of the models; what is asked from then on is a UsageError."""
        self._retrievers.clear()
        self._loaded.clear()
        self._explainers.clear()
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    @property
    def _store(self) -> Store:
        if self._opened is None:
            raise UsageError(f"{self._location} was closed; open it again with nearshot.open")
        return self._opened

    @property
    def path(self) -> Path:
        """The directory of the index, absolute; of one in PostgreSQL, where this machine keeps what is derived from it."""
        return self._directory

    @property
    def backbones(self) -> list[str]:
        """The backbones that images are indexed with, by name."""
        with self._store.reading() as catalog:
            return [row.name for row in catalog.backbones()]

    @property
    def labels(self) -> dict[str, dict[str, int]]:
        """The labels of each category that has shots, with the number of their images."""
        with self._store.reading() as catalog:
            return {category: catalog.support_labels(category) for category in catalog.categories(Role.SUPPORT)}

    def add(
        self,
        data: str | os.PathLike[str],
        *,
        backbones: Sequence[str] = (),
        categories: Sequence[str] = (),
        precision: str | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
        loading: str = "auto",
        ray: str | None = None,
        ann: str | None = None,
        vectors: str | None = None,
        max_pixels: int = MAX_PIXELS,
        follow_links: bool = False,
        progress: bool = False,
    ) -> Report:
        """Bring the index up to date with a data directory; what is unchanged costs next to nothing.

        Args:
            data: the directory that holds `<category>/2.support-set/` and `<category>/6.preprocessed/`.
            backbones: these only, such as `["dinov2", "clip"]`; by default all whose weights are on this machine.
            categories: these only.
            precision: fp32, bf16 or fp16; by default as before, else fp32.
            batch_size: images per forward pass.
            workers: threads or processes that read and decode.
            loading: read and decode on threads or in processes; auto takes processes for many files where a GPU encodes.
            ray: have the nodes of this Ray cluster (HOST:PORT, or auto) read and encode; see docs/scale.md.
            ann: build approximate indexes of this kind (ivf, hnsw, none) beside large segments, now and in later runs.
            vectors: keep them as float32, or once and as float16: a quarter of the bytes, now and in later runs.
            max_pixels: images of more pixels are refused.
            follow_links: take links that lead out of `data`, too.
            progress: show a bar, in terminals and notebooks.

        Returns:
            What became of every image; `failures` and `breaches` tell which could not be used, and why.

        Raises:
            UsageError: `data` is no directory, a backbone is not known, or there is no Ray at its address.
            WeightsError: a backbone that was asked for is not available on this machine.
            IndexingError: a node of the cluster cannot do its part, or is gone with all of it.
            StoreBusyError: another process is writing.
            StoreError: the store cannot be written; what was committed is whole, and the next call goes on from there.
        """
        root = path_of(data)
        options = IndexOptions(
            backbones=tuple(_names(backbones)),
            categories=tuple(_names(categories)),
            weights=self._weights,
            device=self._device,
            precision=_chosen(Precision, precision, "precision"),
            batch_size=batch_size,
            workers=workers,
            loading=_required(Loading, loading, "loading"),
            ray=ray,
            ann=_chosen(Ann, ann, "ann"),
            vectors=_chosen(VectorKind, vectors, "vectors"),
            max_pixels=max_pixels,
            follow_links=follow_links,
        )
        run = IndexRun(self._store, root, options)
        with progress_bar("indexing", "images", shown=progress) as advance:
            for done in run:
                advance(done.done, done.total, done.failed)
        return run.report

    def crop(
        self,
        data: str | os.PathLike[str],
        *,
        source: str = RAW_DIRECTORY,
        categories: Sequence[str] = (),
        detector: str | None = None,
        find: str | Sequence[str] = (),
        to: str = "query",
        label: str | None = None,
        min_score: float | None = None,
        min_size: int = 32,
        most: int | None = None,
        padding: float = 0.05,
        square: bool = False,
        mask: str | None = None,
        tiles: int | None = None,
        preview: str | os.PathLike[str] | None = None,
        dry_run: bool = False,
        precision: str = "fp32",
        workers: int | None = None,
        max_pixels: int = MAX_PIXELS,
        follow_links: bool = False,
        progress: bool = False,
    ) -> CropReport:
        """Cut what is detected in raw pictures out of them, for `add` to take up; what is unchanged costs next to nothing.

        Args:
            data: the directory that holds `<category>/1.raw/`.
            source: the directory of each category that holds the raw pictures.
            categories: these only.
            detector: regions, florence2 or hf:REPO_OR_DIR; by default regions, or florence2 where there is something to find.
            find: look for this, in words.
            to: make queries of the crops (query), or shots (support).
            label: the label of the shots; by default the directory that a picture lies in.
            min_score: the least score of a detection; by default the detector's usual one.
            min_size: the least pixels of a box's side.
            most: crops a picture at most; by default all, of shots one.
            padding: room on each side, as a share of the box's longer side.
            square: cut squares.
            mask: lay white over what was not detected, or blur it.
            tiles: look at larger pictures in parts of so many pixels, too.
            preview: draw the boxes on contact sheets in this directory.
            dry_run: detect, draw and count, and write no crops.
            precision: the number format of the weights: fp32, bf16 or fp16.
            workers: threads that read, decode and cut.
            max_pixels: pictures of more pixels are refused.
            follow_links: take links that lead out of `data`, too.
            progress: show a bar, in terminals and notebooks.

        Returns:
            What became of the pictures; `failures` and `breaches` tell which could not be used, and why.

        Raises:
            UsageError: an option makes no sense, or there are no raw pictures.
            WeightsError: the detector is not available on this machine.
            StoreBusyError: another process is writing.
        """
        options = CropOptions(
            source=source,
            categories=tuple(_names(categories)),
            detector=detector,
            find=tuple(_names(find)),
            role=_required(Role, to, "to"),
            label=label,
            min_score=min_score,
            selection=Selection(min_size=min_size, most=most),
            cutting=Cutting(padding=padding, square=square, mask=_chosen(Masked, mask, "mask")),
            tiles=tiles,
            weights=self._weights,
            device=self._device,
            precision=_required(Precision, precision, "precision"),
            workers=workers,
            max_pixels=max_pixels,
            follow_links=follow_links,
        )
        sheets = Path(preview) if preview is not None else None
        run = CropRun(self._store, on_disk(data), options, preview=sheets, dry=dry_run)
        with progress_bar("cropping", "pictures", shown=progress) as advance:
            for done in run:
                advance(done.done, done.total, done.failed)
        return run.report

    @overload
    def query(self, images: Picture, **options: Unpack[Choices]) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def query(self, images: Iterable[Picture], **options: Unpack[Choices]) -> list[Answer | Unreadable]: ...

    def query(
        self, images: Picture | Iterable[Picture], **options: Unpack[Choices]
    ) -> Answer | list[Answer | Unreadable]:
        """Recognise an image, or many at once.

        Args:
            images: a path, encoded bytes, a PIL image or an array (height, width, 3) uint8; or any iterable of these, which is
                decoded on threads and encoded in batches.
            **options: `backbone`, `category`, `score` (max_sim, prototype, knn_vote, lda), `threshold`, `margin_floor`, `top_k`
                (5), `against` (support, query, all), `coverage`, `false`, `text`, `text_weight` (0.5), `captions`, `box`
                (x, y, width, height in pixels of the upright picture), `find` (words), `objects`, `detector` and
                `max_pixels`, as `nearshot query` has them; what is not given is as calibrated.

        Returns:
            An `Answer` for one image; for many a list in their order, with `Unreadable` in the place of what is no image.

        Raises:
            ImageError: one image was given, and it cannot be read.
            UsageError: an option makes no sense, or nothing is indexed by it.
            WeightsError: the backbone is not available on this machine, or is not the one that images were indexed with.
        """
        if not is_picture(images) and not isinstance(images, Iterable):
            raise UsageError(f"{type(images).__name__} is no image; give a path, bytes, a PIL image, an array, or many")
        if not is_picture(images):
            return list(self.answers(images, **options))  # type: ignore[arg-type]
        chosen = self._options(options)
        if chosen.objects or len(chosen.box) > 1:
            raise UsageError("an image may have several answers then; ask for them by answers([image], ...)")
        [answer] = self.answers([images], **options)  # type: ignore[list-item]
        if isinstance(answer, Unreadable):
            raise ImageError(f"{answer.path}: {answer.reason}")
        return answer

    def answers(self, images: Iterable[Picture], **options: Unpack[Choices]) -> Iterator[Answer | Unreadable]:
        """Recognise a stream of images, of any length, one answer at a time; see `query`.

        Args:
            images: as `query` takes them.
            **options: as `query` takes them.

        Yields:
            An `Answer` or `Unreadable` per image, in order; one per part, where there are several boxes, or with `objects`.

        Raises:
            UsageError: as `query`.
            WeightsError: as `query`.
        """
        chosen = self._options(options)
        pictures: dict[int, Picture] = {}

        def named() -> Iterator[tuple[str, Given]]:
            for number, image in enumerate(images):
                given = read_picture(image, number + 1, whole=not chosen.whole)
                pictures[number] = image
                yield given

        for number, answer in self._retriever(chosen).numbered(named()):
            for earlier in range(min(pictures), number):
                del pictures[earlier]
            yield answer.with_picture(pictures[number]) if isinstance(answer, Answer) else answer

    def explain(self, image: Picture, **options: Unpack[Choices]) -> Explanation:
        """Recognise an image, and tell which places of it and of the nearest shot made the score; notebooks show it.

        Args:
            image: as `query` takes it.
            **options: as `query` takes them.

        Returns:
            The answer, heat maps of both pictures, the peak, the places that look alike most, and all of it as a picture.

        Raises:
            ImageError: the image cannot be read.
            UsageError: as `query`; or the backbone has no patches to explain by, or there is no shot.
            WeightsError: as `query`.
        """
        answer = self.query(image, **options)
        chosen = self._options(options)
        row = self._retriever(chosen).searcher.row
        with self._opening:
            if row.id not in self._explainers:
                self._explainers[row.id] = load_explainer(row, weights=self._weights, device=self._device)
        _, asked = read_picture(image, 1, whole=not chosen.whole)
        assert isinstance(asked, bytes | Image.Image), "it was read a moment ago"
        with self._encoding:
            return explain(self._explainers[row.id], answer, asked, max_pixels=chosen.max_pixels)

    def watch(
        self,
        source: str | os.PathLike[str],
        *,
        every: int = 5,
        false_accept: float = 0.05,
        wait: bool = True,
        save: str | os.PathLike[str] | None = None,
        at_once: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
        **options: Unpack[Choices],
    ) -> WatchRun:
        """Recognise what a video, a camera or a directory that fills shows, over its frames.

        Args:
            source: a video file, a directory, rtsp://... or /dev/video0.
            every: look at every so-manyth frame.
            false_accept: the share of strangers' tracks that may match, however long they are watched.
            wait: wait at a directory for images that come later.
            save: save the best look of each track in this directory.
            at_once: give a match when it is decided, not when its track ends.
            should_stop: asked between frames; true ends the watching.
            **options: as `query` takes them.

        Returns:
            The watching: iterate over it for the tracks, each the object that `nearshot watch` prints; `seen` counts frames,
            and `schedule` tells at which of a track's frames a match may be decided, None where nothing is promised.

        Raises:
            UsageError: there is no such source, or nothing that can read it; or as `query`.
            WeightsError: as `query`.
        """
        watching = WatchOptions(
            every=every, false_accept=false_accept, wait=wait, save=Path(save) if save else None, at_once=at_once
        )
        chosen: Choices = {"top_k": 1, **options}
        return WatchRun(self._store, os.fspath(source), self._options(chosen), watching, should_stop=should_stop)

    def search(
        self,
        words: str,
        *,
        mode: str = "auto",
        category: str | None = None,
        label: str | None = None,
        role: str | None = None,
        limit: int = 20,
        false: float | None = None,
        exact: bool = False,
    ) -> Results:
        """Find images by words: of their captions, by what a text encoder sees in them, or by both.

        Args:
            words: in captions all of them must occur; `"quoted words"` in that order.
            mode: captions, image, hybrid, or auto: what the index can serve.
            category: images of this category only.
            label: images of this label only.
            role: support or query.
            limit: how many to list.
            false: end the list where on average more than this share would be false, as marks tell.
            exact: compare with all images, whatever approximate indexes there are.

        Returns:
            The results, best first: iterate over them; `mode` is the mode taken, `missing` why `auto` could not take more.

        Raises:
            UsageError: the category is not there, or the index cannot serve the mode.
            WeightsError: the text encoder is not available on this machine.
        """
        wanted = ImageFilter(category=category, label=label, role=_chosen(Role, role, "role"))
        options = SearchOptions(
            mode=_chosen(Mode, mode, "mode") or Mode.AUTO,
            wanted=wanted,
            limit=limit,
            false=false,
            exact=exact,
            device=self._device,
            weights=self._weights,
        )
        return search(self._store, words, options, self._encode_words)

    def calibrate(
        self,
        *,
        false_accept: float | None = None,
        wrong: float | None = None,
        false_reject: float | None = None,
        confidence: float | None = None,
        strangers: str = "auto",
        all_queries: bool = False,
        backbones: Sequence[str] = (),
        categories: Sequence[str] = (),
        scores: Sequence[str] = (),
        negatives: str | os.PathLike[str] | None = None,
        force: bool = False,
    ) -> list[Calibration]:
        """Set thresholds and margins from the index's own shots and labelled queries, and find what answers best.

        Args:
            false_accept: at most this share of strangers matches; 0.05 unless `false_reject` is given.
            wrong: at most this share of the matches of known images has the wrong label.
            false_reject: at most this share of known images does not match.
            confidence: hold all bounds in this share of calibrations, such as 0.95; by default on average.
            strangers: hold off strangers like the known ones (known), or any (any), or any where that costs little (auto).
            all_queries: use all labelled queries; half of them are left to `evaluate` otherwise.
            backbones: these only.
            categories: these only.
            scores: these only.
            negatives: a directory of images that show no label.
            force: keep a policy that answers no known image right, too.

        Returns:
            What was found per backbone, category and score; `missing` says why a target cannot be met, which changes nothing.

        Raises:
            UsageError: a rate lies outside (0, 1), or what is named is not indexed.
        """
        if false_accept is None and false_reject is None:
            false_accept = 0.05
        rates = {Aim.FALSE_ACCEPT: false_accept, Aim.WRONG: wrong, Aim.FALSE_REJECT: false_reject}
        options = CalibrationOptions(
            aims=Aims(
                {aim: rate for aim, rate in rates.items() if rate is not None},
                confidence,
            ),
            guard=_chosen(Guard, strangers, "strangers") or Guard.AUTO,
            every=all_queries,
            force=force,
            backbones=tuple(_names(backbones)),
            categories=tuple(_names(categories)),
            scores=tuple(_required(Score, score, "score") for score in _names(scores)) or tuple(Score),
            negatives=path_of(negatives) if negatives else None,
            device=self._device,
            weights=self._weights,
        )
        return [each for each in calibrate_all(self._store, options) if isinstance(each, Calibration)]

    def policy(self, category: str, *, backbone: str | None = None, score: str | None = None) -> WhatIf:
        """The threshold and margin of a category, and its labelled queries, which they decide about.

        Args:
            category: it.
            backbone: by this one; by default by the one that `query` would take.
            score: by this score; by default by the one that `query` would take.

        Returns:
            The policy in force, and each labelled query with its score and lead; `outcomes(policy)` counts what another policy
            would make of them.

        Raises:
            UsageError: the category has no shots, or nothing is indexed with the backbone.
        """
        with self._store.reading() as catalog:
            return what_if(catalog, category, backbone=backbone, score=_chosen(Score, score, "score"))

    def set_policy(
        self,
        category: str,
        *,
        threshold: float | None = None,
        margin_floor: float | None = None,
        undo: bool = False,
        backbone: str | None = None,
        score: str | None = None,
    ) -> WhatIf:
        """Set the threshold and margin of a category by hand, until that is taken back or `calibrate` finds others.

        Args:
            category: it.
            threshold: the least score of a match, from -1 to 1; None: as it is.
            margin_floor: its least lead over the best other label, from 0 to 2; None: as it is.
            undo: take back what was set last.
            backbone: for this one; by default for the one that `query` would take.
            score: for this score; by default for the one that `query` would take.

        Returns:
            What `policy` returns, from now on.

        Raises:
            UsageError: as `policy`; a number is out of its range, there is none, or nothing was set that could be taken back.
        """
        if undo == (threshold is not None or margin_floor is not None):
            raise UsageError("give threshold or margin_floor, or undo")
        shown = self.policy(category, backbone=backbone, score=score)
        if undo:
            undo_policy(self._store, shown.row, category, shown.score_by)
        else:
            chosen = {"threshold": threshold, "margin_floor": margin_floor}
            set_policy(self._store, shown.row, category, shown.score_by, **chosen)
        with self._store.reading() as catalog:
            return shown.renewed(catalog)

    def evaluate(
        self,
        *,
        backbones: Sequence[str] = (),
        categories: Sequence[str] = (),
        score: str | None = None,
        seeds: int = 5,
        keep_leaks: bool = False,
    ) -> Evaluation:
        """Judge by labelled queries, from stored vectors alone.

        Args:
            backbones: these only.
            categories: these only.
            score: by this score; by default by the one that `query` would take.
            seeds: draws of shots per number of shots.
            keep_leaks: judge by queries that are copies of shots, too.

        Returns:
            The evaluation; `table7` to `table11` are data frames where pandas is installed.

        Raises:
            UsageError: there are no labelled queries, or what is named is not indexed.
        """
        options = EvaluationOptions(
            backbones=tuple(_names(backbones)),
            categories=tuple(_names(categories)),
            score=_chosen(Score, score, "score"),
            seeds=seeds,
            keep_leaks=keep_leaks,
        )
        return evaluate(self._store, options)

    def label(self, image: str | os.PathLike[str], label: str, *, category: str | None = None) -> AnyPath:
        """Say what an indexed query shows: a copy of it becomes a shot, which counts from the next query on.

        Args:
            image: the path of an indexed query.
            label: what it shows.
            category: of this category, where the image lies in several.

        Returns:
            The path of the shot.

        Raises:
            UsageError: the image is no indexed query, was made a shot already, or the label is none.
        """
        return add_shot(self._store, path_of(image), label, category)

    def reject(self, image: str | os.PathLike[str], *, category: str | None = None) -> None:
        """Say that an indexed query shows no label: what is nearer to it than to any shot is unknown.

        Args:
            image: the path of an indexed query.
            category: of this category, where the image lies in several.

        Raises:
            UsageError: the image is not indexed, or was rejected already.
        """
        reject(self._store, path_of(image), category)

    def mark(
        self,
        hits: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        right: bool | None,
        *,
        image: str | os.PathLike[str] | None = None,
        words: str | None = None,
        mode: str = "auto",
    ) -> None:
        """Say whether hits of an image, or results of words, are right: lists with `false` end by it.

        Args:
            hits: the path of an indexed image, or several; all are marked, or none.
            right: whether they are; None takes back what was said.
            image: they are hits of this indexed query.
            words: they are results of a search for these.
            mode: the mode of that search.

        Raises:
            UsageError: not one of `image` and `words` is given, or a hit is not indexed, or not among the results.
        """
        paths = [path_of(hits)] if isinstance(hits, str | os.PathLike) else [path_of(hit) for hit in hits]
        if (image is None) == (words is None):
            raise UsageError(f"give {option('image')} or {option('words')}: what they are hits of")
        if image is not None:
            mark_files(self._store, path_of(image), paths, right)
            return
        searched = SearchOptions(mode=_required(Mode, mode, "mode"), limit=LISTED)
        mark_found(self._store, str(words), searched, paths, right, self._encode_words)

    def undo(self, image: str | os.PathLike[str], action: str, *, category: str | None = None) -> None:
        """Take back what was said of an image.

        Args:
            image: the path of an indexed query.
            action: label or reject.
            category: of this category, where the image lies in several.

        Raises:
            UsageError: nothing of that kind was said of it.
        """
        undo(self._store, path_of(image), _required(Action, action, "action"), category)

    def next(self, category: str | None = None, *, backbone: str | None = None, limit: int = 20) -> Advice:
        """Advise which unlabelled queries to label next, and how many more shots each label is likely to need.

        Args:
            category: of this category only.
            backbone: by the vectors of this one; by default by the best.
            limit: how many to name.

        Returns:
            The advice: `worth`, best first, and `needs`, per label.

        Raises:
            UsageError: nothing is indexed, or what is named is not.
        """
        return advise(self._store, category, backbone=backbone, limit=limit)

    def review(
        self, category: str | None = None, *, backbone: str | None = None, limit: int = 100, every: bool = False
    ) -> Review:
        """List the unlabelled queries that a person should decide, with `label` or `reject`: what is unknown or ambiguous.

        Args:
            category: of this category only.
            backbone: by the vectors of this one; by default by the best.
            limit: how many groups to name; queries that are nearly the same picture are one group.
            every: those that match a label, too.

        Returns:
            The review: `groups`, most useful first, and how many `images` wait.

        Raises:
            UsageError: nothing is indexed, or what is named is not.
        """
        return review(self._store, category, backbone=backbone, limit=limit, every=every)

    def caption(self, image: str | os.PathLike[str], words: str) -> None:
        """Write the caption of an indexed image by hand.

        Args:
            image: its path.
            words: what it shows.

        Raises:
            UsageError: it is not indexed as it is now, or there are no words.
        """
        set_caption(self._store, path_of(image), words)

    def describe(self, *, limit: int | None = None, progress: bool = False) -> CaptionReport:
        """Caption what has no caption yet, by Florence-2.

        Args:
            limit: so many images at most.
            progress: show a bar, in terminals and notebooks.

        Returns:
            How many captions were written, and which images could not be captioned.

        Raises:
            WeightsError: Florence-2 is not available on this machine.
        """
        from nearshot.indexer.captioner import load_remembered_captioner

        run = CaptionRun(
            self._store,
            lambda: load_remembered_captioner(
                self._store, self._weights, device=self._device, precision=Precision.FP32
            ),
            CaptionOptions(limit=limit),
        )
        with progress_bar("captioning", "images", shown=progress) as advance:
            for done, total in run:
                advance(done, total, len(run.report.failures))
        return run.report

    def vectors(
        self, *, category: str, backbone: str | None = None, role: str | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The unit vectors of a category's images.

        Args:
            category: the category.
            backbone: by this one; by default by the best.
            role: support or query; by default both.

        Returns:
            Ids (n,) int64, ascending, and L2-normalised vectors (n, dimension) float32 in their order. `images` tells whose.

        Raises:
            UsageError: the category or the backbone is not indexed.
        """
        roles = [_required(Role, role, "role")] if role else list(Role)
        with self._store.reading() as catalog:
            row, _ = choose_row(catalog, backbone, choose_categories(catalog, category), roles=roles)
            stores = [open_vectors(self._store, catalog, row, each, category=category) for each in roles]
        ids = [store.ids() for store in stores]
        vectors = [store.vectors(each) for store, each in zip(stores, ids, strict=True)]
        order = np.argsort(np.concatenate(ids))
        return np.concatenate(ids)[order], np.concatenate(vectors)[order]

    def images(self, ids: Iterable[int]) -> list[Shown]:
        """Look up images by their ids.

        Args:
            ids: as `vectors` and hits have them.

        Returns:
            Path, category, role, label and shot of each, in the order of the ids; those that are not there are passed over.
        """
        wanted = [int(each) for each in ids]
        with self._store.reading() as catalog:
            shown = catalog.shown(wanted)
        return [shown[each] for each in wanted if each in shown]

    def status(self) -> Status:
        """Report what is indexed, what is lacking, and how far the index lags behind the disk."""
        return read_status(self._store)

    def mirror(
        self, engine: str, *, backbones: Sequence[str] = (), anew: bool = False, progress: bool = False
    ) -> list[Mirrored]:
        """Bring the copy of the vectors in a Milvus up to date, or make it; `open(mirror=...)` asks it.

        Args:
            engine: its address, milvus://[USER:PASSWORD@]HOST[:PORT][/DATABASE].
            backbones: the vectors of these only.
            anew: make it anew, whatever is there.
            progress: show a bar, in terminals and notebooks.

        Returns:
            What was done, by backbone and role.

        Raises:
            UsageError: it is no such address, or nothing is indexed with a backbone.
            UnreachableError: it does not answer.
            StoreBusyError: another process is at it.
            StoreError: it does not hold what was written.
        """
        run = MirrorRun(self._store, engine, backbones=_names(backbones), anew=anew)
        with progress_bar("mirroring", "images", shown=progress) as advance:
            for there, total in run:
                advance(there, total, 0)
        return run.reports

    def verify(self, *, repair: bool = False) -> list[Finding]:
        """Compare files, rows, vectors and segments; an empty list where all agree.

        Args:
            repair: rebuild what can be rebuilt.

        Returns:
            What does not agree, and what mends it.

        Raises:
            StoreBusyError: another process is writing.
        """
        return list(verify(self._store, repair=repair))

    def _options(self, given: Choices) -> QueryOptions:
        known = {name for name in QueryOptions.__dataclass_fields__ if name not in ("device", "weights")}
        if unknown := sorted(set(given) - known):
            raise UsageError(f"query has no option '{unknown[0]}'; there are {', '.join(sorted(known))}")
        options: dict[str, Any] = dict(given)
        asked = options.get("score")
        options["score"] = None if asked == "auto" else _chosen(Score, asked, "score")
        options["find"] = tuple(_names(options.get("find", ())))
        options["box"] = _boxes(options.get("box", ()))
        options["against"] = _chosen(Against, options.get("against"), "against") or Against.SUPPORT
        return QueryOptions(**options, device=self._device, weights=self._weights)

    def _retriever(self, options: QueryOptions) -> Retriever:
        """Return the retriever that answers by some options, as current as the store."""
        with self._store.reading() as catalog:
            revision = catalog.revision()
        with self._opening:
            ready = self._retrievers.get(options)
            if ready is None or ready.searcher.revision != revision:
                ready = Retriever(self._store, options, loaded=self._loaded, encoding=self._encoding)
                for reason in ready.passed_over.values():
                    warnings.warn(f"{ready.searcher.row.name} answers, because {reason}", stacklevel=3)
                self._retrievers[options] = ready
            self._retrievers.move_to_end(options)
            while len(self._retrievers) > RETRIEVERS:
                self._retrievers.popitem(last=False)
        return ready

    def _encode_words(self, row: BackboneRow, words: str) -> NDArray[np.float32]:
        with self._opening:
            if row.id not in self._loaded:
                self._loaded[row.id] = load_indexed(self._store, row, weights=self._weights, device=self._device)
        with self._encoding:
            return encode_words(self._loaded[row.id], words)


def _boxes(boxes: Any) -> tuple[tuple[int, int, int, int], ...]:
    """Boxes of whole numbers, also where one was given without a list around it."""
    several = [boxes] if len(boxes) == 4 and not any(isinstance(each, Sequence) for each in boxes) else list(boxes)
    try:
        whole = [tuple(map(index, box)) for box in several]
    except TypeError:
        whole = [()]
    if any(len(box) != 4 for box in whole):
        raise UsageError(f"{option('box')} is x, y, width and height in whole pixels, or several of these")
    return tuple((box[0], box[1], box[2], box[3]) for box in whole)


def _names(names: Sequence[str]) -> Sequence[str]:
    """Names, also where one was given without a list around it."""
    return [names] if isinstance(names, str) else names


def _chosen(kind: type[Value], value: str | None, name: str) -> Value | None:
    return None if value is None else _required(kind, value, name)


def _required(kind: type[Value], value: str, name: str) -> Value:
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{option(name)} cannot be '{value}'; take {', '.join(kind)}") from None
