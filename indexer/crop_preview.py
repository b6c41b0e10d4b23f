"""Previews: contact sheets of raw pictures with the boxes that become crops drawn into them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from nearshot.detectors.selection import Selected
from nearshot.schema.disk import make_directories, written_whole

CELL, CAPTION, COLUMNS, ROWS = 320, 18, 4, 4
COLOUR = "#e6007a"


class Preview:
    """Contact sheets of 16 pictures, written as `preview-1.jpg`, `preview-2.jpg`, ... into a directory. OSError."""

    def __init__(self, directory: Path) -> None:
        make_directories(directory)
        self.paths: list[str] = []
        self._directory = directory
        self._sheet = _blank()
        self._drawn = 0

    def add(self, path: str, picture: Image.Image, selected: Sequence[Selected]) -> None:
        """Draw a picture, called by its path, with its boxes."""
        column, row = self._drawn % COLUMNS, self._drawn // COLUMNS
        self._sheet.paste(_cell(path, picture, selected), (column * CELL, row * (CELL + CAPTION)))
        self._drawn += 1
        if self._drawn == COLUMNS * ROWS:
            self.close()

    def close(self) -> None:
        """Write the sheet that is begun, if one is."""
        if not self._drawn:
            return
        path = self._directory / f"preview-{len(self.paths) + 1}.jpg"
        rows = -(-self._drawn // COLUMNS)
        with written_whole(path) as aside:
            self._sheet.crop((0, 0, self._sheet.width, rows * (CELL + CAPTION))).save(aside, "JPEG", quality=85)
        self.paths.append(str(path))
        self._sheet, self._drawn = _blank(), 0


def _blank() -> Image.Image:
    return Image.new("RGB", (COLUMNS * CELL, ROWS * (CELL + CAPTION)), "white")


def _cell(path: str, picture: Image.Image, selected: Sequence[Selected]) -> Image.Image:
    small = ImageOps.contain(picture, (CELL - 8, CELL - 8))
    scale = small.width / picture.width
    draw = ImageDraw.Draw(small)
    for number, (box, detection) in enumerate(selected, start=1):
        draw.rectangle([round(side * scale) for side in box], outline=COLOUR, width=2)
        score = "" if detection.score is None else f" {detection.score:.2f}"
        text = f"{number} {detection.label or ''}{score}".replace("  ", " ")
        corner = (box.left * scale + 3, box.top * scale + 2)
        draw.rectangle(draw.textbbox(corner, text), fill=COLOUR)
        draw.text(corner, text, fill="white")
    cell = Image.new("RGB", (CELL, CELL + CAPTION), "white")
    cell.paste(small, (4, 4 + (CELL - 8 - small.height) // 2))
    name = path if len(path) <= 50 else f"...{path[-47:]}"
    ImageDraw.Draw(cell).text((4, CELL), name.encode("latin-1", "replace").decode("latin-1"), fill="black")
    return cell
