"""The backbone without weights."""

from __future__ import annotations

import numpy as np
from PIL import Image

from nearshot.backbones.hog import HogBackbone
from nearshot.backbones.spec import NAMED
from nearshot.vectors.normalise import normalise
from tests.photographs import NAMES, photograph

HOG = HogBackbone()


def embed(pictures: list[Image.Image]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return normalise(HOG.encode([HOG.prepare(picture) for picture in pictures]))


def test_its_vectors_have_the_dimension_that_it_declares() -> None:
    vectors = embed([Image.open(photograph("coffee")).convert("RGB")])
    assert vectors.shape == (1, HOG.description.dimension) == (1, NAMED["hog"].dimension)


def test_a_crop_is_nearer_to_its_own_photograph_than_to_any_other() -> None:
    pictures = [Image.open(photograph(name)).convert("RGB") for name in NAMES if name != "motorcycle_right.png"]
    crops = [picture.crop((9, 9, picture.width - 40, picture.height - 40)) for picture in pictures]
    cosines = embed(crops) @ embed(pictures).T
    assert cosines.argmax(axis=1).tolist() == list(range(len(pictures)))


def test_a_picture_without_any_edge_still_has_a_vector() -> None:
    assert np.isfinite(embed([Image.new("RGB", (9, 9), "white"), Image.new("RGB", (1, 1), "black")])).all()


def test_a_vector_does_not_depend_on_its_batch() -> None:
    pictures = [Image.open(photograph(name)).convert("RGB") for name in NAMES[:5]]
    np.testing.assert_array_equal(embed(pictures), np.concatenate([embed([picture]) for picture in pictures]))
