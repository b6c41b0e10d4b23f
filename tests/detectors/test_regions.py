"""Regions: objects on textures are detected, nothing is where nothing is, masks lie on what stands out."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nearshot.detectors.protocol import enclosing
from nearshot.detectors.regions import Regions, salient_regions
from nearshot.schema.errors import UsageError
from tests.detectors.scenes import compose, iou


def test_nine_of_ten_objects_on_textures_are_detected_at_an_iou_of_one_half() -> None:
    """Of 40 scenes; docs/crops.md has the figures of more."""
    detected = objects = boxes = 0
    for seed in range(40):
        scene = compose(seed)
        regions = salient_regions(scene.picture)
        boxes += len(regions)
        objects += len(scene.boxes)
        detected += sum(any(iou(box, region.box) >= 0.5 for region in regions) for box in scene.boxes)
    assert detected >= 0.9 * objects
    assert detected >= 0.8 * boxes


@pytest.mark.parametrize("colour", ["white", "black", "#336699"])
def test_a_plain_picture_has_no_regions_and_one_with_a_disc_has_that(colour: str) -> None:
    from PIL import ImageDraw

    plain = Image.new("RGB", (500, 300), colour)
    assert salient_regions(plain) == []
    ImageDraw.Draw(plain).ellipse((200, 100, 299, 199), fill="#e07020")
    [region] = salient_regions(plain)
    assert iou(region.box, (200, 100, 300, 200)) > 0.7
    assert region.mask is not None
    box = enclosing(region.box, plain.size)
    assert box is not None
    assert region.mask.shape == (box.height, box.width)
    assert 0.6 < region.mask.mean() < 0.9  # a disc, not its box
    assert region.mask[box.height // 2, box.width // 2]
    assert not region.mask[0, 0]


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3), (9, 9)])
def test_tiny_pictures_are_looked_at_without_harm(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    for region in salient_regions(Image.fromarray(noise)):
        assert enclosing(region.box, size)


def test_regions_are_the_same_every_time_and_scores_are_shares() -> None:
    picture = compose(3).picture
    first, second = (salient_regions(picture) for _ in range(2))
    assert [region.box for region in first] == [region.box for region in second]
    assert all(0 < (region.score or 0) < 1 for region in first)
    scores = [region.score or 0 for region in first]
    assert scores == sorted(scores, reverse=True)


def test_it_cannot_look_for_words() -> None:
    with pytest.raises(UsageError, match="florence2"):
        Regions().detect([Image.new("RGB", (64, 64))], ["a mug"])
