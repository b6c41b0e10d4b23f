"""Mutants: images of every format with bytes changed, cut, repeated and swapped; each is decoded or refused, and no more.

    python -m tests.faults.mutants [HOW_MANY]

No process ends, none takes longer than two seconds over a file or more memory than the budget, and nothing is written to
standard error.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from nearshot.backbones.decode import decode
from nearshot.schema.errors import ImageError
from tests.photographs import photograph

SECONDS = 2.0
MAX_PIXELS = 4_000_000
MEBIBYTES = 256
"""More than 3 bytes a pixel of the cap and 64 MiB, beside which Python and its libraries grow a little."""

SEEDS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "PNG": [("RGB", {}), ("RGBA", {}), ("P", {}), ("L", {}), ("1", {}), ("I;16", {}), ("LA", {})],
    "JPEG": [("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True})],
    "WEBP": [("RGB", {}), ("RGBA", {"lossless": True})],
    "GIF": [("P", {}), ("L", {})],
    "BMP": [("RGB", {}), ("P", {})],
    "TIFF": [
        *(("RGB", {}), ("RGB", {"compression": "tiff_lzw"})),
        *(("L", {"compression": "tiff_adobe_deflate"}), ("1", {"compression": "group4"})),
    ],
    "JPEG2000": [("RGB", {})],
    "AVIF": [("RGB", {})],
    "HEIF": [("RGB", {})],
    "PPM": [("RGB", {}), ("L", {})],
    "TGA": [("RGBA", {})],
    "ICO": [("RGBA", {})],
}


def seeds() -> list[bytes]:
    """One small image of each format and mode."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    with Image.open(photograph("coffee")) as image:
        small = image.convert("RGB").resize((48, 40))
    files = []
    for image_format, kinds in SEEDS.items():
        for mode, options in kinds:
            stream = io.BytesIO()
            (small.convert("I").convert("I;16") if mode == "I;16" else small.convert(mode)).save(
                stream, image_format, **options
            )
            files.append(stream.getvalue())
    return files


def mutants(how_many: int) -> Iterator[bytes]:
    """Files made of the seeds, the same ones every time."""
    chance, files = random.Random(0), seeds()
    for number in range(how_many):
        data = bytearray(files[number % len(files)])
        for _ in range(chance.choice([1, 1, 2, 4, 16])):
            _change(data, chance)
        yield bytes(data)


def _change(data: bytearray, chance: random.Random) -> None:
    """Change something, half of the time in the head, where sizes and kinds stand."""
    position = chance.randrange(max(1, min(len(data), 64) if chance.random() < 0.5 else len(data)))
    size = chance.randrange(1, 40)
    match chance.randrange(6):
        case 0:
            data[position : position + 1] = chance.randbytes(1)
        case 1:
            data[position : position + 1] = bytes(
                byte ^ 1 << chance.randrange(8) for byte in data[position : position + 1]
            )
        case 2:
            del data[position : position + size]
        case 3:
            data[position:position] = data[position : position + size]
        case 4:
            data[position : position + 4] = chance.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4), b"\0\0\x80\0"])
        case _:
            del data[max(1, position) :]


def decode_all(how_many: int) -> None:
    """Decode the mutants in this process, and print what came of them; what it is at stands in a file meanwhile."""
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    decode(photograph("coffee").read_bytes(), max_pixels=MAX_PIXELS)
    before = _status("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")
    for number, data in enumerate(mutants(how_many)):
        print(f"at {number}", flush=True)
        started = time.perf_counter()
        try:
            decode(data, max_pixels=MAX_PIXELS)
            outcomes["decoded"] += 1
        except ImageError:
            outcomes["refused"] += 1
        slowest = max(slowest, time.perf_counter() - started)
    grown = (_status("VmHWM:") - before) >> 10
    print(f"{how_many} mutants: {dict(outcomes)}; slowest {slowest:.2f} s, {grown} MiB more at most")
    sys.exit(slowest > SECONDS or grown > MEBIBYTES)


def _status(name: str) -> int:
    return int(Path("/proc/self/status").read_text().split(name)[1].split()[0])


def main() -> None:
    """Decode in another process, and say how that went."""
    how_many = sys.argv[1] if len(sys.argv) > 1 else "20000"
    command = [sys.executable, "-m", "tests.faults.mutants", how_many, "here"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    last = done.stdout.splitlines()[-1] if done.stdout else "nothing"
    print(last)
    if done.stderr:
        print(f"on standard error: {done.stderr[:2000]}")
    sys.exit(done.returncode != 0 or bool(done.stderr))


if __name__ == "__main__":
    decode_all(int(sys.argv[1])) if sys.argv[2:] else main()
