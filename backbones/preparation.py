"""Preparation that fails like decoding does: with the picture, not with the run."""

from __future__ import annotations

from PIL import Image

from nearshot.backbones.protocol import Backbone, Prepared
from nearshot.schema.errors import ImageError


def prepare_safely(backbone: Backbone, picture: Image.Image) -> Prepared:
    """Preprocess a picture; ImageError where the backbone's library cannot."""
    try:
        return backbone.prepare(picture)
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise ImageError(f"cannot be prepared for {backbone.description.name}: {error}") from error
