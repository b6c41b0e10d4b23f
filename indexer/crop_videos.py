"""Videos among raw pictures: the first frame of each scene is a raw picture of its own, `clip.mp4/00012.480`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from nearshot.backbones.video import scenes
from nearshot.indexer.crop_tasks import CropTask, RawPicture, VideoEnd
from nearshot.indexer.load import Skipped
from nearshot.schema.contract import is_video_name
from nearshot.schema.crops import Cropping
from nearshot.schema.disk import sha256_of
from nearshot.schema.errors import ImageError
from nearshot.schema.images import NO_FILE, FileState

CHANGED = "it changed while it was read; run it again"


_FRAME = re.compile(r"[0-9]{5,}\.[0-9]{3}")


def video_of(path: str) -> str:
    """The video that a raw picture of a path is a frame of; the path itself of a picture. Pure."""
    above, _, name = path.rpartition("/")
    return above if _FRAME.fullmatch(name) and is_video_name(PurePosixPath(above).name) else path


def frame_tasks(
    root: Path,
    task: CropTask,
    known: Mapping[int, Cropping],
    is_same: Callable[[Cropping, str], bool],
    *,
    max_pixels: int,
) -> Iterator[CropTask]:
    """What is to be done for a video that is due: its frames, but for those that are known already, and last its end.

    A run that stops in between leaves no end, so the next one reads the video again, and looks at the other frames. Where it
    cannot be read, the last task says so.
    """
    path = root / task.image.path
    try:
        state, sha256 = _state(path), sha256_of(path)
        if task.known is not None and is_same(task.known, sha256):
            yield replace(task, read=RawPicture(state, sha256, None, b""))
            return
        frames = {
            each.path: (each_id, each)
            for each_id, each in known.items()
            if each.destination == task.destination and each.path.startswith(f"{task.image.path}/")
        }
        here = set()
        for frame in scenes(path, max_pixels=max_pixels):
            own = f"{task.image.path}/{frame.seconds:09.3f}"
            known_id, before = frames.get(own, (None, None))
            if own not in here and not (before is not None and is_same(before, sha256)):
                image = replace(task.image, path=own)
                raw = RawPicture(state, sha256, frame.picture, b"")
                yield CropTask(image, task.destination, known_id, before, raw)
            here.add(own)
        if _state(path) != state:
            raise ImageError(CHANGED)
        gone = tuple(each_id for own, (each_id, _) in frames.items() if own not in here)
        yield replace(task, read=VideoEnd(state, sha256, gone))
    except OSError as error:
        yield replace(task, read=Skipped(NO_FILE, f"cannot be read: {error.strerror or error}"))
    except ImageError as error:
        yield replace(task, read=Skipped(NO_FILE, str(error)))


def _state(path: Path) -> FileState:
    stat = path.stat()
    return FileState(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
