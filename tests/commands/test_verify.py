"""`nearshot verify`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome

pytestmark = pytest.mark.both_stores

Run = Callable[..., Outcome]


@pytest.mark.of_segments
def test_verify_is_exit_0_when_all_is_well_and_1_when_not(nearshot: Run, indexed: Path) -> None:
    well = nearshot("verify")
    assert (well.status, well.stdout) == (0, "all is well: files, rows, vectors and segments agree\n")
    for path in Path(".nearshot/segments").iterdir():
        path.unlink()
    assert nearshot("verify").status == 1
    assert nearshot("verify", "--repair").status == 0
    assert nearshot("verify", "--json").objects == [{"ok": True, "findings": []}]
