"""Some of the runs of `tests.faults.runs` and `tests.faults.power`, which take all of them: `make soak`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.scenarios import SCENARIOS

EVERY = 53


@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_fails_or_dies_the_command_done_again_comes_to_the_same(name: str) -> None:
    command = [sys.executable, "-m", "tests.faults.runs", str(EVERY), name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every one was mended" in done.stdout


def test_whatever_fails_or_dies_a_copy_is_a_whole_store_or_none() -> None:
    command = [sys.executable, "-m", "tests.faults.copies", str(2 * EVERY)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every one was mended" in done.stdout


@pytest.mark.parametrize("name", ["label", "undo", "index what changed"])
def test_a_loss_of_power_undoes_nothing_that_was_said_to_be_done(name: str) -> None:
    command = [sys.executable, "-m", "tests.faults.power", name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every one was mended" in done.stdout
