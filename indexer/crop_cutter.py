"""The cutter of a cropping run: from what was detected in raw pictures to crops, and the rows that tell of them."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from nearshot.detectors.cutting import cut
from nearshot.detectors.protocol import Detection
from nearshot.detectors.selection import Selected, select
from nearshot.indexer.crop_files import CropFile, CropFiles, Cropped
from nearshot.indexer.crop_names import crop_name
from nearshot.indexer.crop_options import CropOptions
from nearshot.indexer.crop_preview import Preview
from nearshot.indexer.crop_report import CropReport
from nearshot.indexer.crop_tasks import CropTask, LookedAt, RawPicture, VideoEnd
from nearshot.indexer.crop_videos import video_of
from nearshot.indexer.load import Skipped
from nearshot.indexer.report import Failure
from nearshot.schema.contract import QUERY_DIRECTORY, SUPPORT_DIRECTORY
from nearshot.schema.crops import Crop, Cropping, crops_of, touch_cropping
from nearshot.schema.errors import UsageError, option
from nearshot.schema.images import NO_FILE, FileState
from nearshot.schema.store import Store, utc_now
from nearshot.schema.vocabulary import Role

LONGEST_NAME = 200

_SHOT = re.compile(r"shot([0-9]+)", re.IGNORECASE)


@dataclass(slots=True, kw_only=True, eq=False)
class Cutter:
    """Cuts and commits batch after batch, from one thread at a time; without `files`, it only counts and draws.

    `known` is what the store knew when the run began, `usual_score` the detector's.
    """

    store: Store | None
    root: Path
    options: CropOptions
    report: CropReport
    files: CropFiles | None
    preview: Preview | None
    detector_id: int
    usual_score: float | None
    known: Mapping[int, Cropping]
    pool: ThreadPoolExecutor
    _numbers: dict[Path, int] = field(default_factory=dict)
    _contents: dict[str, list[Cropping]] = field(default_factory=dict)
    _obstructed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Raise UsageError for a least score where there are no scores."""
        if self.options.min_score is not None and self.usual_score is None:
            raise UsageError(f"{self.options.detector_name} gives no scores; leave {option('min_score')} out")
        for cropping in self.known.values():
            self._contents.setdefault(cropping.path, []).append(cropping)

    def finish(self, batch: Sequence[LookedAt]) -> int:
        """Cut what was detected in a batch of pictures, and commit it; how many files those were."""
        results: list[Cropped] = []
        for task, raw, picture, detections in batch:
            if isinstance(raw, Skipped):
                self.report.failures.append(Failure(task.image.path, raw.reason))
                if raw.state != NO_FILE:
                    cropping = self._cropping(task, raw.state, None, failure=raw.reason)
                    results.append(Cropped(cropping, (), _ids(task)))
            elif isinstance(raw, VideoEnd):
                if task.image.path in self._obstructed:  # it is looked at again until all of it could be written
                    continue
                results.append(Cropped(self._cropping(task, raw.state, raw.sha256), (), (*_ids(task), *raw.gone)))
            elif picture is None:
                self._touch(task, raw)
            else:
                results += self._cropped(task, raw, picture, detections)
        if self.files is not None and results:
            self.report.deleted += self.files.commit(results)
        return sum(not task.is_frame for task, *_ in batch)

    def _cropped(
        self, task: CropTask, raw: RawPicture, picture: Image.Image, detections: Sequence[Detection]
    ) -> list[Cropped]:
        """A picture with its crops; none where another file is in the way, which is a failure."""
        least = self.usual_score if self.options.min_score is None else self.options.min_score
        selected = select(detections, picture.size, self.options.selected, min_score=least or 0.0)
        if self.preview is not None:
            self.preview.add(task.image.path, picture, selected)
        self.report.cropped += 1
        self.report.empty += not selected
        self.report.stale += any(
            before.destination != task.destination and before.sha256 != raw.sha256
            for before in self._contents.get(task.image.path, ())
        )
        cropped = Cropped(self._cropping(task, raw.state, raw.sha256), self._cut(task, picture, selected), _ids(task))
        if obstacle := self.files.obstacle(cropped) if self.files is not None else None:
            self.report.failures.append(Failure(task.image.path, obstacle))
            self._obstructed.add(video_of(task.image.path))
            return []
        self.report.written += len(cropped.files)
        return [cropped]

    def _cut(self, task: CropTask, picture: Image.Image, selected: Sequence[Selected]) -> list[CropFile]:
        """The crops of what was selected, encoded as PNG, with the paths that they are to have."""
        if not selected:
            return []
        directory = self._directory(task)
        cutting = self.options.cutting
        encoded = self.pool.map(lambda each: _png(cut(picture, each.box, each.detection.mask, cutting)), selected)
        return [
            CropFile(
                Crop(
                    (directory / crop_name(task.image.path, self.options.find, number)).as_posix(),
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

    def _directory(self, task: CropTask) -> PurePosixPath:
        """The directory, relative to the data directory, that a picture's crops lie in."""
        category, _, *below = PurePosixPath(task.image.path).parts
        if task.destination.role == Role.QUERY:
            return PurePosixPath(category, QUERY_DIRECTORY, *below[:-1])
        own = self._own_shot(task)
        if own is not None:
            return own
        label = task.destination.label
        shots = self.root / category / SUPPORT_DIRECTORY
        if label != category or (shots / label).is_dir():
            shots /= label
        if shots not in self._numbers:
            names = [path.stem for path in shots.iterdir()] if shots.is_dir() else []
            self._numbers[shots] = max((int(match[1]) for name in names if (match := _SHOT.fullmatch(name))), default=0)
        self._numbers[shots] += 1
        return PurePosixPath((shots / f"shot{self._numbers[shots]}").relative_to(self.root).as_posix())

    def _own_shot(self, task: CropTask) -> PurePosixPath | None:
        """The directory of the shot that a picture's crops were before."""
        if task.known_id is None or self.store is None:
            return None
        with self.store.reading() as catalog:
            [crops] = crops_of(catalog, [task.known_id]).values()
        return PurePosixPath(crops[0].path).parent if crops else None

    def _touch(self, task: CropTask, raw: RawPicture) -> None:
        """Record the state of a file that holds what it held before."""
        self.report.unchanged += 1
        if self.store is not None and self.files is not None and task.known_id is not None:
            with self.store.writing() as editor:
                touch_cropping(editor, task.known_id, self._cropping(task, raw.state, raw.sha256))

    def _cropping(self, task: CropTask, state: FileState, sha256: str | None, failure: str | None = None) -> Cropping:
        return Cropping(
            task.image.path,
            task.image.category,
            *state,
            sha256,
            *task.destination,
            self.detector_id,
            self.options.recipe(),
            failure,
            self.options.decoder,
            utc_now(),
        )


def _ids(task: CropTask) -> tuple[int, ...]:
    """The cropping that a task replaces, if any."""
    return () if task.known_id is None else (task.known_id,)


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _name(label: str | None) -> str | None:
    """What a model calls something, as far as it can be shown."""
    shown = "".join(letter for letter in label or "" if letter.isprintable()).strip()
    return shown[:LONGEST_NAME] or None
