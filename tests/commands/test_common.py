"""What all commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nearshot.commands.common import near
from tests.conftest import Outcome

Run = Callable[..., Outcome]


def test_paths_are_shown_as_seen_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert near(str(tmp_path / "store/a.png")) == "store/a.png"
    assert near("/elsewhere/a.png") == "/elsewhere/a.png"
    monkeypatch.chdir(tmp_path.anchor)
    assert near(str(tmp_path)) == str(tmp_path), "a service has no working directory to speak of"
