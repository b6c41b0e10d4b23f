"""The file of keys, and `nearshot keys`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nearshot.schema.errors import StoreError, UsageError
from nearshot.schema.store import Store
from nearshot.service.keys import (
    Access,
    KeyFile,
    StoredKeys,
    access_of,
    add_key,
    read_keys,
    revoke_key,
)
from tests.conftest import Outcome


def test_keys_that_are_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add_key(file, f"key{number}", [Access.READ]), range(8)))
    assert {key.name for key in read_keys(file)} == {f"key{number}" for number in range(8)}


def test_the_file_holds_no_secret_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    secret = add_key(file, "camera", [Access.READ])
    assert secret.split("_", 1)[1] not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert access_of(read_keys(file), secret) == {Access.READ}
    assert access_of(read_keys(file), secret + "x") == frozenset()
    with pytest.raises(UsageError, match="there is a key 'camera' already"):
        add_key(file, "camera", [Access.READ])
    with pytest.raises(UsageError, match="there is no key 'door'; there are camera"):
        revoke_key(file, "door")
    file.write_text(json.dumps({"camera": 1}))
    with pytest.raises(UsageError, match="is not a file of API keys"):
        KeyFile(file)


def test_keys_are_made_listed_and_revoked(nearshot: Callable[..., Outcome], tmp_path: Path) -> None:
    secret = nearshot("keys", "add", "camera", "--write", "--file", tmp_path / "k.json").stdout.strip()
    assert access_of(read_keys(tmp_path / "k.json"), secret) == set(Access)
    [listed] = nearshot("keys", "list", "--json", "--file", tmp_path / "k.json").objects
    assert (listed["name"], listed["scopes"]) == ("camera", ["read", "write"])
    assert nearshot("keys", "revoke", "camera", "--file", tmp_path / "k.json").stdout == "revoked camera\n"
    assert nearshot("keys", "list", "--file", tmp_path / "k.json").stdout == ""
    nearshot("keys", "--store", tmp_path, "add", "door")
    assert [key.name for key in read_keys(tmp_path / "keys.json")] == ["door"]
    missing = nearshot("keys", "list", "--file", tmp_path / "none.json")
    assert (missing.status, "make it with `nearshot keys add NAME`" in missing.stderr) == (2, True)


@pytest.mark.parametrize("store_kind", ["postgres"], indirect=True)
def test_a_store_in_postgresql_has_keys_of_its_own_which_all_services_follow(
    store: Store, nearshot: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--store", store.location)
    secret = nearshot("keys", "add", "camera", *where).stdout.strip()
    writing = nearshot("keys", "add", "desk", "--write", *where).stdout.strip()
    listed = nearshot("keys", "list", "--json", *where).objects
    assert [(key["name"], key["scopes"]) for key in listed] == [("camera", ["read"]), ("desk", ["read", "write"])]
    assert "there is a key 'desk' already" in nearshot("keys", "add", "desk", *where).stderr
    assert secret not in str(read_keys(store))
    services = [StoredKeys(store), StoredKeys(store)]
    assert [access_of(keys(), writing) for keys in services] == [set(Access), set(Access)]
    assert nearshot("keys", "revoke", "camera", *where).stdout == "revoked camera\n"
    wait_until(lambda: not any(access_of(keys(), secret) for keys in services))
    assert "there is no key 'camera'; there are desk" in nearshot("keys", "revoke", "camera", *where).stderr
    with monkeypatch.context() as patch:  # while the database is away
        patch.setattr("nearshot.service.keys.read_keys", lambda _: (_ for _ in ()).throw(StoreError("away")))
        time.sleep(1.2)
        assert access_of(services[0](), writing) == set(Access)
    for keys in services:
        keys.close()


def wait_until(holds: Callable[[], bool], seconds: float = 5) -> None:
    """Wait for something; AssertionError where it does not come."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_copy_of_a_store_says_that_it_has_no_keys(nearshot: Callable[..., Outcome], small: Path) -> None:
    nearshot("index", small, "--backbone", "hog", "--no-captions")
    assert "API keys" not in nearshot("copy", ".nearshot", "first").stdout
    nearshot("keys", "add", "camera")
    assert (
        "API keys are not copied: make them with `nearshot keys add NAME`"
        in nearshot("copy", ".nearshot", "other").stdout
    )
    assert not Path("other/keys.json").exists()
