"""`nearshot mirror` where there is no Milvus."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nearshot import open as open_index
from nearshot.indexer.options import IndexOptions
from nearshot.schema.errors import UnreachableError
from nearshot.schema.mirrors import MirrorRow, record_mirror
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from tests.conftest import Outcome, run_index

CLI = Path(__file__).parents[2] / "cli.py"
CAT = "things/6.preprocessed/cat/a.png"
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


def test_status_tells_of_mirrors_and_how_far_they_are_behind(
    store: Store, small: Path, nearshot: Callable[..., Outcome]
) -> None:
    run_index(store, small)
    with store.reading() as catalog:
        revision, [row] = catalog.revision(), catalog.backbones()
    with store.writing() as editor:
        record_mirror(editor, MirrorRow("milvus://here:19530", row.id, Role.SUPPORT, "name", 1, revision, 4, 6))
        record_mirror(editor, MirrorRow("milvus://here:19530", row.id, Role.QUERY, "other", 0, 0, 0, 0, 2, revision))
        editor.relabel_images({1: "another"})
    printed = nearshot("status", "--store", store.location).stdout
    assert "hog: mirror of 4 support images in milvus://here:19530, as recorded; images changed since: 1" in printed
    assert "hog: mirror of 0 query images in milvus://here:19530, as recorded; not finished" in printed


@pytest.mark.parametrize(
    "words", [("query", CAT), ("search", "cat", "--mode", "image"), ("serve", "--port", "0")], ids=" ".join
)
def test_whoever_is_told_of_a_mirror_asks_it(
    store: Store, small: Path, weights: Path, nearshot: Callable[..., Outcome], words: tuple[str, ...]
) -> None:
    """Answers by a mirror are those of the store: that it is asked at all shows where there is none."""
    run_index(store, small, IndexOptions(backbones=("clip",), weights=weights, device="cpu"))
    command = [small / word if word == CAT else word for word in words]
    options = ("--store", store.location, "--weights", weights, "--device", "cpu")
    failed = nearshot(*command, *options, "--mirror", NOWHERE)
    assert failed.status == 1
    assert "is Milvus running, and is the address right?" in failed.stderr
    with pytest.raises(UnreachableError), open_index(store.location, mirror=NOWHERE, weights=weights) as index:
        index.query(small / CAT)
