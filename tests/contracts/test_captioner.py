"""The contract that every captioner keeps: `nearshot.backbones.captioner.Captioner`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearshot.backbones.captioner import Captioner
from nearshot.backbones.loading import load_captioner
from nearshot.schema.vocabulary import CaptionTask, Precision
from tests.photographs import NAMES, photograph

PICTURES = [Image.open(photograph(name)).convert("RGB") for name in NAMES]


def load(weights: Path, precision: Precision = Precision.FP32) -> Captioner:
    return load_captioner(weights, device="cpu", precision=precision)


@pytest.fixture(scope="module")
def captioner(florence2: Path) -> Captioner:
    return load(florence2)


def test_it_says_who_it_is(captioner: Captioner, florence2: Path) -> None:
    assert len(bytes.fromhex(captioner.fingerprint)) == 32
    assert captioner.batch_size >= 1
    assert load(florence2).fingerprint == captioner.fingerprint
    assert load(florence2, Precision.BF16).fingerprint != captioner.fingerprint


@pytest.mark.parametrize("task", CaptionTask)
def test_a_caption_depends_on_its_picture_alone(captioner: Captioner, task: CaptionTask) -> None:
    prepared = [captioner.prepare(picture) for picture in PICTURES[:4]]
    together = captioner.caption(prepared, task)
    assert together == [captioner.caption([pixels], task)[0] for pixels in prepared]
    assert together == captioner.caption(prepared, task)


def test_captions_depend_on_the_picture_and_are_one_line_of_plain_words(captioner: Captioner) -> None:
    prepared = [captioner.prepare(picture) for picture in PICTURES]
    captions = captioner.caption(prepared, CaptionTask.CAPTION)
    assert len(set(captions)) > len(NAMES) // 2
    for task in CaptionTask:
        for caption in captioner.caption(prepared[:4], task):
            assert not any(token in caption for token in ("<pad>", "<s>", "</s>", "<loc_", "<poly>", "\n"))


def test_it_prepares_on_many_threads_and_leaves_the_picture_alone(captioner: Captioner) -> None:
    before = PICTURES[0].tobytes()
    expected = [captioner.prepare(picture) for picture in PICTURES[:4]]
    with ThreadPoolExecutor(4) as pool:
        for prepared, pixels in zip(pool.map(captioner.prepare, PICTURES[:4] * 4), expected * 4, strict=True):
            np.testing.assert_array_equal(prepared, pixels)
    assert PICTURES[0].tobytes() == before
