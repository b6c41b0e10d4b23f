"""Videos that the tests make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image


def write_video(path: Path, shown: list[tuple[Path | None, int]], *, size: tuple[int, int] = (320, 240)) -> None:
    """A video of photographs, each moved by a pixel a frame, or of plain grey, for so many frames each."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for photograph, frames in shown:
            picture = Image.open(photograph).convert("RGB").resize((400, 300)) if photograph else None
            for number in range(frames):
                left = number % 80
                frame = (
                    picture.crop((left, 20, left + 320, 260)) if picture else Image.new("RGB", (320, 240), (90, 90, 90))
                )
                for packet in stream.encode(av.VideoFrame.from_image(frame.resize(size))):
                    container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
