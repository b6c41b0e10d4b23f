"""Weights from strangers: what would run code is refused, without a question, and nothing of it runs."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nearshot.backbones.loading import load_captioner
from nearshot.backbones.no_code import NEVER_RUN, NOT_ONLY_TENSORS
from nearshot.backbones.protocol import TextEncoder
from nearshot.backbones.resolve import resolve
from nearshot.backbones.spec import parse_spec
from nearshot.schema.errors import WeightsError
from nearshot.schema.vocabulary import Precision

HOSTILE = """
from pathlib import Path
Path({trace!r}).write_text("run")
from transformers import PretrainedConfig, PreTrainedModel, BaseImageProcessor, PreTrainedTokenizerFast
class HostileConfig(PretrainedConfig): model_type = "hostile"
class HostileModel(PreTrainedModel): config_class = HostileConfig
class HostileProcessor(BaseImageProcessor): pass
class HostileTokenizer(PreTrainedTokenizerFast): pass
"""


@pytest.fixture(autouse=True)
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that hostile code would write; whoever is asked whether it may run says yes."""

    def say_yes(*_: object) -> str:
        asked.append("asked")
        return "yes"

    asked: list[str] = []
    monkeypatch.setattr("builtins.input", say_yes)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    yield tmp_path / "trace"
    assert not (tmp_path / "trace").exists(), "its code was run"
    assert asked == [], "somebody was asked"


def edit(file: Path, **changes: Any) -> None:
    known = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(known | changes))


def hostile(directory: Path, trace: Path) -> Path:
    (directory / "hostile.py").write_text(HOSTILE.format(trace=str(trace)))
    return directory


def unknown_model(directory: Path) -> None:
    code = {"AutoConfig": "hostile.HostileConfig", "AutoModel": "hostile.HostileModel"}
    edit(directory / "config.json", model_type="hostile", auto_map=code)


def processor_of_its_own(directory: Path) -> None:
    code = {"AutoImageProcessor": "hostile.HostileProcessor"}
    edit(directory / "preprocessor_config.json", image_processor_type="HostileProcessor", auto_map=code)


@pytest.mark.parametrize("harm", [unknown_model, processor_of_its_own])
def test_a_model_or_processor_with_code_of_its_own_is_refused(
    harm: Callable[[Path], None], weights: Path, tmp_path: Path, trace: Path
) -> None:
    shutil.copytree(weights / "dinov2", tmp_path / "dinov2")
    harm(hostile(tmp_path / "dinov2", trace))
    for name in ("dinov2", f"hf:{tmp_path / 'dinov2'}"):
        with pytest.raises(WeightsError) as refused:
            resolve(parse_spec(name), weights=tmp_path).load("cpu")
        assert "trust_remote_code" not in str(refused.value)
    if harm is unknown_model:
        assert NEVER_RUN in str(refused.value)


def test_what_transformers_knows_by_itself_is_loaded_without_the_code_beside_it(
    weights: Path, tmp_path: Path, trace: Path
) -> None:
    shutil.copytree(weights / "dinov2", tmp_path / "dinov2")
    edit(hostile(tmp_path / "dinov2", trace) / "config.json", auto_map={"AutoModel": "hostile.HostileModel"})
    loaded = resolve(parse_spec("dinov2"), weights=tmp_path).load("cpu")
    plain = resolve(parse_spec("dinov2"), weights=weights).load("cpu")
    assert loaded.description == plain.description


def test_a_captioner_with_code_of_its_own_is_refused(florence2: Path, tmp_path: Path, trace: Path) -> None:
    shutil.copytree(florence2 / "florence2", tmp_path / "florence2")
    directory = hostile(tmp_path / "florence2", trace)
    for file in ("processor_config.json", "tokenizer_config.json"):
        edit(
            directory / file,
            processor_class="HostileProcessor",
            tokenizer_class="HostileTokenizer",
            auto_map={"AutoProcessor": "hostile.HostileProcessor", "AutoTokenizer": ["hostile.HostileTokenizer", None]},
        )
    with pytest.raises(WeightsError) as refused:
        load_captioner(tmp_path, device="cpu", precision=Precision.FP32)
    assert "trust_remote_code" not in str(refused.value)


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("text_cfg", {"hf_model_name": "{evil}"}, "which open_clip does not know"),
        ("vision_cfg", {"timm_model_name": "local-dir:{evil}"}, "loaded from elsewhere"),
        ("text_cfg", {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}, "trust_remote_code"),
    ],
)
def test_an_open_clip_configuration_has_nothing_else_loaded(
    section: str, changes: dict[str, Any], message: str, weights: Path, tmp_path: Path, trace: Path
) -> None:
    shutil.copytree(weights / "dinov2", tmp_path / "evil")
    unknown_model(hostile(tmp_path / "evil", trace))
    shutil.copytree(weights / "clip", tmp_path / "clip")
    config = tmp_path / "clip/open_clip_config.json"
    parsed = json.loads(config.read_text())
    parsed["model_cfg"][section] |= json.loads(json.dumps(changes).replace("{evil}", str(tmp_path / "evil")))
    config.write_text(json.dumps(parsed))
    with pytest.raises(WeightsError, match=message):
        resolve(parse_spec("clip"), weights=tmp_path).load("cpu")


def test_a_tokenizer_with_code_of_its_own_is_refused_when_words_come(
    weights: Path, tmp_path: Path, trace: Path
) -> None:
    shutil.copytree(weights / "clip", tmp_path / "clip")
    directory = hostile(tmp_path / "clip", trace)
    config = json.loads((directory / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "bert-base-uncased"
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    code = {"AutoTokenizer": ["hostile.HostileTokenizer", "hostile.HostileTokenizer"]}
    edit(directory / "tokenizer_config.json", tokenizer_class="HostileTokenizer", auto_map=code)
    clip = resolve(parse_spec("clip"), weights=tmp_path).load("cpu")
    assert isinstance(clip, TextEncoder)
    with pytest.raises(WeightsError) as refused:
        clip.encode_text(["a cat"])
    assert "trust_remote_code" not in str(refused.value)


class Runs:
    """An object whose unpickling writes a file."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.write_text, (self._trace, "run")


def test_a_pickle_that_holds_more_than_tensors_is_refused_without_torchs_advice(tmp_path: Path, trace: Path) -> None:
    for number, protocol in enumerate((2, pickle.HIGHEST_PROTOCOL)):
        directory = tmp_path / f"{number}/resnet50"
        directory.mkdir(parents=True)
        torch.save(
            {"conv1.weight": torch.zeros(1), "x": Runs(trace)}, directory / "resnet50.pth", pickle_protocol=protocol
        )
        with pytest.raises(WeightsError, match=NOT_ONLY_TENSORS) as refused:
            resolve(parse_spec("resnet50"), weights=tmp_path / str(number)).load("cpu")
        assert "weights_only" not in str(refused.value)
