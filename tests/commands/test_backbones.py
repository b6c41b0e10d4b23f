"""`nearshot backbones`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.conftest import Outcome

Run = Callable[..., Outcome]


def test_backbones_lists_where_weights_come_from_and_whether_they_are_here(nearshot: Run, weights: Path) -> None:
    rows = {row["name"]: row for row in nearshot("backbones", "--json").objects[0]}
    assert {name: row["available"] for name, row in rows.items()} == {
        "dinov2": False,
        "clip": False,
        "resnet50": False,
        "lite0": True,
        "hog": True,
        "florence2": False,
    }
    assert (rows["clip"]["dimension"], rows["clip"]["source"]) == (512, "open_clip:ViT-B-32-quickgelu/openai")
    here = {row["name"]: row for row in nearshot("backbones", "--json", "--weights", weights).objects[0]}
    assert here["dinov2"]["weights"] == str(weights / "dinov2")
    assert "missing" in nearshot("backbones").stdout


def test_pull_without_a_network_is_one_clear_line(nearshot: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("nearshot.backbones.weights.NETWORK_PATIENCE_S", 0.5)
    outcome = nearshot("backbones", "pull", "clip")
    assert outcome.status == 2
    [line] = outcome.stderr.splitlines()
    assert line == (
        "nearshot: clip: http://127.0.0.1:9 cannot be reached from here; "
        "copy the weights from another machine and give --weights DIR"
    )
    assert nearshot("backbones", "pull", "hog").stdout == "hog: needs no weights\n"


def test_verify_reads_weights_whole_and_forgets_what_the_cache_has_wrong(
    nearshot: Run, small: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NEARSHOT_RUNTIME", "auto")
    own = Path(shutil.copytree(weights / "dinov2", tmp_path / "own/dinov2")).parent
    command = ("index", small, "--backbone", "dinov2", "--backbone", "hog", "--no-captions", "--no-compile")
    assert nearshot(*command, "--weights", own).status == 0
    assert nearshot("backbones", "compile", "dinov2").status == 0
    checked = nearshot("backbones", "verify")
    assert (checked.status, sorted(checked.stdout.splitlines())) == (
        0,
        ["dinov2: as the store was indexed with it", "hog: as the store was indexed with it"],
    )
    [compiled] = (tmp_path / "cache/compiled").glob("*/*.onnx")
    data = bytearray(compiled.read_bytes())
    data[len(data) // 2] ^= 1
    compiled.write_bytes(data)
    broken = nearshot("backbones", "verify", "dinov2")
    assert (broken.status, "what was compiled of them was damaged, and is deleted" in broken.stdout) == (1, True)
    assert nearshot("backbones", "verify", "dinov2").status == 0
    [identity] = (tmp_path / "cache/identities").iterdir()
    identity.write_text("0" * 64)
    [told] = nearshot("backbones", "verify", "dinov2", "--json").objects
    assert told == {
        "name": "dinov2",
        "problems": ["the cache took these weights for others, and takes them so no longer"],
    }
    [file] = own.glob("dinov2/*.safetensors")
    state = file.stat()
    weights_now = load_file(file)
    changed = next(name for name in weights_now if name.endswith("layer_scale1.lambda1") or "weight" in name)
    weights_now[changed] = weights_now[changed] + 1
    save_file(weights_now, file, metadata={"format": "pt"})
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    other = nearshot("backbones", "verify", "dinov2")
    assert (other.status, "are not those that the store was indexed with" in other.stdout) == (1, True)
    assert nearshot("backbones", "verify", "nothing").status == 2
