"""Transforms whose last steps are looked up: to the bit what the library computes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import timm.data
from open_clip.transform import image_transform
from PIL import Image
from torchvision import transforms

from nearshot.backbones.transforms import preparation_of

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
