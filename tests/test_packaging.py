"""What is installed: the package `nearshot` alone, which gets on with others whose names its parts have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = (
    "backbones",
    "commands",
    "detectors",
    "evaluation",
    "indexer",
    "migrations",
    "retriever",
    "schema",
    "service",
    "vectors",
)
DATA = {
    "nearshot/py.typed",
    "nearshot/index.py",
    "nearshot/evaluation/report.html.j2",
    "nearshot/service/static/index.html",
}


def tracked() -> list[Path]:
    """What belongs to the repository, as a checkout has it: files and links."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(line) for line in listed.stdout.splitlines() if os.path.lexists(ROOT / line)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a wheel and an sdist, built from a copy of the checkout."""
    copy = tmp_path_factory.mktemp("source")
    for path in tracked():
        if path.parts[0] not in ("tests", "docs", "benchmarks"):
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, copy / path, follow_symlinks=False)
    script = "from setuptools import build_meta; print(build_meta.build_wheel('dist'), build_meta.build_sdist('dist'))"
    (copy / "dist").mkdir()
    subprocess.run([sys.executable, "-c", script], cwd=copy, check=True, capture_output=True)
    return copy / "dist"


def expected() -> set[str]:
    """Every module and data file of every part, by its place under `nearshot`."""
    kept = {path for path in tracked() if path.parts[0] in PARTS and path.suffix == ".py"}
    data = {path for path in tracked() if path.parent == Path("service/static") or path.suffix == ".j2"}
    own = {str(path) for path in tracked() if path.parts[0] == "nearshot" and not (ROOT / path).is_symlink()}
    return {f"nearshot/{path}" for path in kept | data} | own


def test_the_wheel_holds_nearshot_and_nothing_else(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    assert {name.split("/")[0] for name in names} == {"nearshot", "nearshot-0.1.0.dist-info"}
    assert {name for name in names if name.startswith("nearshot/")} == expected()
    assert expected() >= DATA


def test_the_sdist_holds_files_where_the_checkout_has_links(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        members = packed.getmembers()
    assert not [member.name for member in members if member.issym() or member.islnk()]
    names = {member.name.removeprefix("nearshot-0.1.0/") for member in members if member.isfile()}
    assert names >= expected()
    assert {name for name in names if name.startswith("nearshot/")} == expected()


def test_it_works_beside_the_well_known_package_schema(built: Path, tmp_path: Path) -> None:
    """In an environment of its own, with the rest taken from this one."""
    venv.create(tmp_path / "fresh", with_pip=False)
    python = tmp_path / "fresh/bin/python"
    [wheel] = built.glob("*.whl")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(install, check=True)
    [site] = (tmp_path / "fresh/lib").glob("python*/site-packages")
    import click

    (site / "rest.pth").write_text(str(Path(click.__file__).parents[1]))
    script = (
        "import schema, nearshot, nearshot.schema.errors, nearshot.service.settings, sys\n"
        "assert schema.Schema(int).validate(1) == 1\n"
        "assert not hasattr(schema, 'errors')\n"
        "print(nearshot.__file__)"
    )
    said = subprocess.run([python, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(said.stdout.strip()).is_relative_to(site)
    command = [str(tmp_path / "fresh/bin/nearshot"), "index", "nowhere"]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (refused.returncode, "nowhere is not a directory" in refused.stderr) == (2, True)
    data = tmp_path / "data/things/2.support-set/cat"
    data.mkdir(parents=True)
    from tests.conftest import save_crop

    save_crop(data / "shot1.png", "chelsea:0")
    for arguments in (["index", "data", "--backbone", "hog"], ["query", str(data / "shot1.png")]):
        done = subprocess.run(
            [str(tmp_path / "fresh/bin/nearshot"), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:2] == ["match", "cat"]


def test_every_part_is_a_directory_at_the_top_and_a_link_below_nearshot() -> None:
    links = {path.name: path.readlink() for path in (ROOT / "nearshot").iterdir() if path.is_symlink()}
    assert links == {part: Path("..") / part for part in PARTS}
    assert all((ROOT / part).is_dir() and not (ROOT / part).is_symlink() for part in PARTS)


def test_a_checkout_needs_no_installation_of_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("nearshot, version ")
