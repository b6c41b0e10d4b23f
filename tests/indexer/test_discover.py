"""Discovery: what lies in a data directory, by names and one `stat` per file."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from nearshot.indexer.discover import Discovery
from nearshot.indexer.walk import DANGLING_LINK, LINK_LOOP, LINK_OUTSIDE, NOT_A_FILE
from nearshot.schema.errors import UsageError
from nearshot.schema.vocabulary import Role


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data directory of empty files: discovery opens none of them."""
    for path in (
        *("mugs/2.support-set/red/shot1.png", "mugs/2.support-set/red/shot1.txt", "mugs/2.support-set/blue/shot1.jpg"),
        *("mugs/6.preprocessed/red/a.png", "mugs/6.preprocessed/b.png", "mugs/6.preprocessed/Unknown/c.png"),
        *("mugs/notes.md", "stray.png", "cats/2.support-set/shot1.png"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    return tmp_path


def test_roles_labels_and_shots_come_from_the_paths_in_the_order_of_names(root: Path) -> None:
    discovery = Discovery(root)
    assert discovery.categories == ["cats", "mugs"]
    assert [(image.path, image.role, image.label, image.shot) for image in discovery] == [
        ("cats/2.support-set/shot1.png", Role.SUPPORT, "cats", "shot1"),
        ("mugs/2.support-set/blue/shot1.jpg", Role.SUPPORT, "blue", "shot1"),
        ("mugs/2.support-set/red/shot1.png", Role.SUPPORT, "red", "shot1"),
        ("mugs/6.preprocessed/Unknown/c.png", Role.QUERY, "Unknown", None),
        ("mugs/6.preprocessed/b.png", Role.QUERY, None, None),
        ("mugs/6.preprocessed/red/a.png", Role.QUERY, "red", None),
    ]
    assert list(discovery.sidecars) == ["mugs/2.support-set/red/shot1.png"]
    assert sorted(breach.path for breach in discovery.breaches) == ["mugs/notes.md", "stray.png"]


def test_one_category_alone_is_walked_and_one_that_is_not_there_is_refused(root: Path) -> None:
    assert {image.category for image in Discovery(root, ["cats"])} == {"cats"}
    with pytest.raises(UsageError, match=r"no category 'dogs' in .*; there are cats, mugs"):
        Discovery(root, ["dogs"])
    with pytest.raises(UsageError, match="is a category, not the data directory; give"):
        Discovery(root / "mugs")
    with pytest.raises(UsageError, match="is not a directory"):
        Discovery(root / "stray.png")


def test_what_is_no_file_fails_with_its_reason_and_nothing_waits(root: Path) -> None:
    shots = root / "mugs/2.support-set/red"
    os.mkfifo(shots / "shot2.png")
    (shots / "shot3.png").symlink_to(root / "nothing")
    (root / "mugs/6.preprocessed/loop").symlink_to(root / "mugs/6.preprocessed")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(shots / "shot4.png"))
        reasons = {Path(image.path).name: image.failure for image in Discovery(root) if image.failure}
    assert reasons.pop("loop") == LINK_LOOP
    assert reasons == {"shot2.png": NOT_A_FILE, "shot3.png": DANGLING_LINK, "shot4.png": NOT_A_FILE}


def test_a_link_that_leads_out_of_the_data_directory_is_passed_over_unless_it_is_asked_for(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "secret.png").touch()
    (elsewhere / "more/2.support-set").mkdir(parents=True)
    (elsewhere / "more/2.support-set/shot1.png").touch()
    (root / "mugs/6.preprocessed/secret.png").symlink_to(elsewhere / "secret.png")
    (root / "mugs/6.preprocessed/others").symlink_to(elsewhere)
    (root / "mugs/6.preprocessed/own.png").symlink_to(root / "mugs/2.support-set/red/shot1.png")
    (root / "more").symlink_to(elsewhere / "more")
    discovery = Discovery(root)
    images = list(discovery)
    assert {Path(image.path).name for image in images if image.failure == LINK_OUTSIDE} == {
        "secret.png",
        "others",
    }
    assert [breach.path for breach in discovery.breaches if breach.rule == LINK_OUTSIDE] == ["more"]
    assert any(image.path.endswith("own.png") and not image.failure for image in images)
    followed = list(Discovery(root, follow_links=True))
    assert not [image for image in followed if image.failure]
    assert {image.path for image in followed} >= {
        "mugs/6.preprocessed/secret.png",
        "more/2.support-set/shot1.png",
    }
