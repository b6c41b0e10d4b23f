"""Watching a video: as fast as it plays, in flat memory.

    python -m benchmarks.watch [--minutes 10] [--every 5]

A video of 25 frames a second, 640 x 480, in which photographs pass by, eight seconds each, is watched by lite0 with one label a
photograph. Told are how many times as fast as it plays it was watched, and the process's own memory a fifth of the way and at
its most.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import psutil
import skimage.data
from PIL import Image

from benchmarks.material import PHOTOGRAPHS, machine
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.watch import WatchOptions, WatchRun
from nearshot.schema.store import Store

RATE, SECONDS, SIZE = 25, 8, (640, 480)


def save_video(path: Path, minutes: int) -> None:
    """Photographs that move by a pixel a frame."""
    directory = Path(skimage.data.__file__).parent
    pictures = [Image.open(directory / name).convert("RGB").resize((900, 700)) for name in PHOTOGRAPHS]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *SIZE, "yuv420p", 4_000_000
        for number in range(minutes * 60 * RATE):
            picture = pictures[number // (RATE * SECONDS) % len(pictures)]
            left, top = number % 250, number % 200
            frame = av.VideoFrame.from_image(picture.crop((left, top, left + SIZE[0], top + SIZE[1])))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def save_shots(root: Path) -> None:
    """Three shots of each photograph."""
    for name in PHOTOGRAPHS:
        picture = Image.open(Path(skimage.data.__file__).parent / name).convert("RGB")
        directory = root / "things/2.support-set" / Path(name).stem
        directory.mkdir(parents=True, exist_ok=True)
        for number in range(3):
            width, height = picture.width * 8 // 10, picture.height * 8 // 10
            left, top = picture.width * number // 10, picture.height * number // 10
            picture.crop((left, top, left + width, top + height)).save(directory / f"shot{number + 1}.png")


def main() -> None:
    """Print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--every", type=int, default=5)
    arguments = parser.parse_args()
    own = psutil.Process()
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory, "store"), create=True) as store:
        save_shots(Path(directory, "data"))
        for _ in IndexRun(store, Path(directory, "data"), IndexOptions(backbones=("lite0",), device="cpu")):
            pass
        save_video(Path(directory, "video.mp4"), arguments.minutes)
        memory: list[int] = []

        def note() -> bool:
            if run.seen.frames % 250 == 0:
                memory.append(own.memory_info().rss >> 20)
            return False

        options = WatchOptions(every=arguments.every)
        run = WatchRun(store, f"{directory}/video.mp4", QueryOptions(top_k=1, device="cpu"), options, should_stop=note)
        started = time.perf_counter()
        tracks = list(run)
        taken = time.perf_counter() - started
    print(machine())
    print(
        f"{run.seen.frames} frames, {run.looked_at} looked at, {len(tracks)} tracks, in {taken:.1f} s: "
        f"{run.seen.frames / RATE / taken:.2f} times as fast as it plays; "
        f"memory {max(memory[: len(memory) // 5])} MiB after a fifth, at most {max(memory)}"
    )


if __name__ == "__main__":
    main()
