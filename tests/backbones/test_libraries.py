"""The three pretrained backbones against their own libraries: same weights, same preprocessing, same vector."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, Dinov2Model

from nearshot.backbones.protocol import Backbone
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.indexer.options import IndexOptions
from nearshot.schema.errors import WeightsError
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Precision, Role
from nearshot.vectors.normalise import normalise
from nearshot.vectors.segments import open_vectors
from tests import tiny
from tests.conftest import run_index
from tests.photographs import NAMES, photograph

PICTURES = [Image.open(photograph(name)).convert("RGB") for name in NAMES]
Reference = NDArray[np.float32]


def clip_reference(weights: Path) -> Reference:
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{weights / 'clip'}")
    model.eval()
    with torch.no_grad():
        return np.concatenate([model.encode_image(preprocess(picture)[None]).numpy() for picture in PICTURES])


def resnet50_reference(weights: Path) -> Reference:
    model = torchvision.models.resnet50()
    model.load_state_dict(load_file(weights / "resnet50/resnet50.safetensors"))
    model.fc = torch.nn.Identity()
    model.eval()
    preprocess = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    with torch.no_grad():
        return np.concatenate([model(preprocess(picture)[None]).numpy() for picture in PICTURES])


def dinov2_reference(weights: Path) -> Reference:
    model = Dinov2Model.from_pretrained(weights / "dinov2").eval()
    preprocess = AutoImageProcessor.from_pretrained(weights / "dinov2", backend="pil")
    with torch.no_grad():
        return np.concatenate(
            [model(**preprocess(images=picture, return_tensors="pt")).pooler_output.numpy() for picture in PICTURES]
        )


def load(name: str, weights: Path, precision: Precision | None = None) -> Backbone:
    return resolve(parse_spec(name), weights=weights, precision=precision).load("cpu")


def embed(backbone: Backbone) -> NDArray[np.float32]:
    return normalise(backbone.encode([backbone.prepare(picture) for picture in PICTURES]))


def cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    first, other = (normalise(vectors).astype(np.float64) for vectors in (left, right))
    return np.asarray((first * other).sum(axis=1))


@pytest.mark.parametrize(
    ("name", "reference"),
    [("clip", clip_reference), ("resnet50", resnet50_reference), ("dinov2", dinov2_reference)],
)
def test_the_vectors_in_the_store_are_the_librarys_own(
    name: str, reference: object, weights: Path, store: Store, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    for photo in NAMES:
        shot = root / "photos/2.support-set" / photo.split(".")[0] / f"shot1{Path(photo).suffix}"
        shot.parent.mkdir(parents=True)
        shutil.copy(photograph(photo), shot)
    run_index(store, root, IndexOptions(backbones=(name,), weights=weights, device="cpu"))
    with store.reading() as catalog:
        vectors = open_vectors(store, catalog, catalog.backbones()[0], Role.SUPPORT)
        shown = catalog.shown(vectors.ids().tolist())
    ids = sorted(
        shown,
        key=lambda image_id: NAMES.index(Path(shown[image_id].path).parent.name + Path(shown[image_id].path).suffix),
    )
    stored = vectors.vectors(np.array(ids, dtype=np.int64))
    assert len(ids) == len(NAMES) >= 12
    assert cosines(stored, reference(weights)).min() >= 0.99999  # type: ignore[operator]


@pytest.mark.parametrize("name", ["clip", "resnet50", "dinov2"])
def test_bf16_is_near_fp32_and_has_a_fingerprint_of_its_own(name: str, weights: Path) -> None:
    full, half = load(name, weights), load(name, weights, Precision.BF16)
    assert cosines(embed(full), embed(half)).min() > 0.999
    assert full.description.fingerprint != half.description.fingerprint
    assert full.description.fingerprint == load(name, weights).description.fingerprint


def test_other_weights_or_other_preprocessing_have_another_fingerprint(tmp_path: Path, weights: Path) -> None:
    tiny.save_dinov2(tmp_path / "other/dinov2", seed=4)
    shutil.copytree(weights / "dinov2", tmp_path / "resized/dinov2")
    config = tmp_path / "resized/dinov2/preprocessor_config.json"
    config.write_text(config.read_text().replace('"shortest_edge": 256', '"shortest_edge": 224'))
    prints = {
        load("dinov2", root).description.fingerprint for root in (weights, tmp_path / "other", tmp_path / "resized")
    }
    assert len(prints) == 3


def test_models_by_spec_load_from_their_own_directories(weights: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet18()
    (tmp_path / "resnet18-IMAGENET1K_V1").mkdir()
    torch.save(model.state_dict(), tmp_path / "resnet18-IMAGENET1K_V1/resnet18-f37072fd.pth")
    backbone = load("torchvision:resnet18/IMAGENET1K_V1", tmp_path)
    assert backbone.description.dimension == 512
    by_directory = load(f"hf:{weights / 'dinov2'}", tmp_path)
    np.testing.assert_array_equal(embed(by_directory), embed(load("dinov2", weights)))


def test_a_checkpoint_that_lacks_weights_is_refused_not_filled_at_random(tmp_path: Path, weights: Path) -> None:
    from safetensors.torch import save_file

    shutil.copytree(weights / "dinov2", tmp_path / "dinov2")
    state = load_file(tmp_path / "dinov2/model.safetensors")
    del state["encoder.layer.1.mlp.fc1.weight"]
    save_file(state, tmp_path / "dinov2/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="lacks 1 of the model's weights"):
        load("dinov2", tmp_path)


@pytest.mark.parametrize("name", ["clip", "resnet50", "dinov2"])
def test_torn_weights_are_one_clear_error(name: str, weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights / name, tmp_path / name)
    file = next((tmp_path / name).glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(
        WeightsError, match=f"{name}: the weights at .* cannot be used: .*backbones pull {name}"
    ) as caught:
        load(name, tmp_path)
    assert "\n" not in str(caught.value)


def test_two_names_of_the_same_model_are_one_backbone() -> None:
    assert parse_spec("torchvision:resnet50/IMAGENET1K_V1") == parse_spec("resnet50")
    assert parse_spec("hf:facebook/dinov2-base") == parse_spec("dinov2")


def test_helper_threads_leave_all_cores_to_whoever_encodes(weights: Path) -> None:
    """Torch takes the number of threads that a helper set for itself as the default of threads that ask later.

    In a process of its own, since how many threads there are is decided once.
    """
    script = f"""
import torch
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from PIL import Image
from tests.backbones.test_libraries import load

backbone = load("dinov2", Path({str(weights)!r}))
with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as other:
    prepared = pool.submit(backbone.prepare, Image.new("RGB", (300, 300))).result()
    print(pool.submit(torch.get_num_threads).result())
    print(other.submit(lambda: (backbone.encode([prepared]), torch.get_num_threads())).result()[1])
"""
    root = Path(__file__).parents[2]
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", str(min(2, os.cpu_count() or 1))]
