"""A picture in a terminal: two pixels a character, in 24-bit colour."""

from __future__ import annotations

from PIL import Image


def drawn(image: Image.Image, columns: int, lines: int) -> str:
    """The picture in at most so many columns and lines: of two pixels the upper one is the colour of a half block."""
    small = image.convert("RGB")
    small.thumbnail((columns, 2 * lines))
    pixels = small.load()
    assert pixels is not None
    rows = []
    for y in range(0, small.height, 2):
        cells = []
        for x in range(small.width):
            above, below = pixels[x, y], pixels[x, min(y + 1, small.height - 1)]
            cells.append(f"\x1b[38;2;{_code(above)};48;2;{_code(below)}m\N{UPPER HALF BLOCK}")
        rows.append("".join(cells) + "\x1b[0m")
    return "\n".join(rows)


def _code(pixel: float | tuple[int, ...]) -> str:
    assert isinstance(pixel, tuple)
    return ";".join(map(str, pixel))
