"""Some of the flips of `tests.faults.flips`, which takes thousands: `make soak`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_flipped_bit_gives_the_right_answer_or_a_clear_error() -> None:
    command = [sys.executable, "-m", "tests.faults.flips", "80"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout
    assert "80 flips" in done.stdout
