"""Data in a store of objects: the same images, tables and answers as from a disk, by S3 and by Google Cloud Storage."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fsspec import AbstractFileSystem, filesystem
from PIL import Image
from sqlalchemy import select

import nearshot as door
from nearshot.indexer import load, run
from nearshot.indexer.additions import add_query, remove_query
from nearshot.indexer.discover import Discovery
from nearshot.indexer.feedback import add_shot, reject, undo
from nearshot.indexer.intents import finish_intents
from nearshot.indexer.listing import NO_PATH
from nearshot.indexer.load import Listed, Loader, Skipped
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.status import read_status
from nearshot.indexer.verify import verify
from nearshot.schema import objects, tables
from nearshot.schema.errors import AwayError, IndexingError, UsageError
from nearshot.schema.images import FileState
from nearshot.schema.intents import Planned, plan, planned
from nearshot.schema.paths import AnyPath, is_directory, is_there, path_of, read_file, write_file
from nearshot.schema.store import Store, utc_now
from nearshot.schema.vectors import vectors_of
from nearshot.schema.vocabulary import Action, Loading
from tests.conftest import HOG, SMALL, Outcome, counts, run_index
from tests.objects import BUCKET, Environment, put, serving_gs
from tests.test_readme import ROOT, session, tidy

NUMBERS = count()


@pytest.fixture(scope="module")
def gs() -> Iterator[Environment]:
    """The environment in which Google Cloud Storage is a server of this module's own."""
    with serving_gs() as environment:
        yield environment


@pytest.fixture
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A directory of objects that has none yet, in S3 unless a test wants another store."""
    scheme = getattr(request, "param", "s3")
    for name, value in request.getfixturevalue(scheme).items():
        monkeypatch.setenv(name, value)
    return f"{scheme}://{BUCKET}/{next(NUMBERS)}/data"


@pytest.fixture
def there(url: str, small: Path) -> AnyPath:
    """The small data set in a store of objects."""
    put(small, url)
    return path_of(url)


both = pytest.mark.parametrize("url", ["s3", "gs"], indirect=True)


def files_of(url: str) -> AbstractFileSystem:
    """Another way to a store of objects than the one that is tested."""
    return filesystem(url.partition(":")[0], use_listings_cache=False)


def described(store: Store) -> tuple[list[Any], dict[str, bytes]]:
    """What a store has of its images, but where and when their files were written, and the vector of each content."""
    columns = (tables.images.c.path, tables.images.c.category, tables.images.c.role, tables.images.c.label)
    more = (tables.images.c.shot, tables.images.c.size, tables.images.c.failure, tables.images.c.present)
    with store.reading() as catalog:
        rows = catalog.connection.execute(
            select(*columns, *more, tables.contents.c.sha256)
            .outerjoin(tables.contents, tables.contents.c.id == tables.images.c.content_id)
            .order_by(tables.images.c.path)
        ).all()
        [row] = catalog.backbones()
        contents = catalog.connection.execute(select(tables.contents.c.id, tables.contents.c.sha256)).all()
        vectors = vectors_of(catalog, row, [content.id for content in contents])
    return [tuple(each) for each in rows], {
        each.sha256: vectors[each.id].tobytes() for each in contents if each.id in vectors
    }


ODD = (
    *("mugs/2.support-set/red/shot1.png", "mugs/2.support-set/red/shot1.txt", "mugs/2.support-set/blue/shot1.jpg"),
    *("mugs/2.support-set/red-1/shot1/a.png", "mugs/2.support-set/red.1/shot1.png", "mugs/2.support-set/red/b.png"),
    *("mugs/6.preprocessed/red/a.png", "mugs/6.preprocessed/b.png", "mugs/6.preprocessed/Unknown/c.png"),
    *("mugs/6.preprocessed/b-1.png", "mugs/6.preprocessed/b/é ü%20#?+.png", "mugs/6.preprocessed/lost.txt"),
    *("mugs/6.preprocessed/dir.png/inside.png", "mugs/6.preprocessed/dir.png/two.png", "mugs/1.raw/film.mp4"),
    *("mugs/notes.md", "mugs/old/a.png", "mugs/old/b/c.png", "stray.png", "cats/2.support-set/shot1.png"),
    *("mugs/.hidden/x.png", ".git/config", "mugs/6.preprocessed/.DS_Store", "cats/2.support-set/Thumbs.db"),
    *("cats/2.support-set/Unknown/shot1.png", "cats/6.preprocessed/a.gif", "cats/6.preprocessed/film.mov"),
)


@both
def test_a_listing_comes_upon_what_a_walk_does_and_in_its_order(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PAGE", 4)
    for name in ODD:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(b"" if name.endswith("b-1.png") else name.encode())
    listed = "path,label\nb.png,red\nb/nothing.png,red\nb-1.png,green\n"
    (tmp_path / "data/mugs/6.preprocessed/labels.csv").write_text(listed)
    put(tmp_path / "data", url)
    discoveries = [Discovery(tmp_path / "data"), Discovery(path_of(url))]
    walked, listed_images = (
        [
            (each.path, each.category, each.role, each.label, each.shot, each.state.size, each.failure)
            for each in discovery
        ]
        for discovery in discoveries
    )
    assert listed_images == walked
    assert len(walked) > 10
    walk, listing = discoveries
    assert listing.categories == walk.categories
    assert sorted(map(repr, listing.breaches)) == sorted(map(repr, walk.breaches))
    assert {path: sidecar.path for path, sidecar in listing.sidecars.items()} == {
        path: sidecar.path for path, sidecar in walk.sidecars.items()
    }


def test_names_that_no_disk_has_are_outside_the_contract_and_directories_have_no_file(url: str, there: AnyPath) -> None:
    files = files_of(url)
    for name in ("things/6.preprocessed//a.png", "things/6.preprocessed/../a.png", "things/6.preprocessed/./a.png"):
        files.pipe_file(f"{url}/{name}", b"x")
    files.pipe_file(f"{url}/things/6.preprocessed/", b"")  # which consoles write to show a directory
    discovery = Discovery(there)
    assert len(list(discovery)) == len(SMALL)
    assert {breach.rule for breach in discovery.breaches} == {NO_PATH}
    assert len(discovery.breaches) == 3


@both
def test_tables_and_vectors_are_those_of_the_same_files_on_a_disk(
    url: str, there: AnyPath, small: Path, store: Store, tmp_path: Path
) -> None:
    (small / "things/2.support-set/cat/shot1.txt").write_text("a cat\n")
    (small / "things/6.preprocessed/broken.png").write_bytes(b"nothing")
    put(small, url)
    with Store(tmp_path / "plain", create=True) as plain:
        expected, report = run_index(plain, small), run_index(store, there)
        assert counts(report) == counts(expected) == {"added": len(SMALL), "failed": 1}
        assert report.captions_taken == expected.captions_taken == 1
        assert [each.reason for each in report.failures] == [each.reason for each in expected.failures]
        assert described(store) == described(plain)
    assert [finding.problem for finding in verify(store)] == []


@pytest.mark.parametrize("loading", [Loading.THREADS, Loading.PROCESSES])
def test_processes_and_threads_fetch_alike(there: AnyPath, store: Store, loading: Loading) -> None:
    options = IndexOptions(backbones=("hog",), workers=2, loading=loading)
    assert counts(run_index(store, there, options)) == {"added": len(SMALL)}


@both
def test_the_next_run_reads_what_changed_and_nothing_else(
    url: str, there: AnyPath, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, there)
    read: list[str] = []

    def reading(path: Any, **more: Any) -> bytes:
        read.append(str(path))
        return objects.read(path, **more)

    monkeypatch.setattr(load, "read_file", reading)
    assert counts(run_index(store, there)) == {"unchanged": len(SMALL)}
    assert read == []
    files, query = files_of(url), "things/6.preprocessed/cat/a.png"
    data = files.cat_file(f"{url}/{query}")
    files.pipe_file(f"{url}/{query}", data[:-1] + bytes([data[-1] ^ 1]))  # of the same size, within the same second
    files.pipe_file(
        f"{url}/things/2.support-set/coffee/shot3.png", files.cat_file(f"{url}/things/2.support-set/coffee/shot2.png")
    )
    files.rm_file(f"{url}/things/6.preprocessed/Unknown/b.png")
    report = run_index(store, there)
    assert (report.changed, report.added, report.removed, report.unchanged) == (1, 1, 1, len(SMALL) - 2)
    assert sorted(read) == [f"{url}/things/2.support-set/coffee/shot3.png", f"{url}/{query}"]


def test_what_cannot_be_listed_is_not_gone(there: AnyPath, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_index(store, there)
    before = described(store)

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("the network is away\nand more")

    assert not isinstance(there, Path)
    monkeypatch.setattr(there.fs, "call_s3", refuse)
    with pytest.raises(AwayError, match=r"s3://.*things cannot be reached: the network is away$"):
        run_index(store, there)
    monkeypatch.setattr(there.fs, "ls", refuse)
    with pytest.raises(AwayError, match=r"s3://.*data cannot be reached: the network is away$"):
        run_index(store, there)
    with pytest.raises(OSError, match="the network is away"):
        is_directory(there)
    assert described(store) == before
    [root] = read_status(store).roots
    assert (root.there, root.reason) == (None, "the network is away")
    [finding] = verify(store)
    assert (finding.subject, finding.problem) == (
        str(there),
        f"cannot be reached (the network is away), with {len(SMALL)} images",
    )


def test_labels_that_cannot_be_read_for_a_moment_are_not_taken_back(
    url: str, there: AnyPath, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    files_of(url).pipe_file(f"{url}/things/6.preprocessed/labels.csv", b"Unknown/b.png,cat\n")
    run_index(store, there)
    before = described(store)
    with monkeypatch.context() as patch:
        patch.setattr("nearshot.indexer.listing.read", lambda path: (_ for _ in ()).throw(AwayError(str(path), "away")))
        with pytest.raises(AwayError, match=r"labels\.csv cannot be reached: away"):
            run_index(store, there)
    assert described(store) == before


def test_a_store_that_falls_silent_ends_the_run_and_the_next_one_goes_on(
    there: AnyPath, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SILENT", 3)
    with monkeypatch.context() as patch:
        patch.setattr(load, "read_file", lambda path: (_ for _ in ()).throw(OSError(5, "no answer", str(path))))
        with pytest.raises(IndexingError, match=r"does not answer: \d files could not be read, one after the other"):
            run_index(store, there, IndexOptions(backbones=("hog",), batch_size=2))
    assert counts(run_index(store, there)) == {"added": len(SMALL)}


def test_what_vanished_grew_or_is_too_large_is_told(there: AnyPath, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(lambda name, picture: None, lambda sha256: [], 10**8)  # type: ignore[arg-type, return-value]
    query = f"{url}/things/6.preprocessed/cat/a.png"
    size = files_of(url).info(query)["size"]
    wanted = [
        Listed(f"{url}/gone.png", FileState(5, 0, 0)),
        Listed(query, FileState(size - 1, 0, 0)),
        Listed(query, FileState(2**40, 0, 0)),
        Listed(query, FileState(size, 7, 8)),
    ]
    gone, grown, large, whole = loader.load_all(wanted)
    assert [each.reason for each in (gone, grown, large) if isinstance(each, Skipped)] == [
        load.VANISHED,
        load.CHANGED_WHILE_READ,
        "1,099,511,627,776 bytes are more than the cap of 1,073,741,824",
    ]
    assert whole.state == (size, 7, 8)
    monkeypatch.setattr(load, "WAITING_BYTES", 0)
    assert loader.load_all(wanted) == [gone, grown, large, whole], "what is not fetched ahead is fetched all the same"


@both
def test_labels_negatives_and_what_is_added_are_written_there_and_taken_back(
    url: str, there: AnyPath, store: Store
) -> None:
    run_index(store, there)
    query = there / "things/6.preprocessed/Unknown/b.png"
    shot = add_shot(store, query, "stars")
    assert str(shot) == f"{url}/things/2.support-set/stars/shot1.png"
    assert read_file(shot) == read_file(query)
    assert counts(run_index(store, there)) == {"unchanged": len(SMALL) + 1}, "its state is what a listing tells"
    with pytest.raises(UsageError, match="was made a shot already"):
        add_shot(store, query, "stars")
    undo(store, query, Action.LABEL)
    assert not is_directory(there / "things/2.support-set/stars")
    assert reject(store, query) == "things"
    undo(store, query, Action.REJECT)
    added = add_query(store, png(), "things", HOG, ready={})
    assert added.is_new
    assert not add_query(store, png(), "things", HOG, ready={}).is_new
    removed = remove_query(store, added.image_id)
    assert removed.startswith(f"{url}/things/6.preprocessed/")
    assert counts(run_index(store, there)) == {"unchanged": len(SMALL)}
    assert [finding.problem for finding in verify(store)] == []


def png(blue: int = 5) -> bytes:
    """An image that is not there yet."""
    written = io.BytesIO()
    Image.new("RGB", (40, 30), (3, 200, blue)).save(written, "PNG")
    return written.getvalue()


def test_a_label_that_was_cut_off_is_finished_by_the_next_command(
    url: str, there: AnyPath, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, there)
    query = there / "things/6.preprocessed/Unknown/b.png"

    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("nearshot.indexer.intents.record_shot", die)
        patch.setattr("nearshot.indexer.feedback.delete_file", die)  # whoever is dead clears nothing away
        with pytest.raises(Killed):
            add_shot(store, query, "stars")
    assert files_of(url).exists(f"{url}/things/2.support-set/stars/shot1.png")
    [(path, outcome)] = finish_intents(store)
    assert (path, outcome) == (
        f"{url}/things/2.support-set/stars/shot1.png",
        "labelling it stars was cut off, and is finished",
    )
    with store.reading() as catalog:
        assert planned(catalog) == []
    assert counts(run_index(store, there)) == {"unchanged": len(SMALL) + 1}


def test_what_somebody_else_wrote_meanwhile_stays_and_the_label_takes_the_next_place(
    url: str, there: AnyPath, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, there)
    others = f"{url}/things/2.support-set/cat/shot3.png"

    def look(path: AnyPath) -> bool:
        was_there = is_there(path)
        if str(path) == others and not files_of(url).exists(others):
            files_of(url).pipe_file(others, b"another's")  # just after somebody looked
        return was_there

    monkeypatch.setattr("nearshot.indexer.feedback.is_there", look)
    shot = add_shot(store, there / "things/6.preprocessed/Unknown/b.png", "cat")
    assert str(shot) == f"{url}/things/2.support-set/cat/shot4.png"
    assert files_of(url).cat_file(others) == b"another's"


def test_a_label_that_was_cut_off_waits_until_somebody_can_look(
    url: str, there: AnyPath, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, there)
    with store.writing() as editor:
        intent = plan(
            editor,
            Planned.LABEL,
            path=f"{url}/things/2.support-set/stars/shot1.png",
            sha256="0" * 64,
            root_id=1,
            category="things",
            content_id=1,
            label="stars",
            query="a query",
            created=utc_now(),
        )
    with monkeypatch.context() as patch:
        patch.setattr(
            "nearshot.indexer.intents.sha256_of", lambda path: (_ for _ in ()).throw(AwayError(str(path), "away"))
        )
        assert finish_intents(store) == []
    with store.reading() as catalog:
        assert planned(catalog) == [intent]
    finish_intents(store)
    with store.reading() as catalog:
        assert planned(catalog) == [], "it is not there: nothing was begun"


def test_an_upload_that_is_there_already_is_taken_up(url: str, there: AnyPath, store: Store) -> None:
    run_index(store, there)
    key = f"{url}/things/6.preprocessed/added/{hashlib.sha256(png()).hexdigest()[:32]}.png"
    files_of(url).pipe_file(key, png())
    assert add_query(store, png(), "things", HOG, ready={}).is_new
    other = f"{url}/things/6.preprocessed/added/{hashlib.sha256(png(9)).hexdigest()[:32]}.png"
    files_of(url).pipe_file(other, b"something else")
    with pytest.raises(UsageError, match="is there, and is another image"):
        add_query(store, png(9), "things", HOG, ready={})
    assert files_of(url).cat_file(other) == b"something else"


def test_an_object_that_others_lie_below_is_an_image_and_they_are_none(
    url: str, there: AnyPath, store: Store, nearshot: Callable[..., Outcome]
) -> None:
    inside = f"{url}/things/6.preprocessed/cat/a.png/inner.png"
    files_of(url).pipe_file(inside, png())
    assert counts(run_index(store, there)) == {"added": len(SMALL), "outside_contract": 1}
    assert counts(run_index(store, there)) == {"unchanged": len(SMALL), "outside_contract": 1}
    [answer] = nearshot("query", f"{url}/things/6.preprocessed/cat/a.png", "--json", "--store", store.location).objects
    assert answer["path"] == f"{url}/things/6.preprocessed/cat/a.png"


def test_what_is_there_is_never_written_over(there: AnyPath) -> None:
    query = there / "things/6.preprocessed/cat/a.png"
    before = read_file(query)
    with pytest.raises(FileExistsError):
        write_file(query, b"other")
    assert read_file(query) == before


def test_commands_take_urls_and_show_them(
    url: str, there: AnyPath, small: Path, nearshot: Callable[..., Outcome], tmp_path: Path
) -> None:
    assert "6 added" in nearshot("index", url, "--backbone", "hog", "--no-captions").stdout
    assert f"data {url}: up to date" in nearshot("status").stdout
    [answer] = nearshot("query", f"{url}/things/6.preprocessed/cat/a.png", "--backbone", "hog", "--json").objects
    assert answer["path"] == f"{url}/things/6.preprocessed/cat/a.png"
    assert answer["label"] == "cat"
    assert answer["hits"][0]["path"].startswith(f"{url}/things/2.support-set/cat/")
    every = nearshot("query", url, "--backbone", "hog", "--json").objects
    assert [each["path"] for each in every] == [
        f"{url}/{name}" for name in sorted(SMALL, key=lambda name: name.split("/"))
    ]
    assert nearshot("label", f"{url}/things/6.preprocessed/Unknown/b.png", "stars").stdout == (
        f"now a shot of stars: {url}/things/2.support-set/stars/shot1.png\n"
    )
    assert nearshot("label", "--undo", f"{url}/things/6.preprocessed/Unknown/b.png").status == 0
    assert nearshot("caption", f"{url}/things/6.preprocessed/cat/a.png", "--set", "a cat's face").status == 0
    assert nearshot("verify").status == 0
    assert nearshot("lint", url, "--backbone", "hog").status in (0, 1)
    assert nearshot("export", "--format", "imagefolder", "--output", tmp_path / "folder").status == 0
    written = sorted(path for path in (tmp_path / "folder").rglob("*.png"))
    held = {hashlib.sha256(path.read_bytes()).hexdigest() for path in small.rglob("*.png")}
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in written} == held
    tasks = json.loads(nearshot("export", "--format", "labelstudio").stdout)
    assert {task["data"]["image"] for task in tasks} == {f"{url}/{name}" for name in SMALL}
    assert nearshot("forget", url).status == 0


def test_a_directory_moves_into_a_store_of_objects_and_back(
    url: str, small: Path, nearshot: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nearshot("index", small, "--backbone", "hog", "--no-captions").status == 0
    assert "is no directory" in nearshot("move", small, url).stderr
    put(small, url)
    assert nearshot("move", small, url).stdout == f"6 images of {small} are at {url} now\n"
    report = json.loads(nearshot("index", url, "--backbone", "hog", "--no-captions", "--json").stdout)
    assert (report["changed"], report["backbones"]["hog"]["embedded"]) == (0, 0), report

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("the network is away")

    with monkeypatch.context() as patch:
        there = path_of(url)
        assert not isinstance(there, Path)
        patch.setattr(there.fs, "info", refuse)
        assert nearshot("move", small, url).stderr.startswith(f"nearshot: {small} is not indexed")
        put(small, f"{url}-2")
        told = nearshot("move", url, f"{url}-2")
    assert (told.status, "cannot be reached: the network is away" in told.stderr) == (1, True)
    assert nearshot("move", url, small).status == 0
    shutil.rmtree(small)
    assert json.loads(nearshot("index", url, "--backbone", "hog", "--no-captions", "--json").stdout)["moved"] == 6


def test_the_session_in_the_docs_is_what_is_printed(url: str, nearshot: Callable[..., Outcome], tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "examples/make_demo.py"), "demo-data"], cwd=tmp_path, check=True)
    shown, printed = f"s3://{BUCKET}/demo-data", []
    put(tmp_path / "demo-data", url)
    for line in session("objects").splitlines():
        if line.startswith("$ nearshot "):
            outcome = nearshot(*line.removeprefix("$ nearshot ").replace(shown, url).split())
            printed += [line, *outcome.stdout.replace(url, shown).splitlines()]
    assert tidy("\n".join(printed)) == session("objects")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("index", "s3://"), "names no bucket; give s3://BUCKET/DIRECTORY"),
        (("index", "s3:///data"), "names no bucket"),
        (("index", "ftp://host/data"), "ftp:// is not known; give a directory, or file://, s3:// or gs://"),
        (("index", "file://host/data"), "names the machine host; give a path on this one"),
        (("index", f"s3://{BUCKET}/nothing"), "is not a directory; give the data directory that holds"),
        (("index", "s3://no-such-bucket/data"), "cannot be listed: there is no such object or bucket"),
        (("crop", f"s3://{BUCKET}/data"), "is on no disk, where this works: copy it here, or mount it"),
        (("import", "folder", "here", f"s3://{BUCKET}/data"), "is on no disk, where this works"),
        (("query", f"s3://{BUCKET}/nothing.png"), "there is no such object or bucket"),
        (("evaluate", "--output", f"s3://{BUCKET}/report"), "is on no disk, where this works"),
        (("export", "--output", f"s3://{BUCKET}/all.csv"), "is on no disk, where this works"),
        (
            ("index", "here", "--store", f"s3://{BUCKET}/store"),
            "is neither a directory nor the address of a PostgreSQL",
        ),
    ],
)
def test_a_url_that_leads_nowhere_is_told(
    url: str, small: Path, nearshot: Callable[..., Outcome], arguments: tuple[str, ...], told: str
) -> None:
    if arguments[0] == "query":
        nearshot("index", small, "--backbone", "hog", "--no-captions")
    outcome = nearshot(*arguments)
    assert outcome.status != 0
    assert told in outcome.stderr + outcome.stdout


def test_without_credentials_it_says_where_they_are_looked_for(
    url: str, nearshot: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(objects, "PATIENCE", {"s3": {"skip_instance_cache": True}})
    outcome = nearshot("index", url, "--backbone", "hog")
    assert (outcome.status, "set AWS_PROFILE or AWS_ACCESS_KEY_ID" in outcome.stderr) == (1, True), outcome.stderr


def test_a_file_url_is_the_path_that_it_names(small: Path, store: Store) -> None:
    assert path_of(f"file://{str(small).replace('data', 'd%61ta')}") == small
    assert path_of(f"file://localhost{small}") == small
    assert path_of(f"FILE://{small}") == small


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(_: str) -> None:
        raise ImportError("no s3fs")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(UsageError, match=r"s3://a/b needs a package: pip install 'nearshot\[s3\]'"):
        path_of("s3://a/b")


def test_python_takes_urls(url: str, there: AnyPath, tmp_path: Path) -> None:
    with door.open(tmp_path / "own", create=True) as index:
        assert index.add(url, backbones=["hog"]).added == len(SMALL)
        with pytest.raises(UsageError, match="is on no disk, where this works"):
            index.crop(url)
        answer = index.query(f"{url}/things/6.preprocessed/cat/a.png", backbone="hog")
        assert answer.label == "cat"
        assert str(index.label(f"{url}/things/6.preprocessed/Unknown/b.png", "stars")) == (
            f"{url}/things/2.support-set/stars/shot1.png"
        )
