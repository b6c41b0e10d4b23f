"""Frames: the pictures of a video, of a camera or of a directory that fills, one after the other, in bounded memory."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nearshot.backbones.decode import decode
from nearshot.backbones.limits import MAX_BYTES, MAX_PIXELS
from nearshot.backbones.video import Frame, check_size, decoded_frames, open_video, picture_of, seconds_of
from nearshot.retriever.sources import images_below
from nearshot.schema.disk import read_regular
from nearshot.schema.errors import ImageError, UsageError

LIVE = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://", "/dev/video")
"""How sources begin that go on by themselves, whether or not somebody looks."""

POLL_S = 0.5
PATIENCE_S = (1, 2, 4, 8, 15, 30)
"""Seconds between attempts to reach a camera again."""


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


def require_source(source: str) -> None:
    """Raise UsageError for what is neither a camera, nor a stream, nor on the disk."""
    if not is_live(source) and not Path(source).exists():
        raise UsageError(
            f"{source} is no video, directory or stream; give a file, a directory, rtsp://... or /dev/video0"
        )


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
    require_source(source)
    path = Path(source)
    if path.is_dir():
        return _directory(path, wait, seen, should_stop, max_pixels)
    return _file(path, every, seen, should_stop, max_pixels)


def _file(path: Path, every: int, seen: Seen, should_stop: Callable[[], bool], max_pixels: int) -> Iterator[Frame]:
    with _named(str(path)), open_video(str(path)) as container:
        for number, frame in enumerate(decoded_frames(container)):
            if should_stop():
                return
            seen.frames += 1
            if number % every == 0:
                check_size(frame, max_pixels)
                yield Frame(number, seconds_of(frame, number), picture_of(frame))


def _live(source: str, every: int, seen: Seen, should_stop: Callable[[], bool]) -> Iterator[Frame]:
    """The newest frame whenever one is asked for; a thread reads on meanwhile, and drops what nobody took."""
    newest: queue.Queue[Frame | BaseException | None] = queue.Queue(maxsize=1)
    ended = threading.Event()
    with _named(source):
        open_video(source, live=True).close()  # a wrong address is told at once
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
        with suppress(ImageError), open_video(source, live=True) as container:
            for frame in decoded_frames(container):
                if ended.is_set():
                    return
                attempt = 0
                seen.frames += 1
                number += 1
                if (number - 1) % every:
                    continue
                given = Frame(number - 1, time.monotonic() - started, picture_of(frame))
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
            yield Frame(number, max(0.0, stat.st_mtime - started) if wait else None, picture, str(image))
            number += 1
        if not wait:
            return
        time.sleep(POLL_S)


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Tell which source it is that cannot be read."""
    try:
        yield
    except ImageError as error:
        raise UsageError(f"{source}: {error}") from error
