"""Scenarios: commands that change a store or its data directory, and what both come to."""

from __future__ import annotations

import difflib
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import sqlalchemy as sa
from PIL import Image, ImageDraw

from nearshot.detectors.selection import Selection
from nearshot.indexer.additions import add_query, remove_query
from nearshot.indexer.captions import set_caption
from nearshot.indexer.crop_options import CropOptions
from nearshot.indexer.crops import CropRun
from nearshot.indexer.feedback import add_shot, reject, undo
from nearshot.indexer.intents import finish_intents
from nearshot.indexer.verify import verify
from nearshot.retriever.calibrate import CalibrationOptions, calibrate_all
from nearshot.retriever.conformal import Aim, Aims
from nearshot.schema.contract import ADDED
from nearshot.schema.digests import FUNCTION, digest_of
from nearshot.schema.errors import UsageError
from nearshot.schema.gallery import list_pictured
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.store import Store
from nearshot.schema.vectors import every_vector
from nearshot.schema.vocabulary import Action, Ann, Role, Score, VectorKind
from nearshot.vectors import ann_indexes
from tests.conftest import HOG, SMALL, run_index, save_crop
from tests.schema.freeze import REVISIONS, thaw

CAT, GALAXY = "things/6.preprocessed/cat/a.png", "things/6.preprocessed/Unknown/b.png"
SHOT = "things/2.support-set/cat/shot1.png"


@dataclass(frozen=True)
class Scenario:
    """A command and the state that it starts from; `again` does it once more after it was cut off, if that is not `do`.

    `absent` are the raw pictures, below the data directory, that the state knows of and that were never there.
    """

    prepare: Callable[[Path], None]
    do: Callable[[Path], None]
    again: Callable[[Path], None] | None = None
    absent: tuple[str, ...] = ()


def data(here: Path) -> Path:
    """The data directory of a scenario's directory."""
    return here / "data"


def opened(here: Path) -> Store:
    """The store of a scenario's directory."""
    return Store(here / "store", create=True)


def index(here: Path) -> None:
    """Index with hog."""
    with opened(here) as store:
        run_index(store, data(here))


def write_data(here: Path) -> None:
    """The small data set, its bytes the same in every run."""
    for path, source in SMALL.items():
        save_crop(data(here) / path, source)
    (data(here) / "things/2.support-set/cat/shot1.txt").write_text("a ginger cat")


def indexed(here: Path) -> None:
    """The small data set, indexed."""
    write_data(here)
    index(here)


def changed(here: Path) -> None:
    """The small data set, indexed, then with a shot added, one rewritten, one removed and one renamed."""
    indexed(here)
    support = data(here) / "things/2.support-set"
    save_crop(support / "coffee/shot3.png", "coffee:6")
    save_crop(support / "cat/shot1.png", "chelsea:6")
    (support / "coffee/shot1.png").unlink()
    (support / "cat/shot2.png").rename(support / "cat/shot7.png")


def grown(here: Path) -> None:
    """Two segments, and so many new shots that they are merged with them."""
    indexed(here)
    support = data(here) / "things/2.support-set"
    (support / "coffee/shot1.png").unlink()
    index(here)
    for number in range(13):
        save_crop(support / f"cat/shot{10 + number}.png", f"chelsea:{number + 5}")


def index_once(here: Path) -> None:
    """Index with hog, and keep vectors once and as float16."""
    with opened(here) as store:
        run_index(store, data(here), replace(HOG, vectors=VectorKind.FLOAT16))


def grown_once(here: Path) -> None:
    """The same as `grown`, with vectors kept once: one of them, of what was removed, will be in no segment any more."""
    write_data(here)
    index_once(here)
    grown(here)


def index_ann(here: Path) -> None:
    """Index with hog, with an approximate index even over few vectors."""
    with mock.patch.object(ann_indexes, "LEAST", 2), opened(here) as store:
        run_index(store, data(here), replace(HOG, ann=Ann.IVF))


def labelled(here: Path) -> None:
    """A label that can be taken back."""
    indexed(here)
    label(here)


def damaged(here: Path) -> None:
    """A segment that is torn, one that is missing, and a file that nobody names."""
    indexed(here)
    first, second = sorted((here / "store/segments").iterdir())
    first.write_bytes(first.read_bytes()[:-100])
    second.unlink()
    (first.parent / "stray").write_text("x")


def frozen(revision: str) -> Callable[[Path], None]:
    """What makes a store of an earlier schema."""

    def prepare(here: Path) -> None:
        write_data(here)
        (here / "store").mkdir()
        thaw(revision, here / "store", data(here))

    return prepare


def label(here: Path) -> None:
    """Turn a query into a shot of a new label."""
    with opened(here) as store:
        add_shot(store, data(here) / GALAXY, "galaxy")


def label_again(here: Path) -> None:
    """Make it one, unless that was finished."""
    try:
        label(here)
    except UsageError as error:
        if "already" not in str(error):
            raise


def take_back(here: Path) -> None:
    """Take the label back."""
    with opened(here) as store:
        undo(store, data(here) / GALAXY, Action.LABEL)


def take_back_again(here: Path) -> None:
    """Take it back, unless that was finished."""
    try:
        take_back(here)
    except UsageError as error:
        if "to take back" not in str(error):
            raise


def say_no(here: Path) -> None:
    """Reject a query."""
    with opened(here) as store:
        reject(store, data(here) / GALAXY)


def say_no_again(here: Path) -> None:
    """Reject it, unless that was done."""
    try:
        say_no(here)
    except UsageError as error:
        if "already" not in str(error):
            raise


def caption(here: Path) -> None:
    """Caption an image by hand."""
    with opened(here) as store:
        set_caption(store, data(here) / CAT, "a cat that looks up")


def calibrate(here: Path) -> None:
    """Calibrate one score."""
    options = CalibrationOptions(aims=Aims({Aim.FALSE_REJECT: 0.5}), scores=(Score.MAX_SIM,))
    with opened(here) as store:
        list(calibrate_all(store, options))


def forget(here: Path) -> None:
    """Forget the data directory."""
    with opened(here) as store, store.writing() as editor:
        for root_id in editor.roots():
            editor.forget_root(root_id)


def forget_and_index(here: Path) -> None:
    """Forget the data directory, and index it again: its files are as they were, and none is read."""
    index(here)
    forget(here)
    index(here)


def repair(here: Path) -> None:
    """Verify and repair."""
    with opened(here) as store:
        list(verify(store, repair=True))


def add(here: Path) -> None:
    """Add an image beside the queries, as the service does."""
    save_crop(here / "new.png", "rocket:1")
    with opened(here) as store:
        add_query(store, (here / "new.png").read_bytes(), "things", HOG, ready={})


def remove(here: Path) -> None:
    """Take what was added away again, unless it is gone."""
    with opened(here) as store:
        finish_intents(store)
        with store.reading() as catalog:
            ids = [
                each.image.id
                for each in list_pictured(catalog, ImageFilter(role=Role.QUERY), after=0, limit=100)
                if Path(each.image.path).parent.name == ADDED
            ]
        for image_id in ids:
            remove_query(store, image_id)


def added(here: Path) -> None:
    """The small data set, indexed, with an image that was added."""
    indexed(here)
    add(here)


def draw_raw(here: Path, name: str, *boxes: tuple[int, int]) -> None:
    """A raw picture of 180 x 120 with rectangles of 40 x 50 at these corners."""
    picture = Image.new("RGB", (180, 120), (228, 226, 220))
    for left, top in boxes:
        ImageDraw.Draw(picture).rectangle((left, top, left + 40, top + 50), fill=(left, 40, 200 - left))
    path = data(here) / f"things/1.raw/{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def cropped(here: Path) -> None:
    """Raw pictures that were cropped; then one changed, one came, and one is gone."""
    write_data(here)
    draw_raw(here, "changes", (20, 30), (110, 30))
    draw_raw(here, "goes", (60, 20))
    crop(here)
    draw_raw(here, "changes", (70, 40))
    draw_raw(here, "comes", (20, 30), (120, 50))
    (data(here) / "things/1.raw/goes.png").unlink()


def crop(here: Path) -> None:
    """Crop what stands out."""
    with opened(here) as store:
        for _ in CropRun(store, data(here), CropOptions(selection=Selection(min_size=16))):
            pass


def nothing(here: Path) -> None:
    """Open the store, which brings it up to date."""
    opened(here).close()


SCENARIOS = {
    "index": Scenario(write_data, index),
    "index what changed": Scenario(changed, index),
    "index and merge": Scenario(grown, index),
    "index and merge, once": Scenario(grown_once, index),
    "label": Scenario(indexed, label, label_again),
    "undo": Scenario(labelled, take_back, take_back_again),
    "reject": Scenario(indexed, say_no, say_no_again),
    "caption": Scenario(indexed, caption),
    "calibrate": Scenario(indexed, calibrate),
    "forget": Scenario(indexed, forget),
    "forget and index": Scenario(indexed, forget_and_index),
    "verify --repair": Scenario(damaged, repair),
    "add": Scenario(indexed, add),
    "remove": Scenario(added, remove),
    "crop": Scenario(cropped, crop),
    "migrate": Scenario(frozen("0001"), nothing),
}

RAW = ("things/1.raw/cups.jpg",)
"""What frozen stores say was cropped, since there are croppings."""

SOAKED = {
    "keep once": Scenario(indexed, index_once),
    "index --ann": Scenario(indexed, index_ann),
    # "migrate" goes through every schema; these begin later
    **{
        f"migrate from {revision}": Scenario(frozen(revision), nothing, absent=RAW if revision >= "0014" else ())
        for revision in REVISIONS[1:]
    },
}
"""Those that `make soak` runs, and `make test` does not."""

QUERIES = {
    "images": "SELECT r.path || '/' || i.path, i.category, i.role, i.label, i.shot, c.sha256, i.failure FROM images i "
    "LEFT JOIN contents c ON c.id = i.content_id JOIN roots r ON r.id = i.root_id WHERE i.present",
    "embeddings": "SELECT c.sha256, b.fingerprint, hex(e.vector), e.failure FROM embeddings e JOIN contents c "
    "ON c.id = e.content_id JOIN backbones b ON b.id = e.backbone_id",
    "captions": "SELECT c.sha256, k.task, k.text FROM captions k JOIN contents c ON c.id = k.content_id",
    "feedback": "SELECT f.action, f.category, c.sha256, f.label, f.shot_path, f.undone IS NULL FROM feedback f "
    "JOIN contents c ON c.id = f.content_id",
    "calibrations": "SELECT backbone_id, category, score, threshold, margin_floor, support_digest FROM calibrations",
    "ann": "SELECT DISTINCT a.kind, s.role FROM ann_indexes a JOIN segments s ON s.id = a.segment_id",
    "intents": "SELECT action, path FROM intents",
    "crops": "SELECT k.path, k.sha256, k.box_left, k.box_top, k.box_right, k.box_bottom, c.path, c.sha256 FROM croppings c "
    "LEFT JOIN crops k ON k.cropping_id = c.id",
}


def state(here: Path) -> str:
    """All that a store and its data directory say, ids, times and names of segments apart, as one digest of each part."""
    said: dict[str, Any] = {}
    with opened(here) as store, store.reading() as catalog:
        for name, query in QUERIES.items():
            said[name] = sorted(map(str, catalog.connection.execute(sa.text(query))))
        said["vectors"] = sorted(
            blob.hex() for row in catalog.all_backbones() for _, blob in every_vector(catalog, row)
        )
    said["files"] = sorted(
        (str(path.relative_to(here)), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in data(here).rglob("*")
        if path.is_file()
    )
    return json.dumps({name: said[name] for name in said}).replace(str(here), "HERE")


def difference(expected: str, said: str) -> str:
    """What one state says and the other does not, line by line."""
    first, second = (
        [f"{name}: {row}" for name, part in json.loads(each).items() for row in part] for each in (expected, said)
    )
    return "\n".join(line[:300] for line in difflib.unified_diff(first, second, "expected", "here", n=0))


def copy(template: Path, here: Path) -> None:
    """Make a scenario's starting state again in another directory, the roots of the store with it."""
    shutil.copytree(template, here, symlinks=True)
    database = here / "store/nearshot.db"
    if database.is_file():
        with sqlite3.connect(database) as connection:
            connection.create_function(FUNCTION, -1, digest_of)
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            for table, column in (
                ("roots", "path"),
                ("feedback", "path"),
                ("feedback", "shot_path"),
                ("intents", "path"),
            ):
                if table in tables:
                    change = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
                    connection.execute(change, (str(template), str(here)))
        connection.close()
