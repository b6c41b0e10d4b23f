"""The contract that every backbone keeps: `nearshot.backbones.protocol.Backbone`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearshot.backbones.protocol import Backbone
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.vectors.normalise import normalise
from tests.photographs import photograph

NAMES = ("clip", "resnet50", "dinov2", "lite0", "hog")
PICTURES = [Image.open(photograph(name)).convert("RGB") for name in ("chelsea", "coffee", "rocket", "camera")]


def load(name: str, weights: Path) -> Backbone:
    return resolve(parse_spec(name), weights=weights).load("cpu")


@pytest.fixture(scope="module", params=NAMES)
def backbone(request: pytest.FixtureRequest, weights: Path) -> Backbone:
    return load(request.param, weights)


def test_it_says_who_it_is(backbone: Backbone, weights: Path) -> None:
    description = backbone.description
    assert description.name in NAMES
    assert len(bytes.fromhex(description.fingerprint)) == 32
    assert backbone.batch_size >= 1
    assert load(description.name, weights).description == description, "the same weights are the same backbone"


def test_vectors_are_float32_of_its_dimension_and_not_zero(backbone: Backbone) -> None:
    vectors = backbone.encode([backbone.prepare(picture) for picture in PICTURES])
    assert (vectors.dtype.name, vectors.shape) == ("float32", (len(PICTURES), backbone.description.dimension))
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors, axis=1).min() > 0


def test_a_vector_depends_on_its_picture_alone(backbone: Backbone) -> None:
    prepared = [backbone.prepare(picture) for picture in PICTURES]
    together = normalise(backbone.encode(prepared))
    alone = normalise(np.concatenate([backbone.encode([pixels]) for pixels in prepared]))
    backwards = normalise(backbone.encode(prepared[::-1]))[::-1]
    for other in (alone, backwards):
        assert (together * other).sum(axis=1).min() > 1 - 1e-6
    np.testing.assert_array_equal(together, normalise(backbone.encode(prepared)), "and the same twice")


def test_it_prepares_on_many_threads_and_leaves_the_picture_alone(backbone: Backbone) -> None:
    before = [picture.tobytes() for picture in PICTURES]
    expected = [backbone.prepare(picture) for picture in PICTURES]
    with ThreadPoolExecutor(4) as pool:
        for prepared, pixels in zip(pool.map(backbone.prepare, PICTURES * 4), expected * 4, strict=True):
            np.testing.assert_array_equal(prepared, pixels)
    assert [picture.tobytes() for picture in PICTURES] == before


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (8, 8)], ids=str)
def test_the_smallest_and_the_thinnest_picture_have_a_vector(backbone: Backbone, size: tuple[int, int]) -> None:
    vector = backbone.encode([backbone.prepare(PICTURES[0].resize(size))])
    assert np.isfinite(vector).all()


def test_it_keeps_nothing_of_what_it_was_given(backbone: Backbone) -> None:
    pixels = backbone.prepare(PICTURES[0])
    before = pixels.copy()
    vector = backbone.encode([pixels])
    np.testing.assert_array_equal(pixels, before)
    kept = vector.copy()
    backbone.encode([backbone.prepare(PICTURES[1])])
    np.testing.assert_array_equal(vector, kept)
