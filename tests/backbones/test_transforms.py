"""Transforms whose last steps are looked up: to the bit what the library computes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import timm.data
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image
from torchvision import transforms
from transformers import CLIPImageProcessorPil

from nearshot.backbones.pillow_pixels import PillowPixels
from nearshot.backbones.transforms import preparation_of, preparation_of_processor

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TRANSFORMS = {
    "timm": timm.data.create_transform((3, 224, 224), is_training=False, mean=MEAN, std=STD),
    "open_clip": image_transform(224, is_train=False, mean=MEAN, std=STD),
    "torchvision": transforms.Compose([transforms.Resize(32), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]),
    "torchvision preset": transforms._presets.ImageClassification(crop_size=24, resize_size=32),
    "not normalised": transforms.Compose([transforms.Resize(32), transforms.ToTensor()]),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_level_of_every_channel_is_what_the_library_makes_of_it(name: str) -> None:
    transform, preparation = TRANSFORMS[name], pickle.loads(pickle.dumps(preparation_of(TRANSFORMS[name])))
    levels = np.arange(256 * 256, dtype=np.uint8).reshape(256, 256)
    pictures = [
        Image.fromarray(np.stack([levels, levels[::-1], levels.T], axis=2)),
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 97, 3), dtype=np.uint8)),
    ]
    for picture in pictures:
        values = preparation.values(preparation(picture))
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, transform(picture).numpy())
    assert (preparation.table is None) == (name == "not normalised")
    resized_and_cut = name in ("timm", "open_clip", "torchvision preset")
    assert isinstance(preparation.steps, PillowPixels) == resized_and_cut


PROCESSORS: dict[str, dict[str, Any]] = {
    "shortest edge": {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
    "odd": {"size": {"shortest_edge": 41}, "crop_size": {"height": 32, "width": 31}},
    "squashed": {"size": {"height": 32, "width": 32}, "do_center_crop": False},
    "padded": {"size": {"shortest_edge": 24}, "crop_size": {"height": 32, "width": 32}},
    "levels as they are": {"size": {"shortest_edge": 40}, "do_center_crop": False, "do_normalize": False},
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_processor_of_transformers_is_matched_to_the_bit(name: str) -> None:
    processor = CLIPImageProcessorPil(**PROCESSORS[name])
    preparation = pickle.loads(pickle.dumps(preparation_of_processor(processor, "np")))
    chance = np.random.default_rng(2)
    for width, height in ((61, 97), (200, 33), (40, 40)):
        picture = Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8))
        expected = processor(images=picture, return_tensors="np")["pixel_values"][0]
        np.testing.assert_array_equal(preparation.values(preparation(picture)), expected)
    assert preparation.table is not None
    assert isinstance(preparation.steps, PillowPixels) == (name in ("shortest edge", "odd"))


@settings(max_examples=40, deadline=None)
@given(
    short=st.integers(8, 40),
    cut=st.integers(0, 7),
    sides=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=4, max_size=8),
)
def test_whatever_the_sizes_pillow_alone_gives_the_bits_of_both_libraries(
    short: int, cut: int, sides: list[tuple[int, int]]
) -> None:
    """They round half a pixel differently where the centre lies between two."""
    side = short - cut
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": short}, crop_size={"height": side, "width": side}, image_mean=MEAN, image_std=STD
    )
    steps = [transforms.Resize(short, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(side)]
    transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    ours = [preparation_of_processor(processor, "np"), preparation_of(transform)]
    assert all(isinstance(each.steps, PillowPixels) for each in ours)
    for width, height in sides:
        picture = Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))
        theirs = [processor(images=picture, return_tensors="np")["pixel_values"][0], transform(picture).numpy()]
        for preparation, expected in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(preparation.values(preparation(picture)), expected)


def test_a_processor_that_fails_when_it_is_tried_is_taken_as_it_is() -> None:
    def processor(images: Image.Image, return_tensors: str, **turned_off: bool) -> dict[str, object]:
        if turned_off:
            raise RuntimeError("no such steps")
        return {"pixel_values": [np.asarray(images, dtype=np.float32).transpose(2, 0, 1)]}

    preparation = preparation_of_processor(processor, "np")
    picture = Image.new("RGB", (5, 4), "red")
    assert preparation.table is None
    assert preparation(picture).shape == (3, 4, 5)
