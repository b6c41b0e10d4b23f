"""The captioner, loaded by the real code from a tiny checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from nearshot.backbones.captioner import Captioner
from nearshot.backbones.decode import decode
from nearshot.backbones.florence2 import clean
from nearshot.backbones.loading import load_captioner
from nearshot.schema.errors import WeightsError
from nearshot.schema.vocabulary import CaptionTask, Precision
from tests.backbones.test_decode import encoded
from tests.photographs import photograph


@pytest.fixture(scope="module")
def captioner(florence2: Path) -> Captioner:
    return load_captioner(florence2, device="cpu", precision=Precision.FP32)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_pictures_of_every_mode_are_captioned(captioner: Captioner, mode: str) -> None:
    image = Image.open(photograph("coffee")).convert("RGB").convert(mode)
    picture = decode(encoded(image, "JPEG" if mode == "CMYK" else "PNG")).picture
    assert isinstance(captioner.caption([captioner.prepare(picture)], CaptionTask.CAPTION)[0], str)


@pytest.mark.parametrize(
    ("text", "task", "expected"),
    [
        ("a cat<pad><pad>", CaptionTask.CAPTION, "a cat"),
        ("<s>two\n cats </s>", CaptionTask.DETAILED, "two cats"),
        ("a cat<loc_1><loc_2><loc_3><loc_4>a cup<loc_5><loc_6>", CaptionTask.REGIONS, "a cat; a cup"),
        ("a cat<loc_1><loc_2>a cat<loc_3><loc_4>", CaptionTask.REGIONS, "a cat"),
        ("x < y and 3 > 2", CaptionTask.OCR, "x < y and 3 > 2"),
        ("<loc_9><loc_8>", CaptionTask.OCR, ""),
    ],
)
def test_what_is_stored_is_plain_words(text: str, task: CaptionTask, expected: str) -> None:
    assert clean(text, task) == expected


def test_missing_and_torn_weights_are_one_clear_line(florence2: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"florence2: the weights of .* `nearshot backbones pull florence2`"):
        load_captioner(None, device="cpu", precision=Precision.FP32)
    shutil.copytree(florence2 / "florence2", tmp_path / "florence2")
    file = tmp_path / "florence2/model.safetensors"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(WeightsError, match=r"florence2: the weights at .* cannot be used"):
        load_captioner(tmp_path, device="cpu", precision=Precision.FP32)
