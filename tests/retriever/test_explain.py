"""Explanations: the peak lies on what is shared, shares sum to the cosine, places are those of the picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nearshot as door
from nearshot.backbones.loading import load_backbone
from nearshot.backbones.patches import seen_part
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.backbones.torch_backbone import TorchBackbone
from nearshot.retriever.explain import alike, load_explainer, peak, shares
from nearshot.schema.errors import UsageError, WeightsError
from tests.conftest import Outcome
from tests.detectors.scenes import paste_one


def load(name: str, weights: Path | None = None) -> TorchBackbone:
    choice = resolve(parse_spec(name), weights=weights)
    backbone = load_backbone(choice.spec, choice.location, device="cpu", precision=choice.precision)
    assert isinstance(backbone, TorchBackbone)
    return backbone


@pytest.fixture(scope="module")
def lite0() -> TorchBackbone:
    return load("lite0")


def test_the_peak_lies_on_the_pasted_object_in_most_scenes(lite0: TorchBackbone) -> None:
    """Of 30 scenes; docs/crops.md has the figure of 200. One part of a photograph on a texture, the photograph as the shot."""
    hits = 0
    for seed in range(30):
        scene, photograph = paste_one(seed)
        patches = lite0.patches([lite0.prepare(scene.picture), lite0.prepare(photograph)])
        assert patches is not None
        query, shot = patches
        x, y = peak(shares(query, shot), seen_part(lite0.prepare, scene.picture.size))
        [(left, top, right, bottom)] = scene.boxes
        hits += left <= x <= right and top <= y <= bottom
    assert hits >= 0.85 * 30


def test_shares_sum_to_the_cosine_of_the_means() -> None:
    chance = np.random.default_rng(0)
    query, shot = (chance.normal(size=(side, side, 16)).astype(np.float32) for side in (5, 7))
    means = [each.reshape(-1, 16).mean(axis=0) for each in (query, shot)]
    cosine = means[0] @ means[1] / np.linalg.norm(means[0]) / np.linalg.norm(means[1])
    assert shares(query, shot).sum() == pytest.approx(cosine, abs=1e-5)


def test_places_that_are_the_same_are_paired() -> None:
    chance = np.random.default_rng(1)
    query = chance.normal(size=(4, 4, 32)).astype(np.float32)
    shot = np.roll(query, 1, axis=1)
    pairs = alike(query, shot)
    assert len(pairs) == 5
    for first, second, cosine in pairs:
        assert divmod(second, 4) == (first // 4, (first % 4 + 1) % 4)
        assert cosine == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "share"), [("lite0", 224 / 256), ("clip", 1.0), ("resnet50", 224 / 256), ("dinov2", 224 / 256)]
)
def test_the_part_that_is_seen_is_told_by_each_backbones_own_preprocessing(
    name: str, share: float, weights: Path, lite0: TorchBackbone
) -> None:
    backbone = lite0 if name == "lite0" else load(name, weights)
    left, top, right, bottom = seen_part(backbone.prepare, (800, 600))
    side = 600 * share
    expected = (400 - side / 2, 300 - side / 2, 400 + side / 2, 300 + side / 2)
    assert (left, top, right, bottom) == pytest.approx(expected, abs=8)
    patches = backbone.patches([backbone.prepare(Image.new("RGB", (300, 200), "red"))])
    assert patches is not None
    assert patches.shape[0] == 1
    assert patches.shape[1] == patches.shape[2] >= 3


def test_from_python_and_the_command_line(small: Path, tmp_path: Path, nearshot: Callable[..., Outcome]) -> None:
    cat = small / "things/6.preprocessed/cat/a.png"
    with door.open(tmp_path / ".nearshot", create=True) as index:
        index.add(small, backbones=["lite0", "hog"])
        explanation = index.explain(cat, backbone="lite0")
        assert explanation.answer.nearest == "cat"
        assert explanation.query_heat.max() == pytest.approx(1)
        assert explanation.picture.width > explanation.picture.height
        assert explanation._repr_png_().startswith(b"\x89PNG")
        with pytest.raises(UsageError, match="hog has no patches"):
            index.explain(cat, backbone="hog")
        with index._store.reading() as catalog:
            [row] = [each for each in catalog.backbones() if each.name == "lite0"]
        with pytest.raises(WeightsError, match="indexed with other weights"):
            load_explainer(row._replace(fingerprint="0" * 64), weights=None, device="cpu")
        part = index.explain(cat, backbone="lite0", box=(2, 2, 40, 30))
        assert part.answer.box == (2, 2, 42, 32)
        assert 2 <= part.peak[0] <= 42
    outcome = nearshot("query", cat, "--backbone", "lite0", "--explain", "--output", tmp_path / "e.png")
    assert outcome.status == 0, outcome.stderr
    assert f"drawn in {tmp_path / 'e.png'}: most of the score comes from around" in outcome.stdout
    with Image.open(tmp_path / "e.png") as image:
        assert image.format == "PNG"
    [answer] = nearshot(
        "query", cat, "--backbone", "lite0", "--explain", "--output", tmp_path / "e.png", "--json"
    ).objects
    assert answer["explanation"]["peak"] == [round(each, 1) for each in explanation.peak]
    assert nearshot("query", cat, cat, "--explain").status == 2
