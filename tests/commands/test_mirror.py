"""`nearshot mirror` where there is no Milvus."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from nearshot.schema.store import Store
from tests.conftest import run_index

CLI = Path(__file__).parents[2] / "cli.py"
NOWHERE = "milvus://me:secret@127.0.0.1:9"


def test_what_follows_goes_on_where_it_does_not_answer_and_says_so_once(store: Store, small: Path) -> None:
    run_index(store, small)
    command = [sys.executable, str(CLI), "mirror", NOWHERE, "--store", str(store.location)]
    once = subprocess.run(command, capture_output=True, text=True, check=False)
    assert once.returncode == 1
    assert once.stderr.startswith("nearshot: milvus://me@127.0.0.1:9: Fail connecting")
    assert "secret" not in once.stderr

    following = subprocess.Popen([*command, "--follow"], stderr=subprocess.PIPE, text=True, env=os.environ)
    assert following.stderr is not None
    assert following.stderr.readline().endswith("; trying again\n")
    with store.held("nearshot index"):
        try:
            following.wait(3)
        except subprocess.TimeoutExpired:
            following.send_signal(signal.SIGINT)
    rest = following.communicate(timeout=20)[1]
    assert following.returncode == 130
    assert "trying again" not in rest
