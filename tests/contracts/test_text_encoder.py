"""The contract that every text encoder keeps: `nearshot.backbones.protocol.TextEncoder`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nearshot.backbones.protocol import TextEncoder
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.vectors.normalise import normalise

TEXTS = ["a red mug", "a cat, 红色的猫", "", "words " * 500]


@pytest.fixture(scope="module", params=["clip"])
def encoder(request: pytest.FixtureRequest, weights: Path) -> TextEncoder:
    backbone = resolve(parse_spec(request.param), weights=weights).load("cpu")
    assert isinstance(backbone, TextEncoder)
    return backbone


@pytest.mark.parametrize("name", ["resnet50", "dinov2", "lite0", "hog"])
def test_a_backbone_without_words_is_none(name: str, weights: Path) -> None:
    assert not isinstance(resolve(parse_spec(name), weights=weights).load("cpu"), TextEncoder)


def test_vectors_are_float32_beside_those_of_its_images(encoder: TextEncoder) -> None:
    vectors = encoder.encode_text(TEXTS)
    dimension = encoder.description.dimension  # type: ignore[attr-defined]
    assert (vectors.dtype.name, vectors.shape) == ("float32", (len(TEXTS), dimension))
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors, axis=1).min() > 0


def test_a_vector_depends_on_its_text_alone(encoder: TextEncoder) -> None:
    together = normalise(encoder.encode_text(TEXTS))
    alone = normalise(np.concatenate([encoder.encode_text([text]) for text in TEXTS]))
    assert (together * alone).sum(axis=1).min() > 1 - 1e-6
    assert not np.allclose(together[0], together[1])


def test_what_is_too_long_is_cut_off(encoder: TextEncoder) -> None:
    longer = encoder.encode_text(["words " * 500, "words " * 900])
    np.testing.assert_allclose(longer[0], longer[1], atol=1e-6)
