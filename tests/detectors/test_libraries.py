"""Detectors from transformers give what the library's own post-processing gives, on tiny random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nearshot.detectors import florence2 as florence2_detector
from nearshot.detectors.florence2 import Florence2Detector
from nearshot.detectors.loading import load_detector, signature_of
from nearshot.detectors.protocol import Detector
from nearshot.detectors.selection import Selection, select
from nearshot.schema.errors import UsageError, WeightsError
from nearshot.schema.vocabulary import Precision
from tests.detectors.scenes import compose


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [compose(seed).picture for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests import tiny

    root = tmp_path_factory.mktemp("detectors")
    tiny.save_rt_detr(root / "rt-detr")
    tiny.save_grounding_dino(root / "grounding-dino")
    return root


@pytest.fixture
def detector(florence2: Path, monkeypatch: pytest.MonkeyPatch) -> Florence2Detector:
    monkeypatch.setattr(florence2_detector, "LENGTH", 60)  # random weights never come to an end by themselves
    loaded = load_detector("florence2", florence2, device="cpu")
    assert isinstance(loaded, Florence2Detector)
    return loaded


def test_rt_detr_gives_the_librarys_boxes(models: Path, pictures: list[Image.Image]) -> None:
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    directory = str(models / "rt-detr")
    processor: Any = AutoImageProcessor.from_pretrained(directory, backend="pil")
    model = AutoModelForObjectDetection.from_pretrained(directory).eval()
    with torch.inference_mode():
        outputs = model(**processor(images=pictures, return_tensors="pt"))
    sizes = [picture.size[::-1] for picture in pictures]
    expected = processor.post_process_object_detection(outputs, threshold=0.05, target_sizes=sizes)
    detector = load_detector(f"hf:{directory}", device="cpu")
    detected = detector.detect(pictures, [])
    for own, theirs in zip(detected, expected, strict=True):
        order = torch.argsort(-theirs["scores"], stable=True).tolist()
        np.testing.assert_array_equal([each.box for each in own], theirs["boxes"].numpy()[order])
        np.testing.assert_array_equal([np.float32(each.score or 0) for each in own], theirs["scores"].numpy()[order])
        assert [each.label for each in own] == [model.config.id2label[int(theirs["labels"][index])] for index in order]
    only_cups = detector.detect(pictures, ["Cup"])
    assert [len(each) for each in only_cups] == [sum(d.label == "cup" for d in each) for each in detected]
    with pytest.raises(UsageError, match="knows no 'mug'; it knows cat, cup, rocket"):
        detector.detect(pictures, ["mug"])
    with pytest.raises(UsageError, match="no masks"):
        detector.detect(pictures, [], masks=True)


def test_grounding_dino_gives_the_librarys_boxes_for_the_words(models: Path, pictures: list[Image.Image]) -> None:
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    directory = str(models / "grounding-dino")
    processor: Any = AutoProcessor.from_pretrained(directory, backend="pil")
    model = AutoModelForZeroShotObjectDetection.from_pretrained(directory).eval()
    words = ["a cat", "a red cup"]
    given = processor(images=pictures, text=[words] * 3, return_tensors="pt", padding=True)
    with torch.inference_mode():
        outputs = model(**given)
    sizes = [picture.size[::-1] for picture in pictures]
    expected = processor.post_process_grounded_object_detection(
        outputs, given["input_ids"], threshold=0.05, text_threshold=0.25, target_sizes=sizes
    )
    detector = load_detector(f"hf:{directory}", device="cpu")
    for own, theirs in zip(detector.detect(pictures, words), expected, strict=True):
        order = torch.argsort(-theirs["scores"], stable=True).tolist()
        np.testing.assert_array_equal([each.box for each in own], theirs["boxes"].numpy()[order])
        assert [each.label or "" for each in own] == [theirs["text_labels"][index] for index in order]
    with pytest.raises(UsageError, match="looks for what it is told"):
        detector.detect(pictures, [])


@pytest.mark.parametrize(
    ("words", "task"),
    [((), "<OD>"), (("a mug",), "<OPEN_VOCABULARY_DETECTION>"), (("a mug", "a cat"), "<CAPTION_TO_PHRASE_GROUNDING>")],
)
def test_florence2_gives_the_librarys_boxes(
    words: tuple[str, ...], task: str, detector: Florence2Detector, florence2: Path, pictures: list[Image.Image]
) -> None:
    from transformers import AutoProcessor, Florence2ForConditionalGeneration

    directory = str(florence2 / "florence2")
    processor: Any = AutoProcessor.from_pretrained(directory)
    model = Florence2ForConditionalGeneration.from_pretrained(directory).eval()
    prompt = task + (". ".join(words) if words else "")
    boxes = 0
    for picture, own in zip(pictures, detector.detect(pictures, words), strict=True):
        given = processor(text=prompt, images=picture, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(**given, max_new_tokens=60, do_sample=False)
        text = processor.batch_decode(ids, skip_special_tokens=False)[0]
        answer = processor.post_process_generation(text, task=task, image_size=picture.size)[task]
        assert [each.box for each in own if each.mask is None][: len(answer["bboxes"])] == [
            tuple(box) for box in answer["bboxes"]
        ]
        boxes += len(answer["bboxes"])
        for each in select(own, picture.size, Selection(min_size=1)):
            assert 0 <= each.box.left < each.box.right <= picture.width
            assert 0 <= each.box.top < each.box.bottom <= picture.height
    assert boxes, "the test shows nothing where the tiny model writes no box"


def test_florence2_gives_the_same_where_its_tokenizer_takes_locations_for_special(
    detector: Florence2Detector, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    from tests import tiny

    tiny.save_florence2(tmp_path / "florence2", special_locations=True)
    special = load_detector("florence2", tmp_path, device="cpu")
    for words in ((), ("a mug",)):
        for own, other in zip(detector.detect(pictures, words), special.detect(pictures, words), strict=True):
            assert [(each.box, each.label) for each in own] == [(each.box, each.label) for each in other]
            assert own


def test_florence2_outlines_what_it_is_told_to_look_for(
    detector: Florence2Detector, pictures: list[Image.Image]
) -> None:
    detected = detector.detect(pictures, ["a mug"], masks=True)
    selected = [
        each
        for picture, own in zip(pictures, detected, strict=True)
        for each in select(own, picture.size, Selection(min_size=1))
    ]
    assert selected
    for box, detection in selected:
        assert detection.label == "a mug"
        assert detection.mask is not None
        assert detection.mask.shape == (box.height, box.width)
        assert detection.mask.any()
    with pytest.raises(UsageError, match="told to look for"):
        detector.detect(pictures, [], masks=True)


def test_a_detector_has_one_fingerprint_and_other_weights_another(models: Path, tmp_path: Path) -> None:
    from tests import tiny

    def fingerprint(directory: Path) -> str:
        loaded: Detector = load_detector(f"hf:{directory}", device="cpu")
        return loaded.fingerprint

    assert fingerprint(models / "rt-detr") == fingerprint(models / "rt-detr")
    tiny.save_rt_detr(tmp_path / "other", classes=("cat", "cup"))
    assert fingerprint(tmp_path / "other") != fingerprint(models / "rt-detr")
    first, _ = signature_of(f"hf:{models / 'rt-detr'}", None, remembered=None, precision=Precision.FP32)
    (models / "rt-detr" / "config.json").touch()
    second, _ = signature_of(f"hf:{models / 'rt-detr'}", None, remembered=None, precision=Precision.FP32)
    assert first != second


def test_what_is_no_detector_is_refused_by_name(models: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are regions, florence2 and hf:"):
        load_detector("yolo")
    with pytest.raises(WeightsError, match="cannot be used"):
        load_detector(f"hf:{weights / 'dinov2'}", device="cpu")
    bare = tmp_path / "code"
    bare.mkdir()
    for file in (models / "rt-detr").iterdir():
        (bare / file.name).write_bytes(file.read_bytes())
    config = json.loads((bare / "config.json").read_text())
    config |= {
        "model_type": "mine",
        "auto_map": {"AutoModelForObjectDetection": "mine.Model", "AutoConfig": "mine.Config"},
    }
    (bare / "config.json").write_text(json.dumps(config))
    (bare / "mine.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(WeightsError, match="cannot be used"):
        load_detector(f"hf:{bare}", device="cpu")
