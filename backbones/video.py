"""Videos and streams: opened and decoded by PyAV, an extra; frames as upright RGB pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from nearshot.backbones.limits import MAX_ASPECT, MAX_PIXELS
from nearshot.schema.errors import ImageError

USUAL_RATE = 25
"""Frames a second of a video that does not tell the time of its frames."""

TICKS = 90_000
"""Ticks a second of a video that has no time base: MPEG's."""

FORMATS = (
    *("3g2", "3gp", "asf", "avi", "dv", "flv", "h264", "hevc", "m4a", "m4v", "matroska", "mj2", "mjpeg", "mov", "mp4"),
    *("mpeg", "mpegts", "mpegvideo", "mxf", "ogg", "webm"),
)
"""FFmpeg's formats of video files that are read. Others (playlists, lists of files) name further files and addresses, which
would be read in their place."""

TIMEOUT_S = 10
"""Seconds that a stream may take to open, and between frames."""

SCENE = 0.3
"""The score from which FFmpeg's `select` filter takes a frame for the first of a scene; its manual: sane from 0.3 to 0.5."""

LONGEST_SCENE_S = 10
"""Seconds after which a scene is looked at again, though nothing cut it."""


class Frame(NamedTuple):
    """A frame: its number from 0, when it is, in seconds from the start (None where there is no time), and its picture.

    `file` is the image that it was read from, None of a video.
    """

    number: int
    seconds: float | None
    picture: Image.Image
    file: str | None = None


def open_video(source: str, *, live: bool = False) -> Any:
    """PyAV's container of a file, a device or a stream, to be closed. ImageError where there is no video, or no PyAV."""
    av = _av()
    options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
    if not live:
        options = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
    try:
        container = av.open(source, options=options, timeout=(TIMEOUT_S, TIMEOUT_S) if live else None)
    except (av.FFmpegError, OSError) as error:
        raise ImageError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if not container.streams.video:
        container.close()
        raise ImageError("holds no video")
    container.streams.video[0].thread_type = "AUTO"
    return container


def decoded_frames(container: Any) -> Iterator[Any]:
    """PyAV's frames of a video; one that is damaged half way ends there, with what it gave; ImageError where that is none."""
    av = _av()
    given = 0
    try:
        for frame in container.decode(video=0):
            given += 1
            yield frame
    except av.FFmpegError as error:
        if not given:
            raise ImageError(f"cannot be decoded: {getattr(error, 'strerror', None) or error}") from error


def scenes(path: Path, *, max_pixels: int = MAX_PIXELS) -> Iterator[Frame]:
    """The first frame of each scene of a video file, by FFmpeg's `select` filter, and of each ten seconds of a long one.

    The same file and FFmpeg give the same frames. ImageError where it cannot be read.
    """
    av = _av()
    with open_video(str(path)) as container:
        tick = container.streams.video[0].time_base or Fraction(1, TICKS)
        selecting: Any = None
        shape, number = None, 0
        for decoded_number, decoded in enumerate(decoded_frames(container)):
            check_size(decoded, max_pixels)
            if decoded.pts is None:
                decoded.pts, decoded.time_base = round(decoded_number / USUAL_RATE / tick), tick
            try:
                own = decoded.width, decoded.height, decoded.format.name
                if own != shape:  # a change of it is a scene, too
                    selecting, shape = _selecting(*own, tick), own
                selecting.push(decoded)
                frame = selecting.pull()
            except (av.BlockingIOError, av.EOFError):  # it was not selected
                continue
            except (av.FFmpegError, ValueError) as error:
                raise ImageError(f"cannot be cut into scenes: {getattr(error, 'strerror', None) or error}") from error
            yield Frame(number, seconds_of(frame, number), picture_of(frame))
            number += 1


def _selecting(width: int, height: int, pixels: str, tick: Fraction) -> Any:
    """FFmpeg's graph that lets through the first frame of each scene of frames of a shape."""
    graph = _av().filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=pixels, time_base=tick)
    wanted = rf"isnan(prev_selected_t)+gt(scene\,{SCENE})+gte(t-prev_selected_t\,{LONGEST_SCENE_S})"
    graph.link_nodes(source, graph.add("select", wanted), graph.add("buffersink")).configure()
    return graph


def check_size(frame: Any, max_pixels: int) -> None:
    """Raise ImageError for a PyAV frame of more pixels, or of another shape, than what is looked at."""
    longest, shortest = max(frame.width, frame.height), min(frame.width, frame.height)
    if frame.width * frame.height > max_pixels or longest > MAX_ASPECT * shortest:
        raise ImageError(f"frames of {frame.width} x {frame.height} pixels are more than what is looked at")


def seconds_of(frame: Any, number: int) -> float:
    """When a PyAV frame of a number is, in seconds from the start."""
    return float(frame.time) if frame.time is not None and math.isfinite(frame.time) else number / USUAL_RATE


def picture_of(frame: Any) -> Image.Image:
    """A PyAV frame as an upright RGB picture."""
    picture: Image.Image = frame.to_image()
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImageError("a video or a camera takes PyAV: pip install 'nearshot[video]'") from error
    return av
