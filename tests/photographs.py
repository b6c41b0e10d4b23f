"""Real photographs: those that scikit-image ships in its wheel."""

from __future__ import annotations

from pathlib import Path

import skimage.data

DIRECTORY = Path(skimage.data.__file__).parent

NAMES = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png", "coins.png", "grass.png"),
    *("gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "motorcycle_right.png"),
    *("page.png", "retina.jpg", "rocket.jpg", "text.png"),
)


def photograph(name: str) -> Path:
    """The path of a photograph, by its name without or with a suffix."""
    return next(DIRECTORY / full for full in NAMES if name in (full, full.split(".")[0]))
