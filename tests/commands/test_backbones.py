"""`nearshot backbones`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
