"""Decoding: one upright RGB picture from every format, and a reason for everything else."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from nearshot.backbones.decode import decode
from nearshot.schema.errors import ImageError
from tests.photographs import NAMES, photograph


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    picture = decode(data).picture
    assert picture.mode == "RGB"
    return np.asarray(picture)


COFFEE = Image.open(photograph("coffee")).convert("RGB").resize((90, 60))


@pytest.mark.parametrize("name", NAMES)
def test_every_photograph_becomes_rgb_at_its_own_size(name: str) -> None:
    with Image.open(photograph(name)) as image:
        size = image.size
    assert decode(photograph(name).read_bytes()).picture.size == size


def test_a_lossless_picture_comes_through_bit_for_bit() -> None:
    np.testing.assert_array_equal(pixels(encoded(COFFEE)), np.asarray(COFFEE))


@pytest.mark.parametrize(
    ("image_format", "tolerance"), [("JPEG", 12), ("WEBP", 12), ("AVIF", 12), ("HEIF", 12), ("BMP", 0), ("TIFF", 0)]
)
def test_each_format_gives_the_same_picture(image_format: str, tolerance: float) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    options = {} if tolerance == 0 else {"quality": 90}
    decoded = decode(encoded(COFFEE, image_format, **options))
    assert decoded.image_format in (image_format, "AVIF")
    assert np.abs(np.asarray(decoded.picture).astype(int) - np.asarray(COFFEE)).mean() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = COFFEE.transpose(turns[orientation]) if orientation in turns else COFFEE
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(encoded(stored, exif=exif)), np.asarray(COFFEE))


def test_transparency_is_laid_over_white_in_every_mode() -> None:
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    palette = clear.convert("RGB").convert("P")
    modes = [
        encoded(clear),
        encoded(Image.new("LA", (4, 4), (0, 0))),
        encoded(palette, transparency=palette.getpixel((0, 0))),
        encoded(Image.new("RGB", (4, 4), (200, 0, 0)), transparency=(200, 0, 0)),
        encoded(Image.new("L", (4, 4), 7), transparency=7),
    ]
    for data in modes:
        assert (pixels(data) == 255).all()
    half = pixels(encoded(Image.new("RGBA", (1, 1), (200, 0, 0, 128))))
    np.testing.assert_allclose(half[0, 0], [227, 127, 127], atol=1)


def test_grey_palette_and_cmyk_become_rgb() -> None:
    grey = pixels(encoded(COFFEE.convert("L")))
    assert (grey[..., 0] == grey[..., 2]).all()
    palette = COFFEE.quantize(64)
    np.testing.assert_array_equal(pixels(encoded(palette)), np.asarray(palette.convert("RGB")))
    cmyk = pixels(encoded(COFFEE.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(cmyk.astype(int) - np.asarray(COFFEE)).mean() < 8
    assert (pixels(encoded(Image.new("1", (3, 3), 1))) == 255).all()


def test_sixteen_bit_grey_keeps_its_whole_range() -> None:
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    for image_format in ("PNG", "TIFF"):
        grey = pixels(encoded(Image.fromarray(ramp), image_format))
        np.testing.assert_array_equal(grey[..., 0].ravel(), np.arange(256))


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (pixels(data) == (255, 0, 0)).all()


def png_bomb(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1 << 16))) + chunk(b"IEND", b"")


JPEG = photograph("rocket").read_bytes()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS is not read; convert it to PNG or JPEG"),
        (b"%PDF-1.7\n", "PDF is not read; convert it to PNG or JPEG"),
        (b"\xef\xbb\xbf <svg xmlns='http://www.w3.org/2000/svg'/>", "SVG is not read"),
        (encoded(COFFEE, "PCX"), "not an image in any known format"),
        (b"just words, whatever the name says", "not an image in any known format"),
        (JPEG[: len(JPEG) // 2], "cannot be decoded: .*truncated"),
        (encoded(COFFEE)[:-400], "cannot be decoded"),
        (png_bomb(30_000), "900,000,000|30000 x 30000 pixels are more than the cap .* max_pixels"),
        (encoded(Image.new("RGB", (1, 60))), "1 x 60 is too long a strip: more than 50 to 1"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "floating-point pixels have no defined range"),
        (encoded(Image.fromarray(np.full((2, 2), 70_000, np.int32)), "TIFF"), "beyond 16 bits"),
    ],
)
def test_what_cannot_be_decoded_is_an_image_error_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(data)


def test_the_pixel_cap_can_be_set() -> None:
    assert decode(encoded(COFFEE), max_pixels=90 * 60).picture.size == (90, 60)
    with pytest.raises(ImageError, match="cap of 5,399"):
        decode(encoded(COFFEE), max_pixels=90 * 60 - 1)


def test_no_other_program_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow has Ghostscript draw EPS: whoever may upload could have it run whatever it likes."""
    import subprocess

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(ImageError, match="EPS is not read"):
        decode(encoded(COFFEE, "EPS"))


def test_a_damaged_tiff_says_nothing_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(COFFEE, "TIFF", compression="tiff_lzw"))
    chance = np.random.default_rng(0)
    for _ in range(200):
        harmed = bytearray(data)
        for position in chance.integers(0, len(data), 4).tolist():
            harmed[position] = int(chance.integers(256))
        with suppress(ImageError):
            decode(bytes(harmed))
    assert capfd.readouterr().err == ""
