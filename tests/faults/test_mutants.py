"""Some of the mutants of `tests.faults.mutants`, which takes 20,000: `make soak`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_file_with_changed_bytes_is_decoded_or_refused_and_no_more() -> None:
    command = [sys.executable, "-m", "tests.faults.mutants", "4000"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout
    assert "4000 mutants" in done.stdout
