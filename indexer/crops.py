"""The cropping run: brings the crops in a data directory up to date with its raw pictures."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

from nearshot.backbones.decode import decode
from nearshot.backbones.in_order import in_order
from nearshot.backbones.memory_budget import allow
from nearshot.detectors.cutting import cut
from nearshot.detectors.loading import load_detector, signature_of
from nearshot.detectors.protocol import Detection, Detector
from nearshot.detectors.selection import Selected, select
from nearshot.detectors.tiles import detect_in_tiles
from nearshot.indexer.crop_files import CropFile, CropFiles, Cropped
from nearshot.indexer.crop_names import crop_name
from nearshot.indexer.crop_options import CropOptions
from nearshot.indexer.crop_preview import Preview
from nearshot.indexer.crop_report import CropReport
from nearshot.indexer.discover import Discovery
from nearshot.indexer.load import Skipped, read_image
from nearshot.indexer.report import Failure
from nearshot.schema.contract import QUERY_DIRECTORY, SUPPORT_DIRECTORY, is_label
from nearshot.schema.crops import (
    Crop,
    Cropping,
    Destination,
    crops_of,
    known_croppings,
    newest_detector,
    touch_cropping,
    use_detector,
)
from nearshot.schema.errors import UsageError, option
from nearshot.schema.images import NO_FILE, FileState, FoundImage
from nearshot.schema.store import Store, utc_now
from nearshot.schema.vocabulary import Role

HELD = 24 << 20
"""Pixels of a picture up to which it is decoded ahead; larger ones are, one by one, when it is their turn."""

NO_LABEL = "its directory's name cannot be a label"
LONGEST_NAME = 200

_SHOT = re.compile(r"shot([0-9]+)", re.IGNORECASE)


class CropProgress(NamedTuple):
    """Progress of a run, in raw pictures that must be looked at; `failed` could not be."""

    done: int
    total: int
    failed: int


@dataclass(frozen=True, slots=True)
class _Task:
    """A raw picture that is due, what it is cropped for, and what is known of it."""

    image: FoundImage
    destination: Destination
    known_id: int | None
    known: Cropping | None


@dataclass(frozen=True, slots=True, eq=False)
class _Raw:
    """A raw picture that was read: decoded, or (a large one, or one that is known) only its bytes."""

    state: FileState
    sha256: str
    picture: Image.Image | None
    data: bytes


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
        """Raise UsageError for options that make no sense."""
        options.check()
        self.report = CropReport()
        self._store, self._root, self._options, self._dry = store, root.resolve(), options, dry or store is None
        self._should_stop = should_stop
        self._preview = preview
        self._numbers: dict[Path, int] = {}
        self._known_contents: dict[str, set[tuple[Destination, str | None]]] = {}

    def __iter__(self) -> Iterator[CropProgress]:
        """Run, yielding after every batch. Raises UsageError, WeightsError, StoreBusyError and StoreError."""
        allow(self._options.max_pixels)
        discovery = Discovery(
            self._root, self._options.categories, follow_links=self._options.follow_links, raw=self._options.source
        )
        self._require_source(discovery)
        if self._store is None or self._dry:
            yield from self._run(discovery, None)
            return
        with self._store.held(f"nearshot crop {self._root}"):
            with self._store.writing() as editor:
                root_id = editor.add_root(str(self._root))
            files = CropFiles(self._store, self._root, root_id, threads=self._options.threads)
            files.finish()
            yield from self._run(discovery, files)

    def _require_source(self, discovery: Discovery) -> None:
        source = self._options.source
        if not any((self._root / name / source).is_dir() for name in discovery.categories):
            raise UsageError(
                f"no category of {self._root} has a directory {source}; put raw pictures into <category>/{source}/, or name "
                f"another with {option('source')}"
            )

    def _run(self, discovery: Discovery, files: CropFiles | None) -> Iterator[CropProgress]:
        root_id, known = self._known(discovery)
        options, report = self._options, self.report
        remembered = None
        detector_row = None
        if self._store is not None:
            with self._store.reading() as catalog:
                detector_row = newest_detector(catalog, options.detector_name)
            remembered = Path(detector_row.location) if detector_row and detector_row.location else None
        signature, location = signature_of(
            options.detector_name, options.weights, remembered=remembered, precision=options.precision
        )
        detector: Detector | None = None
        detector_id = detector_row.id if detector_row and detector_row.signature == signature else None
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
        for cropping in known.values():
            self._known_contents.setdefault(cropping.path, set()).add((cropping.destination, cropping.sha256))
        report.unchanged = len(pictures) - len(tasks) - len(report.failures)
        yield CropProgress(0, len(tasks), len(report.failures))
        if tasks:
            detector = detector or self._load(remembered)
            detector.check_words(options.find)
            yield from self._look(tasks, detector, detector_id or 0, files)
        if not report.interrupted and files is not None and root_id is not None:
            here = {image.path for image in pictures}
            gone = [
                cropping_id
                for cropping_id, cropping in known.items()
                if cropping.path not in here
                and not discovery.hides(cropping.path)
                and cropping.path.split("/")[1] == options.source
            ]
            report.gone = len({known[cropping_id].path for cropping_id in gone})
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
    ) -> Iterator[_Task]:
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
                yield _Task(image, destination, known_id, before)

    def _destination(self, image: FoundImage) -> Destination:
        options = self._options
        label = options.label or image.label or image.category if options.role == Role.SUPPORT else ""
        return Destination(options.role, label, options.words)

    def _look(
        self, tasks: Sequence[_Task], detector: Detector, detector_id: int, files: CropFiles | None
    ) -> Iterator[CropProgress]:
        """Load, detect, cut and commit, batch after batch."""
        preview = Preview(self._preview) if self._preview else None
        recipe = self._options.recipe()
        threads = self._options.threads
        loaded = in_order(
            lambda task: self._read(task, (detector_id, recipe)),
            self._until_stopped(tasks),
            workers=threads,
            ahead=threads,
        )
        done = 0
        try:
            with ThreadPoolExecutor(threads, thread_name_prefix="cut") as pool:
                for batch in _batches(loaded, detector.batch_size):
                    self._crop(batch, detector, detector_id, files, pool, preview)
                    done += len(batch)
                    yield CropProgress(done, len(tasks), len(self.report.failures))
        finally:
            if preview is not None:
                preview.close()
                self.report.previews = preview.paths

    def _until_stopped(self, tasks: Sequence[_Task]) -> Iterator[_Task]:
        for task in tasks:
            if self._should_stop():
                self.report.interrupted = True
                return
            yield task

    def _read(self, task: _Task, recipe: tuple[int, str]) -> _Raw | Skipped:
        """Read a picture, and decode it, unless it is too large for that or known already. Safe from any thread."""

        def use(state: FileState, data: bytes) -> _Raw:
            sha256 = hashlib.sha256(data).hexdigest()
            if task.known is not None and _is_same(task.known, sha256, recipe):
                return _Raw(state, sha256, None, b"")
            picture = decode(data, max_pixels=self._options.max_pixels, whole=True).picture
            if picture.width * picture.height > HELD:
                return _Raw(state, sha256, None, data)
            return _Raw(state, sha256, picture.copy(), data)  # a copy: it waits here without a share of the budget

        return read_image(self._root / task.image.path, use)

    def _crop(
        self,
        batch: Sequence[tuple[_Task, _Raw | Skipped]],
        detector: Detector,
        detector_id: int,
        files: CropFiles | None,
        pool: ThreadPoolExecutor,
        preview: Preview | None,
    ) -> None:
        """Detect in a batch of pictures, cut and commit."""
        recipe = (detector_id, self._options.recipe())
        raws: list[tuple[_Task, _Raw, Image.Image]] = []
        results: list[Cropped] = []
        for task, raw in batch:
            if isinstance(raw, Skipped):
                self.report.failures.append(Failure(task.image.path, raw.reason))
                if raw.state != NO_FILE:
                    cropping = self._cropping(task, raw.state, None, recipe, failure=raw.reason)
                    results.append(Cropped(cropping, (), task.known_id))
            elif raw.picture is None and not raw.data:
                self._touch(task, raw, recipe)
            else:
                picture = raw.picture or decode(raw.data, max_pixels=self._options.max_pixels, whole=True).picture
                raws.append((task, raw, picture))
        if raws:
            detected = self._detect(detector, [picture for _, _, picture in raws])
            for (task, raw, picture), detections in zip(raws, detected, strict=True):
                selected = self._select(detector, detections, picture.size)
                if preview is not None:
                    preview.add(task.image.path, picture, selected)
                self.report.cropped += 1
                self.report.stale += any(
                    destination != task.destination and sha256 != raw.sha256
                    for destination, sha256 in self._known_contents.get(task.image.path, ())
                )
                self.report.empty += not selected
                cropped = Cropped(
                    self._cropping(task, raw.state, raw.sha256, recipe),
                    self._cut(task, picture, selected, pool),
                    task.known_id,
                )
                if obstacle := files.obstacle(cropped) if files is not None else None:
                    self.report.failures.append(Failure(task.image.path, obstacle))
                else:
                    results.append(cropped)
                    self.report.written += len(cropped.files)
        if files is not None and results:
            self.report.deleted += files.commit(results)

    def _detect(self, detector: Detector, pictures: Sequence[Image.Image]) -> list[list[Detection]]:
        words, masks = self._options.find, self._options.cutting.mask is not None
        if self._options.tiles is None:
            return detector.detect(pictures, words, masks=masks)
        return [
            detect_in_tiles(detector, picture, words, side=self._options.tiles, masks=masks) for picture in pictures
        ]

    def _select(self, detector: Detector, detections: Sequence[Detection], size: tuple[int, int]) -> list[Selected]:
        least = self._options.min_score
        if least is not None and detector.usual_score is None:
            raise UsageError(f"{detector.name} gives no scores; leave {option('min_score')} out")
        least = detector.usual_score if least is None else least
        return select(detections, size, self._options.selected, min_score=least or 0.0)

    def _cut(
        self, task: _Task, picture: Image.Image, selected: Sequence[Selected], pool: ThreadPoolExecutor
    ) -> list[CropFile]:
        """The crops of what was selected, encoded as PNG, with the paths that they are to have."""
        if not selected:
            return []
        directory = self._directory(task)
        cutting = self._options.cutting
        encoded = pool.map(lambda each: _png(cut(picture, each.box, each.detection.mask, cutting)), selected)
        return [
            CropFile(
                Crop(
                    (directory / crop_name(task.image.path, self._options.find, number)).as_posix(),
                    hashlib.sha256(data).hexdigest(),
                    *box,
                    _name(detection.label),
                    detection.score,
                    None if detection.mask is None else _png(Image.fromarray(detection.mask)),
                ),
                data,
            )
            for number, ((box, detection), data) in enumerate(zip(selected, encoded, strict=True), start=1)
        ]

    def _directory(self, task: _Task) -> PurePosixPath:
        """The directory, relative to the data directory, that a picture's crops lie in."""
        category, _, *below = PurePosixPath(task.image.path).parts
        if task.destination.role == Role.QUERY:
            return PurePosixPath(category, QUERY_DIRECTORY, *below[:-1])
        own = self._own_shot(task)
        if own is not None:
            return own
        label = task.destination.label
        shots = self._root / category / SUPPORT_DIRECTORY
        if label != category or (shots / label).is_dir():
            shots /= label
        if shots not in self._numbers:
            names = [path.stem for path in shots.iterdir()] if shots.is_dir() else []
            self._numbers[shots] = max((int(match[1]) for name in names if (match := _SHOT.fullmatch(name))), default=0)
        self._numbers[shots] += 1
        return PurePosixPath((shots / f"shot{self._numbers[shots]}").relative_to(self._root).as_posix())

    def _own_shot(self, task: _Task) -> PurePosixPath | None:
        """The directory of the shot that a picture's crops were before."""
        if task.known_id is None or self._store is None:
            return None
        with self._store.reading() as catalog:
            [crops] = crops_of(catalog, [task.known_id]).values()
        return PurePosixPath(crops[0].path).parent if crops else None

    def _touch(self, task: _Task, raw: _Raw, recipe: tuple[int, str]) -> None:
        """Record the state of a file that holds what it held before."""
        self.report.unchanged += 1
        if self._store is not None and not self._dry and task.known_id is not None:
            with self._store.writing() as editor:
                touch_cropping(editor, task.known_id, self._cropping(task, raw.state, raw.sha256, recipe))

    def _cropping(
        self,
        task: _Task,
        state: FileState,
        sha256: str | None,
        recipe: tuple[int, str],
        failure: str | None = None,
    ) -> Cropping:
        return Cropping(
            task.image.path,
            task.image.category,
            *state,
            sha256,
            *task.destination,
            *recipe,
            failure,
            self._options.decoder,
            utc_now(),
        )


def _is_same(known: Cropping, sha256: str, recipe: tuple[int, str]) -> bool:
    """Tell whether a picture was looked at as it is, by the same detector, with the same options, and all was written."""
    return known.sha256 == sha256 and (known.detector_id, known.options) == recipe and known.size >= 0


def _batches(loaded: Iterable[tuple[_Task, _Raw | Skipped]], size: int) -> Iterator[list[tuple[_Task, _Raw | Skipped]]]:
    """Batches of at most `size` pictures, and of few more pixels than one may hold."""
    batch: list[tuple[_Task, _Raw | Skipped]] = []
    held = 0
    for task, raw in loaded:
        batch.append((task, raw))
        if isinstance(raw, _Raw):
            held += raw.picture.width * raw.picture.height if raw.picture else HELD if raw.data else 0
        if len(batch) == size or held >= HELD:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _name(label: str | None) -> str | None:
    """What a model calls something, as far as it can be shown."""
    shown = "".join(letter for letter in label or "" if letter.isprintable()).strip()
    return shown[:LONGEST_NAME] or None
