"""The cropping run: brings the crops in a data directory up to date with its raw pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, NamedTuple

from PIL import Image

from nearshot.backbones.decode import decode
from nearshot.backbones.in_order import in_order
from nearshot.backbones.memory_budget import allow
from nearshot.detectors.loading import load_detector, signature_of, spec_of
from nearshot.detectors.protocol import Detection, Detector
from nearshot.detectors.tiles import detect_in_tiles
from nearshot.indexer.crop_cutter import Cutter
from nearshot.indexer.crop_files import CropFiles
from nearshot.indexer.crop_options import CropOptions
from nearshot.indexer.crop_preview import Preview
from nearshot.indexer.crop_report import CropReport
from nearshot.indexer.crop_tasks import CropTask, LookedAt, Raw, RawPicture
from nearshot.indexer.crop_videos import frame_tasks, video_of
from nearshot.indexer.discover import Discovery
from nearshot.indexer.load import read_image
from nearshot.indexer.report import Failure
from nearshot.schema.contract import is_label, is_video_name
from nearshot.schema.crops import (
    Cropping,
    Destination,
    known_croppings,
    known_detectors,
    use_detector,
)
from nearshot.schema.errors import UsageError, option
from nearshot.schema.images import FileState, FoundImage
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role

Loaded = tuple[CropTask, Raw]
"""A raw picture that is due, and what came of reading it."""

HELD = 24 << 20
"""Pixels that a batch of pictures has at most, but for its last one."""

AHEAD = 64 << 20
"""Pixels of pictures that wait decoded for their turn; others wait as they were read, and are decoded again then."""

NO_LABEL = "its directory's name cannot be a label"


class CropProgress(NamedTuple):
    """Progress of a run, in raw pictures that must be looked at; `failed` could not be."""

    done: int
    total: int
    failed: int


def require_raw(root: Path, options: CropOptions) -> None:
    """Raise UsageError for options that make no sense, or that no detector or directory of raw pictures goes with."""
    options.check()
    spec_of(options.detector_name)
    if not root.is_dir():
        raise UsageError(f"{root} is not a directory; give the data directory that holds <category>/{options.source}/")
    if (root / options.source).is_dir():
        raise UsageError(f"{root} is a category, not the data directory; give {root.resolve().parent}")
    categories = options.categories or [path.name for path in root.iterdir()]
    if not any((root / name / options.source).is_dir() for name in categories):
        raise UsageError(
            f"no category of {root} has a directory {options.source}; put raw pictures into <category>/{options.source}/, "
            f"or name another with {option('source')}"
        )


class CropRun:
    """One cropping run. Iterate over it to make it go; `report` is complete when the iteration ends.

    Batch by batch, pictures are detected in, which leaves nothing on the device, and cut; then crops and rows are committed: a
    run that is stopped or killed goes on where it was. With `preview`, contact sheets are written into that directory; a
    `dry` run writes nothing else, and needs no store.
    """

    def __init__(
        self,
        store: Store | None,
        root: Path,
        options: CropOptions,
        *,
        preview: Path | None = None,
        dry: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Raise UsageError for options that make no sense, and a directory without raw pictures."""
        require_raw(root, options)
        self.report = CropReport()
        self._store, self._root, self._options, self._dry = store, root.resolve(), options, dry or store is None
        self._should_stop = should_stop
        self._ahead = _Ahead(AHEAD)
        self._preview = preview

    def __iter__(self) -> Iterator[CropProgress]:
        """Run, yielding after every batch. Raises UsageError, WeightsError, StoreBusyError and StoreError."""
        allow(self._options.max_pixels)
        discovery = Discovery(
            self._root, self._options.categories, follow_links=self._options.follow_links, raw=self._options.source
        )
        if self._store is None or self._dry:
            yield from self._run(discovery, None)
            return
        with self._store.held(f"nearshot crop {self._root}", str(self._root)):
            with self._store.writing() as editor:
                root_id = editor.add_root(str(self._root))
            files = CropFiles(self._store, self._root, root_id, threads=self._options.threads)
            files.finish()
            yield from self._run(discovery, files)

    def _run(self, discovery: Discovery, files: CropFiles | None) -> Iterator[CropProgress]:
        root_id, known = self._known(discovery)
        options, report = self._options, self.report
        used = []
        if self._store is not None:
            with self._store.reading() as catalog:
                used = known_detectors(catalog, options.detector_name)
        remembered = next((Path(row.location) for row in reversed(used) if row.location), None)
        signature, location = signature_of(
            options.detector_name, options.weights, remembered=remembered, precision=options.precision
        )
        detector: Detector | None = None
        detector_id = next((row.id for row in used if row.signature == signature), None)
        pictures = list(discovery)
        report.breaches = discovery.breaches
        if detector_id is None and pictures:
            detector = self._load(remembered)
            if files is not None and self._store is not None:
                with self._store.writing() as editor:
                    detector_id = use_detector(
                        editor,
                        name=options.detector_name,
                        fingerprint=detector.fingerprint,
                        signature=signature,
                        location=str(location) if location else None,
                    )
        tasks = list(self._tasks(pictures, known, detector_id))
        report.unchanged = len(pictures) - len(tasks) - len(report.failures)
        yield CropProgress(0, len(tasks), len(report.failures))
        if tasks:
            detector = detector or self._load(remembered)
            detector.check_words(options.find)
            yield from self._look(tasks, detector, detector_id or 0, files, known)
        if not report.interrupted and files is not None and root_id is not None:
            here = {image.path for image in pictures}
            gone = [
                cropping_id
                for cropping_id, cropping in known.items()
                if not here & {cropping.path, video_of(cropping.path)}
                and not discovery.hides(cropping.path)
                and cropping.path.split("/")[1] == options.source
            ]
            report.gone = len({video_of(known[cropping_id].path) for cropping_id in gone})
            report.deleted += files.drop(gone)

    def _known(self, discovery: Discovery) -> tuple[int | None, Mapping[int, Cropping]]:
        if self._store is None:
            return None, {}
        with self._store.reading() as catalog:
            root_id = catalog.root_id(str(self._root))
            return root_id, {} if root_id is None else known_croppings(catalog, root_id, discovery.categories)

    def _load(self, remembered: Path | None) -> Detector:
        options = self._options
        return load_detector(
            options.detector_name,
            options.weights,
            device=options.device,
            precision=options.precision,
            remembered=remembered,
        )

    def _tasks(
        self, pictures: Sequence[FoundImage], known: Mapping[int, Cropping], detector_id: int | None
    ) -> Iterator[CropTask]:
        """The pictures that are due: new, changed, or looked at by another detector, with other options, in vain."""
        options, recipe = self._options, self._options.recipe()
        by_picture = {(each.path, each.destination): (each_id, each) for each_id, each in known.items()}
        for image in pictures:
            if image.failure:
                self.report.failures.append(Failure(image.path, image.failure))
                continue
            destination = self._destination(image)
            if destination.role == Role.SUPPORT and not is_label(destination.label):
                self.report.failures.append(Failure(image.path, NO_LABEL))
                continue
            known_id, before = by_picture.get((image.path, destination), (None, None))
            if before is not None and before.failure and before.decoder == options.decoder:
                same = before.state == image.state
                if same:
                    self.report.failures.append(Failure(image.path, before.failure))
            else:
                same = before is not None and not before.failure and before.state == image.state
                same = same and before is not None and (before.detector_id, before.options) == (detector_id, recipe)
            if not same:
                yield CropTask(image, destination, known_id, before)

    def _destination(self, image: FoundImage) -> Destination:
        options = self._options
        label = options.label or image.label or image.category if options.role == Role.SUPPORT else ""
        return Destination(options.role, label, options.words)

    def _look(
        self,
        tasks: Sequence[CropTask],
        detector: Detector,
        detector_id: int,
        files: CropFiles | None,
        known: Mapping[int, Cropping],
    ) -> Iterator[CropProgress]:
        """Load, detect, cut and commit, batch after batch."""
        preview = Preview(self._preview) if self._preview else None
        recipe = self._options.recipe()
        threads = self._options.threads
        loaded = in_order(
            lambda task: self._read(task, (detector_id, recipe), detector),
            self._until_stopped(self._with_frames(tasks, known, (detector_id, recipe))),
            workers=threads,
            ahead=threads + detector.batch_size,
        )
        done = 0
        try:
            with (
                ThreadPoolExecutor(threads, thread_name_prefix="cut") as pool,
                ThreadPoolExecutor(1, thread_name_prefix="commit") as committing,
            ):
                cutter = Cutter(
                    store=self._store,
                    root=self._root,
                    options=self._options,
                    report=self.report,
                    files=files,
                    preview=preview,
                    detector_id=detector_id,
                    usual_score=detector.usual_score,
                    known=known,
                    pool=pool,
                )
                # While one batch is cut and committed, the detector looks at the next.
                cutting: Future[int] | None = None
                for batch in _batches(loaded, detector.batch_size):
                    looked_at = self._detect(batch, detector)
                    if cutting is not None:
                        done += cutting.result()
                        yield CropProgress(done, len(tasks), len(self.report.failures))
                    cutting = committing.submit(cutter.finish, looked_at)
                if cutting is not None:
                    done += cutting.result()
                    yield CropProgress(done, len(tasks), len(self.report.failures))
        finally:
            if preview is not None:
                preview.close()
                self.report.previews = preview.paths

    def _with_frames(
        self, tasks: Iterable[CropTask], known: Mapping[int, Cropping], recipe: tuple[int, str]
    ) -> Iterator[CropTask]:
        """The tasks, with the frames of each video before it."""
        for task in tasks:
            if is_video_name(PurePosixPath(task.image.path).name):
                yield from frame_tasks(
                    self._root,
                    task,
                    known,
                    lambda before, sha256: _is_same(before, sha256, recipe),
                    max_pixels=self._options.max_pixels,
                )
            else:
                yield task

    def _until_stopped(self, tasks: Iterable[CropTask]) -> Iterator[CropTask]:
        for task in tasks:
            if self._should_stop():
                self.report.interrupted = True
                return
            yield task

    def _read(self, task: CropTask, recipe: tuple[int, str], detector: Detector) -> Raw:
        """Read a picture, and decode and prepare it, unless it is known already. Safe from any thread."""
        if task.read is not None:
            if isinstance(task.read, RawPicture) and task.read.picture and self._options.tiles is None:
                return replace(task.read, prepared=detector.prepare(task.read.picture))
            return task.read

        def use(state: FileState, data: bytes) -> RawPicture:
            sha256 = hashlib.sha256(data).hexdigest()
            if task.known is not None and _is_same(task.known, sha256, recipe):
                return RawPicture(state, sha256, None, b"")
            picture = self._decoded(data)
            prepared = detector.prepare(picture) if self._options.tiles is None else None
            if not self._ahead.take(picture.width * picture.height):
                return RawPicture(state, sha256, None, data, prepared)
            # A copy waits for its turn without a share of the budget.
            return RawPicture(state, sha256, picture.copy(), b"", prepared)

        return read_image(self._root / task.image.path, use)

    def _decoded(self, data: bytes) -> Image.Image:
        return decode(data, max_pixels=self._options.max_pixels, whole=True).picture

    def _detect(self, batch: Sequence[Loaded], detector: Detector) -> list[LookedAt]:
        """Look at the pictures of a batch that must be looked at."""
        options = self._options
        pictures: dict[int, Image.Image] = {}
        prepared: list[Any] = []
        for number, (task, raw) in enumerate(batch):
            if isinstance(raw, RawPicture) and (raw.picture or raw.data):
                pictures[number] = picture = raw.picture or self._decoded(raw.data)
                prepared.append(raw.prepared)
                if raw.picture and not task.is_frame:
                    self._ahead.give_back(picture.width * picture.height)
        words, masks = options.find, options.cutting.mask is not None
        detected: list[list[Detection]] = []
        if pictures and options.tiles is None:
            detected = detector.detect(list(pictures.values()), words, masks=masks, prepared=prepared)
        elif pictures:
            detected = [
                detect_in_tiles(detector, picture, words, side=options.tiles or 0, masks=masks)
                for picture in pictures.values()
            ]
        by_number = dict(zip(pictures, detected, strict=True))
        return [
            LookedAt(task, raw, pictures.get(number), by_number.get(number, ()))
            for number, (task, raw) in enumerate(batch)
        ]


class _Ahead:
    """A number of pixels that is taken from and given back to, without waiting. Safe from any thread."""

    def __init__(self, pixels: int) -> None:
        self._left, self._lock = pixels, Lock()

    def take(self, pixels: int) -> bool:
        """Take some, unless fewer are left."""
        with self._lock:
            if pixels > self._left:
                return False
            self._left -= pixels
            return True

    def give_back(self, pixels: int) -> None:
        """Give some back."""
        with self._lock:
            self._left += pixels


def _is_same(known: Cropping, sha256: str, recipe: tuple[int, str]) -> bool:
    """Tell whether a picture was looked at as it is, by the same detector, with the same options, and all was written."""
    return known.sha256 == sha256 and (known.detector_id, known.options) == recipe and known.size >= 0


def _batches(loaded: Iterable[Loaded], size: int) -> Iterator[list[Loaded]]:
    """Batches of at most `size` pictures, and of few more pixels than one may hold."""
    batch: list[Loaded] = []
    held = 0
    for task, raw in loaded:
        batch.append((task, raw))
        if isinstance(raw, RawPicture):
            held += raw.picture.width * raw.picture.height if raw.picture else HELD if raw.data else 0
        if len(batch) == size or held >= HELD:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
