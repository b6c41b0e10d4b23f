"""Many files at once on the page: folders too, each with its verdict, in a table that sorts, filters and can be saved."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from nearshot.schema.store import Store
from tests.conftest import SMALL, run_index, save_crop
from tests.service.test_page import CHROMIUM, ROOT, browser, no_complaints
from tests.service.test_serve import Served

__all__ = ["browser"]

STATIC = ROOT / "service/static"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    here = tmp_path_factory.mktemp("served")
    for path, source in SMALL.items():
        save_crop(here / "data" / path, source)
    with Store(here / "store", create=True) as store:
        run_index(store, here / "data")
    service = Served(here / "store")
    yield service
    service.end()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    with no_complaints(browser, served) as opened:
        opened.goto(served.url)
        expect(opened.locator("#drop")).to_be_visible()
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cats, coffee, a stranger, what cannot be read, what is no image, and a name that a spreadsheet would work out."""
    root = tmp_path_factory.mktemp("many") / "trip"
    for number in range(9):
        save_crop(root / f"cats/cat{number}.png", f"chelsea:{number}")
    for number in range(9):
        save_crop(root / f"{number}.png", f"coffee:{number}")
    save_crop(root / "strange.png", "hubble_deep_field:3")
    save_crop(root / "=1+1.png", "chelsea:3")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_bytes(b"")
    return root


def looked_at(page: Page, count: int) -> None:
    expect(page.locator("#many-status")).to_contain_text(f"{count} of {count} looked at", timeout=20_000)
    expect(page.locator("#many-stop")).to_be_hidden()


def files(page: Page) -> list[str]:
    return page.locator("#many tbody tr:visible td:nth-child(2)").all_inner_texts()


def test_a_folder_has_a_table_that_sorts_filters_and_can_be_saved(page: Page, folder: Path, tmp_path: Path) -> None:
    page.set_input_files("#folder", folder)
    looked_at(page, 21)
    expect(page.locator("#many-status")).to_contain_text("1 unreadable; 2 that are no images passed over.")
    assert files(page) == sorted(files(page))
    assert "trip/cats/cat0.png" in files(page)
    rows = page.locator("#many tbody tr")
    expect(rows.filter(has_text="trip/cats/cat0.png")).to_contain_text("cat scores")
    expect(rows.filter(has_text="broken.png")).to_contain_text("unreadable")
    page.wait_for_function("() => document.querySelector('#many tbody img').naturalWidth > 0")
    page.get_by_role("button", name="Score").click()
    scores = [float(text) for text in page.locator("#many td:nth-child(6)").all_inner_texts() if text]
    assert scores == sorted(scores)
    assert len(scores) == 20
    assert files(page)[-1] == "trip/broken.png", "what has no score comes last"
    page.get_by_role("button", name="Score").click()
    assert files(page)[-1] == "trip/broken.png"
    expect(page.locator("#many th[data-column=score]")).to_have_attribute("aria-sort", "descending")
    page.locator("#many-verdict").select_option("match")
    page.locator("#many-words").fill("CAT")
    shown = files(page)
    assert shown
    assert all("cat" in name or "=1+1" in name for name in shown)
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as CSV").click()
    saving.value.save_as(tmp_path / "answers.csv")
    with (tmp_path / "answers.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["file"] for row in table] == shown
    assert {row["label"] for row in table} == {"cat"}
    page.locator("#many-words").fill("")
    page.locator("#many-verdict").select_option("")
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as JSON").click()
    saving.value.save_as(tmp_path / "answers.json")
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert len(answers) == 21
    assert {answer["path"] for answer in answers} == set(files(page))
    assert Axe().run(page).response["violations"] == []
    page.get_by_role("button", name="trip/strange.png").click()
    expect(page.locator(".answer .verdict")).to_have_text("Unknown")
    expect(page.locator("#many")).to_be_visible()


def test_a_name_that_a_spreadsheet_would_work_out_is_quoted(page: Page, folder: Path, tmp_path: Path) -> None:
    page.set_input_files("#file", [folder / "=1+1.png", folder / "0.png"])
    looked_at(page, 2)
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as CSV").click()
    saving.value.save_as(tmp_path / "answers.csv")
    assert "\r\n'=1+1.png," in (tmp_path / "answers.csv").read_bytes().decode()


def test_a_full_queue_is_waited_for_and_an_end_of_the_service_is_told(page: Page, folder: Path) -> None:
    asked: list[str] = []

    def busy(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.fulfill(status=503, content_type="application/problem+json", body='{"detail": "full"}')
        elif len(asked) > 3:
            route.abort()
        else:
            route.continue_()

    page.route("**/v1/query*", busy)
    page.set_input_files("#folder", folder)
    expect(page.locator("#many-status")).to_contain_text("The service does not answer.", timeout=20_000)
    expect(page.locator("#many-status")).to_contain_text(" of 21 looked at")
    assert page.locator("#many .match").count() > 0, "what was answered stays"


def test_a_file_that_goes_while_it_waits_is_its_own_fault(page: Page, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "trip")

    def slowly(route: Route) -> None:
        (tmp_path / "trip/strange.png").unlink(missing_ok=True)
        route.continue_()

    page.route("**/v1/query*", slowly)
    page.set_input_files("#folder", tmp_path / "trip")
    looked_at(page, 21)
    row = page.locator("#many tbody tr").filter(has_text="strange.png")
    expect(row).to_contain_text("the file is gone, or has changed")
    expect(page.locator("#many-status")).to_contain_text("2 unreadable")


def test_one_file_takes_the_place_of_many_and_another_choice_asks_them_anew(page: Page, folder: Path) -> None:
    asked: list[str] = []

    def slowly(route: Route) -> None:
        asked.append(route.request.url)
        page.wait_for_timeout(50)
        route.continue_()

    page.route("**/v1/query*", slowly)
    page.set_input_files("#folder", folder)
    expect(page.locator("#many")).to_be_visible()
    page.set_input_files("#file", folder / "0.png")
    expect(page.locator("#many")).to_be_hidden()
    expect(page.locator(".answer .verdict")).to_have_text("match: coffee")
    before = len(asked)
    page.wait_for_timeout(400)
    assert len(asked) <= before + 2, "what was under way ends, and no more is asked"
    page.set_input_files("#folder", folder)
    looked_at(page, 21)
    expect(page.locator(".answer")).to_have_count(0)
    page.locator("#query-score").select_option("max_sim")
    looked_at(page, 21)
    assert "score_by=max_sim" in asked[-1]
    expect(page.locator(".answer")).to_have_count(0)


def test_stopped_means_stopped(page: Page, folder: Path, tmp_path: Path) -> None:
    def slowly(route: Route) -> None:
        page.wait_for_timeout(100)
        route.continue_()

    page.route("**/v1/query*", slowly)
    page.set_input_files("#folder", folder)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#many-status")).to_contain_text("Stopped.")
    before = page.locator("#many-status").inner_text()
    page.wait_for_timeout(600)
    assert page.locator("#many-status").inner_text() == before
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as JSON").click()
    saving.value.save_as(tmp_path / "answers.json")
    shown = [text for text in page.locator("#many td:nth-child(3)").all_inner_texts() if text]
    assert len(json.loads((tmp_path / "answers.json").read_text())) == len(shown), "what is shown is what is saved"


def test_a_dropped_folder_is_looked_through(page: Page) -> None:
    """A browser gives no test a directory to drop: entries of the same shape stand for it."""
    names = page.evaluate(
        """async () => {
            const { dropped } = await import("/static/many.js");
            const file = (name) => ({ isFile: true, isDirectory: false, name, file: (done) => done(new File(["x"], name)) });
            const directory = (name, children) => ({ isFile: false, isDirectory: true, name, createReader: () => {
                const rest = [...children];
                return { readEntries: (done) => done(rest.splice(0, 2)) };
            } });
            const trip = directory("trip", [file("a.png"), directory("deep", [file("b.png")]), file("c.png")]);
            const items = [trip, file("d.png")];
            const transfer = { files: [], items: items.map((entry) => ({ webkitGetAsEntry: () => entry })) };
            return (await dropped(transfer)).map((each) => each.within);
        }"""
    )
    assert names == ["trip/a.png", "trip/deep/b.png", "trip/c.png", "d.png"]


def test_the_page_is_light() -> None:
    files = [path for path in STATIC.iterdir() if path.is_file()]
    assert len(files) > 10
    assert sum(path.stat().st_size for path in files) < 300_000, "bytes, without pictures"
