"""Frames: the pictures of a video, of a camera or of a directory that fills, one after the other, in bounded memory."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from nearshot.backbones.decode import decode
from nearshot.backbones.limits import MAX_ASPECT, MAX_BYTES, MAX_PIXELS
from nearshot.retriever.sources import images_below
from nearshot.schema.disk import read_regular
from nearshot.schema.errors import ImageError, UsageError

LIVE = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://", "/dev/video")
"""How sources begin that go on by themselves, whether or not somebody looks."""

POLL_S = 0.5
PATIENCE_S = (1, 2, 4, 8, 15, 30)
"""Seconds between attempts to reach a camera again."""


class Frame(NamedTuple):
    """A frame: its number from 0, when it is, in seconds from the start, and its upright RGB picture."""

    number: int
    seconds: float
    picture: Image.Image


@dataclass(slots=True)
class Seen:
    """What became of frames: how many came, how many were let go because nobody had time, and files that were no images."""

    frames: int = 0
    dropped: int = 0
    unread: list[str] = field(default_factory=list)
    reconnected: int = 0


def is_live(source: str) -> bool:
    """Tell whether a source is a camera or a stream."""
    return source.startswith(LIVE)


def frames_of(
    source: str, *, every: int, wait: bool, seen: Seen, should_stop: Callable[[], bool], max_pixels: int = MAX_PIXELS
) -> Iterator[Frame]:
    """Every so-manyth frame of a source. UsageError where there is none, or nothing that can read it.

    Of a video file every one, however long each takes. Of a camera the newest when somebody has time for one; others are
    dropped, and it is reached again when it is lost. Of a directory every image, in the order of names; with `wait` also
    those that come later.
    """
    if is_live(source):
        return _live(source, every, seen, should_stop)
    path = Path(source)
    if path.is_dir():
        return _directory(path, wait, seen, should_stop, max_pixels)
    if not path.is_file():
        raise UsageError(
            f"{source} is no video, directory or stream; give a file, a directory, rtsp://... or /dev/video0"
        )
    return _file(path, every, seen, should_stop, max_pixels)


def _file(path: Path, every: int, seen: Seen, should_stop: Callable[[], bool], max_pixels: int) -> Iterator[Frame]:
    with _opened(str(path)) as container:
        for number, frame in enumerate(_decoded(container, str(path))):
            if should_stop():
                return
            seen.frames += 1
            if number % every == 0:
                _check(frame, max_pixels)
                yield Frame(number, _seconds(frame, number), _picture(frame))


def _live(source: str, every: int, seen: Seen, should_stop: Callable[[], bool]) -> Iterator[Frame]:
    """The newest frame whenever one is asked for; a thread reads on meanwhile, and drops what nobody took."""
    newest: queue.Queue[Frame | BaseException | None] = queue.Queue(maxsize=1)
    ended = threading.Event()
    _opened(source).close()  # a wrong address is told at once
    reader = threading.Thread(target=_read_on, args=(source, every, seen, newest, ended), name="camera", daemon=True)
    reader.start()
    try:
        while not should_stop():
            with suppress(queue.Empty):
                frame = newest.get(timeout=POLL_S)
                if frame is None or isinstance(frame, BaseException):
                    return
                yield frame
    finally:
        ended.set()
        reader.join(timeout=2)


def _read_on(source: str, every: int, seen: Seen, newest: queue.Queue[Any], ended: threading.Event) -> None:
    started = time.monotonic()
    number = attempt = 0
    while not ended.is_set():
        with suppress(UsageError), _opened(source) as container:
            for frame in _decoded(container, source):
                if ended.is_set():
                    return
                attempt = 0
                seen.frames += 1
                number += 1
                if (number - 1) % every:
                    continue
                given = Frame(number - 1, time.monotonic() - started, _picture(frame))
                with suppress(queue.Empty):
                    newest.get_nowait()
                    seen.dropped += 1
                newest.put(given)
        ended.wait(PATIENCE_S[min(attempt, len(PATIENCE_S) - 1)])
        attempt += 1
        seen.reconnected += 1


def _directory(path: Path, wait: bool, seen: Seen, should_stop: Callable[[], bool], max_pixels: int) -> Iterator[Frame]:
    started = time.time()
    known: dict[Path, tuple[int, int]] = {}
    done: set[Path] = set()
    number = 0
    while not should_stop():
        for image in images_below(path):
            if image in done or should_stop():
                continue
            try:
                stat = image.stat()
            except OSError:
                continue
            state = (stat.st_size, stat.st_mtime_ns)
            if wait and known.get(image) != state:  # it may still be written: wait until it is as it was
                known[image] = state
                continue
            done.add(image)
            seen.frames += 1
            try:
                picture = decode(read_regular(image, most=MAX_BYTES), max_pixels=max_pixels, whole=True).picture
            except (OSError, ImageError) as error:
                seen.unread.append(f"{image}: {getattr(error, 'strerror', None) or error}")
                continue
            yield Frame(number, max(0.0, stat.st_mtime - started) if wait else float(number), picture)
            number += 1
        if not wait:
            return
        time.sleep(POLL_S)


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise UsageError("watching a video or a camera takes PyAV: pip install 'nearshot[video]'") from error
    return av


def _opened(source: str) -> Any:
    av = _av()
    options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
    try:
        container = av.open(source, options=options, timeout=(10, 10) if is_live(source) else None)
    except (av.FFmpegError, OSError) as error:
        raise UsageError(f"{source} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if not container.streams.video:
        container.close()
        raise UsageError(f"{source} holds no video")
    container.streams.video[0].thread_type = "AUTO"
    return container


def _decoded(container: Any, source: str) -> Iterator[Any]:
    """The frames of a video; one that is damaged half way ends there, with what it gave, unless that was nothing."""
    av = _av()
    given = 0
    try:
        for frame in container.decode(video=0):
            given += 1
            yield frame
    except av.FFmpegError as error:
        if not given:
            raise UsageError(f"{source} cannot be decoded: {getattr(error, 'strerror', None) or error}") from error


def _check(frame: Any, max_pixels: int) -> None:
    if frame.width * frame.height > max_pixels or max(frame.width, frame.height) > MAX_ASPECT * min(
        frame.width, frame.height
    ):
        raise UsageError(f"frames of {frame.width} x {frame.height} pixels are more than what is looked at")


def _seconds(frame: Any, number: int) -> float:
    return float(frame.time) if frame.time is not None and math.isfinite(frame.time) else number / 25


def _picture(frame: Any) -> Image.Image:
    picture: Image.Image = frame.to_image()
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture
