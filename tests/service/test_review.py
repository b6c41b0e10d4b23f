"""The review in a real browser: by keyboard alone, in two tabs, over reloads and a killed server. What is said is kept once."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageEnhance
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from nearshot.schema.store import Store
from tests.conftest import run_index
from tests.photographs import photograph
from tests.service import test_serve
from tests.service.test_page import CHROMIUM, FLAGS, ROOT, no_complaints, same_picture
from tests.service.test_serve import Served

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")

MANY = int(os.environ.get("NEARSHOT_REVIEWED", "45"))
"""Images that are labelled by keyboard; `make soak` labels a thousand (and runs that test alone: others count on few)."""

PHOTOGRAPHS = {"cat": "chelsea", "coffee": "coffee", "rocket": "rocket"}
CLUSTER = 5


def cut(name: str, chance: np.random.Generator) -> Image.Image:
    """A part of a photograph, somewhere."""
    with Image.open(photograph(name)) as image:
        side = int(chance.integers(90, 180))
        left, top = int(chance.integers(0, image.width - side)), int(chance.integers(0, image.height - side))
        return image.convert("RGB").crop((left, top, left + side, top + side)).resize((96, 96))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shots of three labels, queries that are named after what they show, and some that are nearly the same picture."""
    chance, root = np.random.default_rng(0), tmp_path_factory.mktemp("review") / "data/things"
    for label, name in PHOTOGRAPHS.items():
        (root / f"2.support-set/{label}").mkdir(parents=True)
        for number in range(3):
            cut(name, chance).save(root / f"2.support-set/{label}/shot{number}.png")
    (root / "6.preprocessed").mkdir()
    for number in range(MANY + 10):
        label = list(PHOTOGRAPHS)[number % 3]
        cut(PHOTOGRAPHS[label], chance).save(root / f"6.preprocessed/{label}-{number}.png")
    same = cut("astronaut", chance)
    for number in range(CLUSTER):
        ImageEnhance.Brightness(same).enhance(1 - number / 100).save(root / f"6.preprocessed/stranger-{number}.png")
    for label in ("ape", "bear"):
        (root.parent / f"zoo/2.support-set/{label}").mkdir(parents=True)
        cut("camera", chance).save(root.parent / f"zoo/2.support-set/{label}/shot1.png")
    (root.parent / "zoo/6.preprocessed").mkdir()
    for number, name in enumerate(("brick", "moon", "retina")):
        cut(name, chance).save(root.parent / f"zoo/6.preprocessed/{number}.png")
    return root.parent


@pytest.fixture(scope="module")
def served(data: Path) -> Iterator[Served]:
    """A service; the tests of this file take it as the one before left it."""
    test_serve.PATIENCE_S = max(120, MANY)
    directory = data.parent / "store"
    with Store(directory, create=True) as store:
        run_index(store, data)
    service = Served(directory)
    yield service
    service.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The review, of a tab that must not complain."""
    with no_complaints(browser, served) as opened:
        review(opened, served)
        yield opened


def review(page: Page, served: Served) -> None:
    """Open the review, with all that waits."""
    page.goto(f"{served.url}/#review")
    expect(page.locator("#review-frame")).to_be_visible()
    page.locator("#review-every").check()
    expect(page.locator("#review-frame")).to_be_visible()


def shown(page: Page) -> str:
    """The image that is shown, by id."""
    large = page.locator("#review-large")
    expect(large).not_to_have_js_property("naturalWidth", 0)
    expect(large).not_to_have_attribute("aria-busy", "true")
    return str(large.get_attribute("data-id"))


def say(page: Page, key: str) -> None:
    """Press a key of what is shown, once it can be seen."""
    shown(page)
    page.keyboard.press(key)


def press(page: Page, key: str, before: str) -> None:
    """Press a key, and wait for the next picture."""
    say(page, key)
    expect(page.locator("#review-large")).not_to_have_attribute("data-id", before)


def names(served: Served) -> dict[str, str]:
    """What each query is called, by id."""
    listed: dict[str, str] = {}
    after = 0
    while after is not None:
        answer = served.get(f"/v1/images?category=things&role=query&limit=100&after={after}")
        listed |= {str(image["id"]): Path(image["path"]).stem for image in answer["images"]}
        after = answer["next"]
    return listed


def said(data: Path) -> list[tuple[str, str, str | None]]:
    """What was said and counts: the query's name, label or reject, and the label."""
    with sqlite3.connect(data.parent / "store/nearshot.db") as database:
        rows = database.execute("SELECT path, action, label FROM feedback WHERE undone IS NULL").fetchall()
    return [(Path(path).stem, action, label) for path, action, label in rows]


def is_large(page: Page, name: str, served: Served) -> bool:
    return names(served)[shown(page)].startswith(name)


def skip_to(page: Page, name: str, served: Served) -> None:
    """Skip until the picture shows a kind of thing."""
    called = names(served)
    for _ in range(len(called)):
        now = shown(page)
        if called[now].startswith(name):
            return
        press(page, "s", now)
    raise AssertionError(f"no {name} waits")


def test_nobody_needs_a_mouse_and_every_view_can_be_read(page: Page) -> None:
    assert Axe().run(page).response["violations"] == []
    for width in (390, 820):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_picture_in_the_documents_shows_this_page(page: Page, served: Served, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 1000, "height": 700})
    skip_to(page, "stranger", served)
    page.wait_for_function(
        "() => [...document.querySelectorAll('#review-pictures img')].every((image) => image.naturalWidth > 0)"
    )
    same_picture(page, ROOT / "docs/review.png", tmp_path)


def test_pictures_that_are_nearly_the_same_are_decided_together_or_some_of_them(
    page: Page, served: Served, data: Path
) -> None:
    skip_to(page, "stranger", served)
    options = page.locator("#review-pictures li")
    expect(options).to_have_count(CLUSTER)
    expect(page.locator("#review-why")).to_contain_text(f"{CLUSTER} pictures that are nearly the same")
    selected = page.locator("#review-pictures [aria-selected=true]")
    expect(selected).to_have_count(CLUSTER)
    options.nth(1).click()
    expect(selected).to_have_count(1)
    options.nth(3).click(modifiers=["Shift"])
    expect(selected).to_have_count(3)
    options.nth(2).click(modifiers=["Control"])
    expect(selected).to_have_count(2)
    page.keyboard.press("Space")  # focus is on the picture that was clicked: it is selected again
    expect(selected).to_have_count(3)
    frame = page.locator("#review-pictures").bounding_box()
    first = options.first.bounding_box()
    assert frame is not None
    assert first is not None
    page.mouse.move(frame["x"] + 2, frame["y"] + 2)
    page.mouse.down()
    page.mouse.move(first["x"] + first["width"] / 2, first["y"] + first["height"] / 2, steps=4)
    expect(page.locator(".band")).to_be_visible()
    page.mouse.up()
    expect(page.locator(".band")).to_have_count(0)
    expect(selected).to_have_count(1)
    options.nth(1).click(modifiers=["Shift"])
    expect(selected).to_have_count(2)
    say(page, "n")
    expect(options).to_have_count(CLUSTER - 2)
    expect(page.locator("#review-said")).to_have_text("None of these, 2 pictures.")
    assert Counter(action for _, action, _ in said(data)) == {"reject": 2}
    ids = page.locator("#review-pictures img").evaluate_all("images => images.map((image) => image.dataset.id)")

    def of_the_first(route: Route) -> None:
        """A fault of one picture is its own: the others are decided."""
        if f'"image_id"\r\n\r\n{ids[0]}\r\n' in (route.request.post_data or ""):
            route.fulfill(status=422, content_type="application/problem+json", body='{"detail": "its file is gone"}')
        else:
            route.continue_()

    page.route("**/v1/reject", of_the_first)
    say(page, "n")
    expect(page.locator("#review-status")).to_have_text("its file is gone")
    expect(options).to_have_count(1)
    page.unroute_all(behavior="wait")
    page.keyboard.press("u")
    expect(options).to_have_count(2)
    say(page, "n")
    expect(page.locator("#review-said")).to_have_text("None of these, 2 pictures.")
    skip_to(page, "stranger", served)
    say(page, "n")
    expect(page.locator("#review-said")).to_have_text("None of these.")
    assert {name for name, action, _ in said(data) if action == "reject"} == {f"stranger-{n}" for n in range(CLUSTER)}
    page.keyboard.press("u")
    expect(page.locator("#review-said")).to_have_text("Taken back: None of these.")
    assert len(said(data)) == CLUSTER - 1
    say(page, "n")
    expect(page.locator("#review-count")).to_contain_text(f"{CLUSTER} of ")


def test_other_labels_are_typed_and_skipped_ones_come_again(page: Page, served: Served, data: Path) -> None:
    first = shown(page)
    press(page, "s", first)
    second = shown(page)
    press(page, "ArrowLeft", second)
    assert shown(page) == first, "the one that was skipped last"
    press(page, "s", first)
    say(page, "/")
    expect(page.locator("#review-other")).to_be_focused()
    page.keyboard.type("a new thing")
    page.keyboard.press("Enter")
    expect(page.locator("#review-said")).to_have_text("a new thing.")
    assert (names(served)[second], "label", "a new thing") in said(data)
    expect(page.locator("#review-labels button", has_text="a new thing")).to_be_visible()
    page.keyboard.press("u")
    expect(page.locator("#review-said")).to_have_text("Taken back: a new thing.")
    assert shown(page) == second
    assert not [each for each in said(data) if each[1] == "label"]
    page.keyboard.press("ArrowDown")
    marked = page.locator("#review-labels [aria-pressed=true]")
    label = marked.get_attribute("data-label")
    press(page, "Enter", second)
    assert (names(served)[second], "label", label) in said(data)
    page.keyboard.press("u")
    expect(page.locator("#review-said")).to_have_text(f"Taken back: {label}.")


def test_another_tab_goes_on_where_this_one_stopped(page: Page, served: Served, browser: Browser, data: Path) -> None:
    skip_to(page, "cat", served)
    first = shown(page)
    beside, apart = page.context.new_page(), browser.new_context().new_page()
    for other in (beside, apart):
        review(other, served)
        for _ in range(MANY + 10):
            if shown(other) == first:
                break
            press(other, "s", shown(other))
        assert shown(other) == first
    press(page, "1", first)
    expect(beside.locator("#review-large")).not_to_have_attribute("data-id", first)
    press(apart, "2", first)
    expect(apart.locator("#review-said")).to_have_text("That had been decided elsewhere.")
    assert [label for name, _, label in said(data) if name == names(served)[first]] == ["cat"]
    apart.context.close()


def test_nothing_is_said_of_a_picture_that_cannot_be_seen_yet(page: Page, data: Path) -> None:
    def slowly(route: Route) -> None:
        page.wait_for_timeout(400)
        route.continue_()

    first, before = shown(page), len(said(data))
    page.route(re.compile("/(original|thumbnail)$"), slowly)
    press(page, "s", first)  # to one that was fetched ahead
    page.keyboard.press("s")
    page.keyboard.press("1")
    expect(page.locator("#review-said")).to_have_text("The picture is still on its way.")
    assert len(said(data)) == before
    now = shown(page)
    assert now != first
    page.unroute_all(behavior="wait")
    press(page, "1", now)
    page.keyboard.press("u")
    expect(page.locator("#review-said")).to_have_text("Taken back: cat.")
    assert len(said(data)) == before


def test_an_undo_that_fails_can_be_done_again_and_a_fault_of_one_picture_is_its_own(page: Page, data: Path) -> None:
    first, before = shown(page), said(data)
    press(page, "1", first)
    second = shown(page)
    press(page, "2", second)

    def busy(route: Route) -> None:
        route.fulfill(status=503, content_type="application/problem+json", body='{"detail": "full"}')

    page.route("**/v1/label", busy)
    page.keyboard.press("u")
    expect(page.locator("#review-said")).to_have_text("full")
    page.unroute_all(behavior="wait")
    page.keyboard.press("u")
    expect(page.locator("#review-said")).to_have_text("Taken back: coffee.")
    page.keyboard.press("u")
    expect(page.locator("#review-said")).to_have_text("Taken back: cat.")
    assert said(data) == before


def test_each_category_has_its_own_count_and_undo(page: Page, data: Path) -> None:
    first, before = shown(page), len(said(data))
    press(page, "1", first)
    page.locator("#review-category").select_option("zoo")
    expect(page.locator("#review-count")).to_have_text("0 of 3")
    page.keyboard.press("u")
    expect(page.locator("#review-said")).to_have_text("There is nothing to undo.")
    assert len(said(data)) == before + 1
    ape = shown(page)
    press(page, "1", ape)
    page.keyboard.press("u")
    expect(page.locator("#review-said")).to_have_text("Taken back: ape.")
    page.locator("#review-category").select_option("things")
    expect(page.locator("#review-count")).to_contain_text("1 of ")
    page.keyboard.press("u")
    expect(page.locator("#review-said")).to_have_text("Taken back: cat.")
    assert len(said(data)) == before


def test_a_server_that_is_killed_loses_nothing_that_was_said(
    page: Page, served: Served, browser: Browser, data: Path
) -> None:
    first = shown(page)
    with page.expect_event("requestfinished", lambda each: each.url.endswith("/original")):  # the next one is here
        press(page, "s", first)
    before = shown(page)
    served.process.send_signal(signal.SIGKILL)
    served.process.communicate()
    page.keyboard.press("s")
    now = shown(page)
    say(page, "1")
    expect(page.locator("#review-status")).to_have_text("The service does not answer.")
    assert shown(page) == now != before, "it is still there, to be decided"
    again = Served(data.parent / "store", "--port", served.url.rpartition(":")[2])
    served.process = again.process
    press(page, "1", now)
    assert (names(served)[now], "label", "cat") in said(data)


def test_hundreds_are_labelled_by_keyboard_and_each_is_kept_once(page: Page, served: Served, data: Path) -> None:
    called, given = names(served), Counter[str]()

    def with_other_keys(route: Route) -> None:
        """As if labels came and went: each time that what waits is weighed anew, other keys stand for them."""
        response = route.fetch()
        answer = response.json()
        given["answers"] += 1
        labels = sorted(PHOTOGRAPHS)
        moved = labels[given["answers"] % 3 :] + labels[: given["answers"] % 3]
        answer["keys"] = {"things": dict(zip("123", moved, strict=True))}
        route.fulfill(response=response, json=answer)

    page.route("**/v1/review*", with_other_keys)
    waiting = len([name for name in called.values() if name not in {each[0] for each in said(data)}])
    for number in range(waiting):
        if number == waiting // 2:
            page.reload()
            expect(page.locator("#review-frame")).to_be_visible()
            page.locator("#review-every").check()
            expect(page.locator("#review-frame")).to_be_visible()
            expect(page.locator("#review-count")).to_have_text(f"0 of {waiting - number}")
        now = shown(page)
        label = called[now].split("-")[0]
        members = page.locator("#review-pictures li").count()
        if members > 1:  # by chance two of them are nearly the same: only the one that is looked at
            page.locator("#review-pictures li").first.click()
        key = "n"
        if label != "stranger":
            key = str(page.locator(f"#review-labels [data-label={label}]").get_attribute("data-key"))
        say(page, key)
        if number < waiting - 1:
            expect(page.locator("#review-large")).not_to_have_attribute("data-id", now)
        if number == waiting // 2 - 1:
            expect(page.locator("#review-count")).to_have_text(
                re.compile(rf"{number + 1} of {waiting}, about (a minute|\d+ minutes)")
            )
    expect(page.locator("#review-status")).to_have_text("Done: nothing is left to decide.")
    expect(page.locator("#review-frame")).to_be_hidden()
    assert given["answers"] > 2
    page.unroute_all(behavior="wait")
    labels = {name: label for name, action, label in said(data) if action == "label"}
    assert len(labels) == MANY + 10
    assert len(said(data)) == MANY + 10 + CLUSTER, "each once"
    wrong = [name for name, label in labels.items() if name.split("-")[0] != label]
    assert len(wrong) <= 1, "but for the one that was decided while the server was killed"
    shots = [path for path in (data / "things/2.support-set").rglob("*") if path.is_file()]
    assert len(shots) == 9 + len(labels)
