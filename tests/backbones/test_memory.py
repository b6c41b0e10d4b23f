"""Memory: decoding takes no more than was foreseen from the header, and all threads together no more than their budget."""

from __future__ import annotations

import gc
import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nearshot.backbones.decode import REDUCED, WHOLE, cost, decode
from nearshot.backbones.limits import MAX_PIXELS, most_bytes
from nearshot.backbones.memory_budget import DECODING, MemoryBudget
from nearshot.schema.errors import ImageError
from tests.photographs import photograph

KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "grey GIF": ("L", "GIF", {}),
    "palette PNG": ("P", "PNG", {}),
    "palette PNG with transparency": ("P", "PNG", {"transparency": 3}),
    "grey PNG with alpha": ("LA", "PNG", {}),
    "RGB PNG": ("RGB", "PNG", {}),
    "RGBA PNG": ("RGBA", "PNG", {}),
    "16-bit PNG": ("I;16", "PNG", {}),
    "black and white TIFF": ("1", "TIFF", {}),
    "RGB TIFF": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    "JPEG": ("RGB", "JPEG", {}),
    "turned JPEG": ("RGB", "JPEG", {"turned": True}),
    "CMYK JPEG": ("CMYK", "JPEG", {}),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "WebP": ("RGB", "WEBP", {}),
    "AVIF": ("RGB", "AVIF", {"speed": 10}),
    "HEIF": ("RGB", "HEIF", {}),
    "JPEG 2000": ("RGB", "JPEG2000", {}),
    "BMP": ("RGB", "BMP", {}),
    "PPM": ("RGB", "PPM", {}),
    "TGA": ("RGB", "TGA", {}),
}
SMALL_BYTES = [kind for kind in KINDS if kind not in ("progressive JPEG", "WebP", "AVIF", "HEIF", "JPEG 2000")]
"""The kinds that take no more than 3 bytes a pixel and 64 MiB, as long as four a pixel are not more: up to 45 megapixels."""

MEASURE = """
import sys
from pathlib import Path
from typing import Any
from PIL import Image
import io
import nearshot.backbones.decode as d

def status(name):
    return int(Path("/proc/self/status").read_text().split(name)[1].split()[0]) << 10

d.decode(Path(sys.argv[1]).read_bytes())
data = Path(sys.argv[2]).read_bytes()
with Image.open(io.BytesIO(data)) as image:
    foreseen = d.cost(image, d.reduction(image.width * image.height))
before = status("VmRSS:")
Path("/proc/self/clear_refs").write_text("5")
picture = d.decode(data).picture
print(picture.width * picture.height, status("VmHWM:") - before, foreseen)
"""


def encoded_gradient(kind: str, side: int) -> bytes:
    mode, image_format, options = KINDS[kind]
    import pillow_heif

    pillow_heif.register_heif_opener()
    grey = Image.linear_gradient("L").resize((side, side))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    elif mode == "LA":
        image = Image.merge("LA", (grey, grey))
    else:
        image = grey.convert(mode)
    exif = Image.Exif()
    if options.get("turned"):
        exif[0x0112] = 6
    stream = io.BytesIO()
    chosen = {name: value for name, value in options.items() if name != "turned"}
    image.save(stream, image_format, **chosen, **({"exif": exif} if exif else {}))
    return stream.getvalue()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory can be measured on Linux alone")
@pytest.mark.parametrize("kind", KINDS)
def test_decoding_takes_what_was_foreseen_and_no_more(kind: str, tmp_path: Path) -> None:
    side = 5200
    (tmp_path / "small").write_bytes(photograph("coffee").read_bytes())
    (tmp_path / "large").write_bytes(encoded_gradient(kind, side))
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    pixels, peak, foreseen = map(int, done.stdout.split())
    slack = 8 << 20
    assert pixels <= (WHOLE if "JPEG" in kind else REDUCED)
    assert peak <= foreseen + slack
    if kind in SMALL_BYTES:
        assert peak <= 3 * side**2 + (64 << 20)
    assert foreseen <= most_bytes(MAX_PIXELS)


def test_what_would_take_too_much_is_refused_before_it_is_decoded() -> None:
    data = encoded_gradient("WebP", 2400)
    with pytest.raises(ImageError, match=r"2400 x 2400 pixels as WEBP take \d+ MiB to decode; raise max_pixels"):
        decode(data, max_pixels=2400 * 2400)


@pytest.mark.parametrize("name", ["coffee", "chelsea", "astronaut", "rocket"])
@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_a_reduced_picture_is_what_backbones_see_of_the_whole(name: str, image_format: str) -> None:
    """Deviation of what a backbone is given, 256 pixels by bicubic interpolation, in levels of 255."""
    with Image.open(photograph(name)) as image:
        whole = image.convert("RGB")
    side = 4200
    whole = whole.resize((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    whole.save(stream, image_format, **({"quality": 95} if image_format == "JPEG" else {}))
    assert side**2 > WHOLE
    with Image.open(io.BytesIO(stream.getvalue())) as image:
        truth = np.asarray(image.convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)).astype(int)
    seen = np.asarray(decode(stream.getvalue()).picture.resize((256, 256), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(truth - seen).max() <= 4
    assert np.abs(truth - seen).mean() <= 0.5


def test_a_picture_holds_its_share_until_nobody_has_it() -> None:
    gc.collect()
    before = DECODING.used
    picture = decode(photograph("coffee").read_bytes()).picture
    assert DECODING.used == before + 4 * picture.width * picture.height
    other = picture
    del picture
    assert DECODING.used > before
    del other
    assert DECODING.used == before


def test_a_large_picture_waits_for_its_share_and_is_not_overtaken() -> None:
    budget = MemoryBudget(100)
    order: list[str] = []

    def take(name: str, size: int) -> None:
        with budget.share(size):
            order.append(name)
            assert budget.used <= 100
            time.sleep(0.02)

    with ThreadPoolExecutor(3) as pool:
        with budget.share(60):
            large = pool.submit(take, "large", 90)
            while not budget.waiting:
                time.sleep(0.001)
            small = pool.submit(take, "small", 10)
            time.sleep(0.02)
            assert order == []
        large.result(), small.result()
    assert order == ["large", "small"]
    with pytest.raises(ImageError, match="and all together may take"), budget.share(101):
        pass
    assert budget.used == 0


def test_who_waits_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearshot.backbones.memory_budget.PATIENCE_S", 0.05)
    budget = MemoryBudget(100)
    with budget.share(60), pytest.raises(ImageError, match=r"became free within 0\.05 s"), budget.share(60):
        pass
    assert (budget.used, budget.waiting) == (0, 0)


def test_many_threads_never_pass_the_budget() -> None:
    budget, high = MemoryBudget(1000), 0
    lock = threading.Lock()

    def take(size: int) -> None:
        nonlocal high
        with budget.share(size):
            with lock:
                high = max(high, budget.used)
            time.sleep(0.0005)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(take, np.random.default_rng(0).integers(1, 900, 200).tolist()))
    assert high <= 1000
    assert budget.used == 0


def test_a_budget_that_a_service_fixed_is_not_raised_by_what_it_runs() -> None:
    budget = MemoryBudget(100)
    budget.allow(200)
    assert budget.total == 200
    budget.fix(50)
    budget.allow(1000)
    assert budget.total == 50


def test_a_tiff_whose_tiles_are_larger_than_the_image_is_foreseen() -> None:
    """libtiff holds a whole tile, however small the image is that is cut from it."""
    side = 20_000
    tile = zlib.compress(bytes(side * side), 1)
    entries = [
        *((256, 4, 16), (257, 4, 16), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)),
        *((322, 4, side), (323, 4, side), (324, 4, 8), (325, 4, len(tile))),
    ]
    head = b"II*\0" + struct.pack("<I", 8 + len(tile))
    fields = [struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries]
    directory = struct.pack("<H", len(entries)) + b"".join(fields)
    data = head + tile + directory + bytes(4)
    with Image.open(io.BytesIO(data)) as image:
        assert cost(image, 1) >= side * side
    with pytest.raises(ImageError, match="MiB to decode"):
        decode(data, max_pixels=1_000_000)
