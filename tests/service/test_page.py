"""The page in a real browser: Chromium over the small data set, with `hog` and the tiny clip."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright

from nearshot.indexer.captions import set_caption
from nearshot.indexer.options import IndexOptions
from nearshot.schema.store import Store
from tests.conftest import SMALL, run_index, save_crop
from tests.service.test_serve import Served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")

ROOT = Path(__file__).parents[2]
CAT = "things/6.preprocessed/cat/a.png"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page") / "data"
    for path, source in SMALL.items():
        save_crop(root / path, source)
    return root


@pytest.fixture(scope="module")
def served(data: Path, weights: Path) -> Iterator[Served]:
    """A service with hog and the tiny clip; the tests of this file take it as the one before left it."""
    directory = data.parent / "store"
    with Store(directory, create=True) as store:
        run_index(store, data, IndexOptions(backbones=("hog", "clip"), weights=weights, device="cpu"))
        set_caption(store, data / "things/2.support-set/cat/shot1.png", "a <b>ginger</b> cat")
    service = Served(directory, "--weights", str(weights), "--device", "cpu")
    yield service
    service.end()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """A page that must not complain, nor ask another host for anything."""
    with no_complaints(browser, served) as opened:
        opened.goto(served.url)
        expect(opened.locator("#query-backbones input")).to_have_count(2)
        opened.locator("#query-backbones input[value=hog]").check()
        yield opened


@contextmanager
def no_complaints(browser: Browser, served: Served) -> Iterator[Page]:
    """A tab that complains of nothing, and asks no other host for anything."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    hosts: set[str] = set()
    refusal = "Failed to load resource: "  # Chromium's own note, not the page's

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(refusal):
            complaints.append(message.text)

    opened.on("console", hear)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: hosts.add(re.sub(r"^(blob:)?(\w+://[^/]+).*", r"\2", request.url)))
    yield opened
    context.close()
    assert complaints == []
    assert hosts == {served.url}


def ask(page: Page, file: Path) -> None:
    page.set_input_files("#file", file)
    expect(page.locator(".answer .verdict")).to_be_visible()


def verdict(page: Page) -> Any:
    return expect(page.locator(".answer .verdict"))


def slide(page: Page, slider: str, value: float) -> None:
    page.locator(slider).evaluate(
        "(input, value) => { input.step = 'any'; input.value = value; input.dispatchEvent(new Event('input')); }", value
    )


def test_a_dropped_image_gets_its_verdict_with_the_shots_that_won_and_lost(page: Page, data: Path) -> None:
    bytes_of = list((data / CAT).read_bytes())
    page.evaluate(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
            document.querySelector("#drop").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
        }""",
        bytes_of,
    )
    verdict(page).to_have_text("match: cat")
    expect(page.locator(".nearest figcaption")).to_contain_text("things/cat/shot")
    expect(page.locator(".runner-up figcaption")).to_contain_text("things/coffee/shot")
    for picture in (".asked img", ".nearest img", ".runner-up img"):
        page.wait_for_function(
            "selector => document.querySelector(selector).naturalWidth > 0", arg=f".answer {picture}"
        )


def test_a_slider_moved_across_the_score_flips_the_verdict_without_asking_again(
    page: Page, data: Path, served: Served
) -> None:
    answer = served.ask(data / CAT, backbone="hog")
    ask(page, data / CAT)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/v1/query" in request.url else None)
    for threshold, margin, words in [
        (answer["score"] + 0.001, 0, "Unknown"),
        (answer["score"] - 0.001, 0, "match: cat"),
        (answer["score"] - 0.001, answer["margin"] + 0.001, "ambiguous"),
        (answer["score"] - 0.001, answer["margin"] - 0.001, "match: cat"),
    ]:
        slide(page, ".threshold", threshold)
        slide(page, ".margin", margin)
        verdict(page).to_have_text(words)
    expect(page.locator(".why")).to_contain_text(f"leads coffee by {answer['margin']:.3f}")
    page.get_by_role("button", name="Reset").click()
    verdict(page).to_have_text("match: cat")
    assert asked == []


def test_what_the_page_decides_is_what_the_service_decides(page: Page, data: Path, served: Served) -> None:
    answer = served.ask(data / CAT, backbone="hog")
    decide = "async ([answer, t, m]) => (await import('/static/decide.js')).verdictOf(answer, t, m)"
    for threshold in (-1, answer["score"], answer["score"] + 1e-6, 1):
        for margin in (0, answer["margin"], answer["margin"] + 1e-6, 2):
            told = served.ask(data / CAT, backbone="hog", threshold=threshold, margin_floor=margin)
            assert page.evaluate(decide, [answer, threshold, margin]) == told["verdict"]


def test_backbones_are_shown_side_by_side(page: Page, data: Path) -> None:
    ask(page, data / CAT)
    page.locator("#query-backbones input[value=clip]").check()
    expect(page.locator(".answer .backbone")).to_have_text(["clip", "hog"])


def test_a_part_is_drawn_typed_or_chosen_and_answered_alone(
    page: Page, data: Path, tmp_path: Path, served: Served
) -> None:
    scene = Image.new("RGB", (800, 500), (235, 235, 230))
    with Image.open(data / CAT) as cat:
        scene.paste(cat.convert("RGB"), (80, 60))
        box = (80, 60, *cat.size)
    scene.save(tmp_path / "scene.png")
    ask(page, tmp_path / "scene.png")
    page.get_by_text("Ask about a part of it").click()
    canvas = page.locator("#part .canvas img")
    expect(canvas).to_be_visible()
    shown = canvas.bounding_box()
    assert shown is not None
    scale = shown["width"] / 800
    corners = [(box[0], box[1]), (box[0] + box[2], box[1] + box[3])]
    (left, top), (right, bottom) = [(shown["x"] + x * scale, shown["y"] + y * scale) for x, y in corners]
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move((left + right) / 2, (top + bottom) / 2)
    page.mouse.move(right, bottom)
    page.mouse.up()
    verdict(page).to_have_text("match: cat")
    drawn = [int(each) for each in page.locator("#part-box").input_value().split(",")]
    assert drawn == pytest.approx(box, abs=2 / scale + 1)
    told = served.ask(tmp_path / "scene.png", backbone="hog", boxes=page.locator("#part-box").input_value())
    expect(page.locator(".why")).to_contain_text(f"{told['score']:.3f}")
    page.get_by_label("Part asked about").fill(",".join(map(str, box)))
    page.get_by_label("Part asked about").press("Enter")
    whole = served.ask(data / CAT, backbone="hog")
    expect(page.locator(".why")).to_contain_text(f"{whole['score']:.3f}")
    page.get_by_label("Part asked about").fill("1,2")
    page.get_by_label("Part asked about").press("Enter")
    expect(page.locator("#part-status")).to_contain_text("x,y,width,height")
    page.get_by_role("button", name="Detect objects").click()
    page.get_by_role("button", name=re.compile(r"^Part \d")).first.click()
    chosen = page.locator("#part-box").input_value()
    assert [int(each) for each in chosen.split(",")] == pytest.approx(box, abs=30)
    told = served.ask(tmp_path / "scene.png", backbone="hog", boxes=chosen)
    expect(page.locator(".why")).to_contain_text(f"{told['score']:.3f}")
    assert Axe().run(page).violations_count == 0
    if directory := os.environ.get("NEARSHOT_LOOK"):
        page.screenshot(path=Path(directory) / "part.png", full_page=True)
    page.get_by_role("button", name="Whole image").click()
    expect(page.locator("#part .drawn")).to_be_hidden()


def test_what_made_the_score_is_drawn_where_the_backbone_can_tell(page: Page, data: Path) -> None:
    page.locator("#query-backbones input[value=clip]").check()
    page.locator("#query-backbones input[value=hog]").uncheck()
    ask(page, data / CAT)
    page.get_by_text("What made the score").click()
    expect(page.locator(".explained img")).to_be_visible(timeout=30_000)
    expect(page.locator(".explained img")).to_have_attribute("alt", re.compile("warm where they make the score"))
    page.locator("#query-backbones input[value=hog]").check()
    page.locator("#query-backbones input[value=clip]").uncheck()
    expect(page.locator(".answer .backbone")).to_have_text(["hog"])
    page.get_by_text("What made the score").click()
    expect(page.locator(".explained .status")).to_contain_text("hog has no patches")


def test_labelling_an_image_changes_the_next_query_and_can_be_undone(page: Page, data: Path, tmp_path: Path) -> None:
    save_crop(tmp_path / "rocket.png", "rocket:0")
    ask(page, tmp_path / "rocket.png")
    verdict(page).to_have_text("Unknown")
    page.get_by_label("This is a").fill("rocket")
    page.get_by_role("button", name="Make it a shot").click()
    expect(page.locator(".said")).to_contain_text("It is a shot of things/rocket now")
    save_crop(tmp_path / "another.png", "rocket:1")
    page.wait_for_timeout(300)
    page.set_input_files("#file", tmp_path / "another.png")
    verdict(page).to_have_text("match: rocket")
    page.get_by_role("button", name="This is none of these").click()
    expect(page.locator(".said")).to_contain_text("It is a negative of things now")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".said")).to_have_text("Taken back.")
    page.set_input_files("#file", tmp_path / "rocket.png")
    verdict(page).to_have_text("match: rocket")
    page.get_by_role("button", name="This is none of these").click()
    expect(page.locator(".said")).to_contain_text("was made a shot already; take that back")


def test_a_card_cannot_be_pressed_while_the_next_answer_is_on_its_way(page: Page, data: Path, tmp_path: Path) -> None:
    """What it would say, and its Undo, would go with it as soon as the answer comes."""
    save_crop(tmp_path / "ihc.png", "ihc:5")
    ask(page, data / CAT)
    verdict(page).to_have_text("match: cat")
    held: list[Route] = []
    page.route("**/v1/query*", lambda route: held.append(route))
    page.set_input_files("#file", tmp_path / "ihc.png")
    expect(page.locator("#query-status")).to_have_text("Looking ...")
    expect(page.locator("#answers")).to_have_js_property("inert", True)
    held[0].continue_()
    expect(page.locator("#answers")).to_have_js_property("inert", False)
    verdict(page).to_have_text("Unknown")


def test_what_was_added_to_be_said_something_of_goes_with_undo(page: Page, data: Path, tmp_path: Path) -> None:
    added = data / "things/6.preprocessed/added"
    before = sorted(added.iterdir()) if added.is_dir() else []
    save_crop(tmp_path / "ihc.png", "ihc:3")
    ask(page, tmp_path / "ihc.png")
    page.get_by_role("button", name="This is none of these").click()
    expect(page.locator(".said")).to_contain_text("It is a negative of things now")
    assert len(list(added.iterdir())) == len(before) + 1
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".said")).to_have_text("Taken back.")
    assert sorted(added.iterdir() if added.is_dir() else []) == before
    page.get_by_role("button", name="This is none of these").click()
    expect(page.locator(".said")).to_contain_text("It is a negative of things now")


def test_without_a_choice_the_best_backbone_answers_as_on_the_command_line(
    page: Page, data: Path, served: Served
) -> None:
    page.locator("#query-backbones input[value=hog]").uncheck()
    ask(page, data / CAT)
    best = served.ask(data / CAT)["backbone"]
    expect(page.locator(".answer .backbone")).to_have_text(best)


def test_words_are_searched_and_marked_and_lead_to_what_is_like_them(page: Page) -> None:
    page.get_by_role("link", name="Search").click()
    page.get_by_role("searchbox").fill("ginger")
    page.get_by_label("Compared with").select_option("captions")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#found mark")).to_have_text(["ginger"])
    expect(page.locator("#found li")).to_contain_text("a <b>ginger</b> cat")
    expect(page.locator("#search-status")).to_have_text("1 found by captions.")
    right = page.get_by_role("button", name="Right: things/cat")
    right.click()
    expect(right).to_have_attribute("aria-pressed", "true")
    page.get_by_label("False, at most").select_option("0.05")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#search-status")).to_contain_text(
        "Too few marks to promise anything: 1 marked query, 19 needed; nothing is left out."
    )
    page.get_by_role("button", name="More like").click()
    verdict(page).to_have_text("match: cat")
    page.get_by_text("Nearest images").click()
    wrong = page.get_by_role("button", name="Not this: things/coffee").first
    wrong.click()
    expect(page.locator(".said")).to_have_text("Marked.")
    expect(wrong).to_have_attribute("aria-pressed", "true")
    wrong.click()
    expect(page.locator(".said")).to_have_text("Taken back.")
    expect(wrong).to_have_attribute("aria-pressed", "false")


def test_an_answer_that_comes_late_does_not_take_the_place_of_a_later_one(page: Page, served: Served) -> None:
    page.evaluate("""() => {
        const ask = window.fetch; // the first search fails, and late
        let waits = { "/v1/search": 400, "/v1/images": 400, "/v1/map": 400 }; // milliseconds, for the first of each
        window.fetch = async (path, options) => {
            const place = path.split("?")[0];
            const wait = waits[place] ?? 0;
            waits[place] = 0;
            const response = await ask(path, options);
            await new Promise((done) => setTimeout(done, wait));
            if (wait && place === "/v1/search") throw new Error("late");
            return response;
        };
    }""")
    page.get_by_role("link", name="Search").click()
    page.get_by_label("Compared with").select_option("captions")
    for words in ("ginger", "nothing"):
        page.get_by_role("searchbox").fill(words)
        page.get_by_role("searchbox").press("Enter")
    page.get_by_role("link", name="Browse").click()
    page.locator("#browse-role").select_option("query")
    page.get_by_role("link", name="Map").click()
    first = page.locator("#map-backbone").input_value()
    last = "hog" if first == "clip" else "clip"
    page.locator("#map-backbone").select_option(last)
    page.wait_for_timeout(1000)  # until the late ones are there, too
    expect(page.locator("#search-status")).to_have_text("Nothing found by captions.")
    listed = page.locator("#images li").all_inner_texts()
    assert listed
    assert all("(query)" in words for words in listed)
    shares = [
        round(100 * served.get(f"/v1/map?category=things&backbone={backbone}")["explained"])
        for backbone in (first, last)
    ]
    assert shares[0] != shares[1]
    expect(page.locator("#map-status")).to_contain_text(f"the plane holds {shares[1]} %")


def test_an_index_run_is_watched_to_its_end(page: Page, data: Path) -> None:
    page.get_by_role("link", name="Browse").click()
    expect(page.locator("#images li").first).to_be_visible()
    before = page.locator("#images li").count()
    save_crop(data / "things/6.preprocessed/more.png", "coffee:9")
    (data / "things/6.preprocessed/broken.png").write_bytes(b"no image")
    page.get_by_role("button", name="Index what is new").click()
    expect(page.locator("#index-status")).to_have_text("Done: 1 added, 1 failed.")
    expect(page.locator("#images li")).to_have_count(before + 1)
    page.locator("#failures summary").click()
    expect(page.locator("#failures li")).to_contain_text("broken.png: not an image in any known format")


def mapped(page: Page, served: Served) -> dict[str, tuple[float, float]]:
    """Open the map of the whole category: where each image is on the screen, by its category, label and shot, or its id."""
    page.get_by_role("link", name="Map").click()
    expect(page.locator("#map-status")).to_contain_text("of their variance")
    page.locator("#map-canvas").scroll_into_view_if_needed()
    box = page.locator("#map-canvas").bounding_box()
    assert box is not None
    inner = {"width": box["width"] - 2, "height": box["height"] - 2}  # within its border
    side = min(inner.values()) - 40
    backbone = page.locator("#map-backbone").input_value()
    points = page.request.get(f"{served.url}/v1/map?category=things&backbone={backbone}").json()["points"]
    return {
        f"{point['label']}/{point['shot']}" if point["shot"] else str(point["id"]): (
            box["x"] + 1 + (inner["width"] - side) / 2 + point["x"] * side,
            box["y"] + 1 + (inner["height"] - side) / 2 + (1 - point["y"]) * side,
        )
        for point in points
    }


def test_the_map_shows_every_image_and_a_click_asks_about_it(page: Page, served: Served) -> None:
    places = mapped(page, served)
    assert len(places) >= len(SMALL)
    page.mouse.move(*places["cat/shot1"])
    expect(page.locator("#preview figcaption")).to_have_text("things/cat/shot1 (support)")
    page.mouse.click(*places["cat/shot1"])
    verdict(page).to_have_text("match: cat")


def test_the_map_is_moved_zoomed_and_filtered(page: Page, served: Served) -> None:
    x, y = mapped(page, served)["cat/shot1"]
    caption = page.locator("#preview figcaption")
    page.mouse.move(x, y)
    page.mouse.wheel(0, -600)  # what is under the pointer stays there
    page.mouse.move(x + 2, y)
    expect(caption).to_have_text("things/cat/shot1 (support)")
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=4)
    page.mouse.up()
    expect(page.locator("#map-title")).to_be_visible()  # dragging asks nothing
    page.mouse.move(x - 200, y)
    page.mouse.move(x + 58, y + 40)
    expect(page.locator("#map-canvas")).to_have_css("cursor", "pointer")
    page.get_by_role("button", name="cat", exact=True).click()
    page.mouse.move(x + 57, y + 40)
    expect(page.locator("#map-canvas")).to_have_css("cursor", "grab")  # of a label that is hidden nothing is there
    page.get_by_role("button", name="Whole map").click()
    page.get_by_role("button", name="cat", exact=True).click()
    page.mouse.move(x, y + 1)
    expect(caption).to_have_text("things/cat/shot1 (support)")


def test_what_is_drawn_around_is_chosen_and_reviewed(page: Page, data: Path, served: Served) -> None:
    save_crop(data / "things/6.preprocessed/drawn.png", "rocket:3")
    try:
        page.request.post(f"{served.url}/v1/index")
        while "drawn.png" not in page.request.get(f"{served.url}/v1/images?role=query").text():
            page.wait_for_timeout(50)
        page.reload()
        places = mapped(page, served)
        page.get_by_role("button", name="Choose by drawing").click()
        images = page.request.get(f"{served.url}/v1/images?role=query&limit=1000").json()["images"]
        [drawn] = [str(image["id"]) for image in images if image["path"].endswith("drawn.png")]
        x, y = places[drawn]
        page.mouse.move(x - 9, y - 9)
        page.mouse.down()
        for corner in ((x + 9, y - 9), (x + 9, y + 9), (x - 9, y + 9)):
            page.mouse.move(*corner, steps=3)
        page.mouse.up()
        expect(page.locator("#chosen-said")).to_have_text("1 image is chosen.")
        expect(page.locator("#chosen-images li")).to_have_attribute("data-image", drawn)
        page.get_by_role("button", name="Review 1 without a label").click()
        expect(page.locator("#review-labels")).to_contain_text("cat")
        expect(page.locator("#review-count")).to_contain_text("of 1")
        page.locator("#review-none").click()
        expect(page.locator("#review-status")).to_contain_text("Nothing of what was chosen is left to decide")
        page.locator("#review-undo").click()
        expect(page.locator("#review-said")).to_contain_text("back")
    finally:
        (data / "things/6.preprocessed/drawn.png").unlink()
        page.request.post(f"{served.url}/v1/index")


def test_by_keyboard_the_map_chooses_what_is_in_sight(page: Page, served: Served) -> None:
    count = len(mapped(page, served))
    page.locator("#map-canvas").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#chosen-said")).to_have_text(f"{count} images are chosen.")
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#chosen")).to_be_hidden()
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="None", exact=True).click()
    expect(page.locator("#chosen")).to_be_hidden()


def test_browse_shows_what_to_label_next(page: Page) -> None:
    page.get_by_role("link", name="Browse").click()
    page.locator("#browse-order").select_option("next")
    expect(page.locator("#browse")).to_contain_text(re.compile("disagreement|Every query has a label"))
    page.locator("#browse-order").select_option("")
    expect(page.locator("#images li").first).to_be_visible()


def test_a_policy_is_tried_on_all_labelled_queries_kept_by_hand_and_taken_back(page: Page, data: Path) -> None:
    ask(page, data / CAT)
    page.get_by_role("link", name="What another threshold does").click()
    outcomes = page.locator("#policy-outcomes")
    expect(page.locator("#policy-status")).to_contain_text("2 labelled queries by hog and ")
    expect(page.locator("#policy-category")).to_have_value("things")
    expect(outcomes.locator("tr", has_text="known: right")).to_contain_text("11")  # in force, and as tried
    keep, undo = page.locator("#policy-keep"), page.locator("#policy-undo")
    expect(keep).to_be_disabled()
    expect(undo).to_be_hidden()
    slide(page, "#policy-threshold", 1)
    expect(outcomes.locator("tr", has_text="known: right").locator("td")).to_have_text(["1", "0", "\N{MINUS SIGN}1"])
    lost = page.locator("#policy-flips section", has_text="Known images lost: 1")
    expect(lost.locator("li")).to_contain_text("refused: cat ")
    lost.locator(".enlarge").click()
    expect(page.locator("#large-place")).to_contain_text("cat")
    page.keyboard.press("Escape")
    keep.click()
    expect(page.locator("#policy-said")).to_have_text("Kept: it answers from now on.")
    expect(page.locator("#policy-status")).to_contain_text("threshold 1.000, margin")
    expect(page.locator("#policy-status")).to_contain_text("by hand")
    page.reload()
    expect(page.locator("#policy-status")).to_contain_text("by hand")
    undo.click()
    expect(page.locator("#policy-said")).to_have_text("Taken back.")
    expect(undo).to_be_hidden()
    assert page.locator("#policy-plot").evaluate("""plot => {
        const pixels = plot.getContext("2d").getImageData(0, 0, plot.width, plot.height).data;
        return new Set(Array.from({ length: pixels.length / 4 }, (_, at) => pixels.slice(4 * at, 4 * at + 3).join())).size > 10;
    }"""), "something is drawn"
    # Another size, or a switch to the dark, costs one more drawing, and not more with each.
    page.evaluate(
        "() => { window.drawn = 0; const frame = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (...given) { window.drawn += 1; return frame.apply(this, given); } }"
    )
    slide(page, "#policy-threshold", 0.5)
    page.set_viewport_size({"width": 1100, "height": 900})
    page.wait_for_timeout(300)
    assert 2 <= page.evaluate("window.drawn") <= 4


def test_faults_are_looked_for_and_what_is_known_is_saved(page: Page) -> None:
    page.get_by_role("link", name="Report").click()
    page.locator("#lint-now").click()
    expect(page.locator("#lint-status")).to_contain_text("warning")
    expect(page.locator("#faults section").first).to_contain_text("warning: ")
    with page.expect_download() as coming:
        page.get_by_role("button", name="As CSV").click()
    assert coming.value.suggested_filename == "nearshot.csv"
    assert coming.value.path().read_text().startswith("path,category,role,label")
    expect(page.locator("#export-status")).to_have_text("Written.")


def test_calibration_is_begun_on_the_page_and_says_why_it_cannot_be_done(page: Page) -> None:
    page.get_by_role("link", name="Policy").click()
    page.locator("#policy-calibrate").click()
    expect(page.locator("#policy-said")).to_contain_text("Nothing was changed. false-accept 0.05 needs 19 samples")
    expect(page.locator("#policy-calibrate")).to_be_enabled()


def test_what_was_added_is_removed_where_it_is_browsed(page: Page, served: Served, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (3, 200, 5)).save(tmp_path / "added.png")
    with (tmp_path / "added.png").open("rb") as file:
        added = page.request.post(
            f"{served.url}/v1/images",
            multipart={
                "category": "things",
                "image": {"name": "a.png", "mimeType": "image/png", "buffer": file.read()},
            },
        )
    assert added.ok, added.text()
    page.get_by_role("link", name="Browse").click()
    page.locator("#browse-role").select_option("query")
    remove = page.get_by_role("button", name=f"Remove image {added.json()['id']}, which was added")
    remove.click()
    expect(page.locator("#index-status")).to_have_text("Removed.")
    expect(remove).to_have_count(0)
    assert page.request.get(f"{served.url}/v1/images/{added.json()['id']}").status == 404


def test_the_report_opens(page: Page, served: Served) -> None:
    page.get_by_role("link", name="Report").click()
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Open the report").click()
    report = opened.value
    expect(report.get_by_role("heading", name="Evaluation")).to_be_visible()
    grounds = {}
    for scheme in ("light", "dark"):
        report.emulate_media(color_scheme=scheme)
        for width in (390, 1440):
            report.set_viewport_size({"width": width, "height": 900})
            assert report.evaluate("document.documentElement.scrollWidth") == width, "only tables scroll sideways"
            wide = report.evaluate(
                "[...document.querySelectorAll('.scroll')].map(each => each.scrollWidth - each.clientWidth)"
            )
            assert (max(wide) == 0) == (width == 1440)
        grounds[scheme] = report.locator("figure").first.evaluate("figure => getComputedStyle(figure).backgroundColor")
    assert grounds == {"light": "rgb(255, 255, 255)", "dark": "rgb(28, 28, 28)"}
    report.close()


def test_what_is_no_image_is_said_in_words(page: Page, tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("hello")
    page.set_input_files("#file", tmp_path / "words.png")
    expect(page.locator("#query-status")).to_have_text("words.png: not an image in any known format")


def test_everything_is_reached_by_keyboard_alone(page: Page, data: Path) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} is not reached by Tab")

    page.reload()
    expect(page.locator("#query-backbones input")).to_have_count(2)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    tab_to("#query-backbones input[value=hog]")
    page.keyboard.press("Space")
    tab_to("#file")
    ask(page, data / CAT)
    tab_to(".threshold")
    page.keyboard.press("End")
    verdict(page).to_have_text("Unknown")
    tab_to(".reset")
    page.keyboard.press("Enter")
    verdict(page).to_have_text("match: cat")
    page.locator("nav a").nth(1).focus()
    page.keyboard.press("Enter")
    tab_to("#words")
    page.keyboard.type("cat")
    page.keyboard.press("Enter")
    expect(page.locator("#found li").first).to_be_visible()


def test_a_picture_is_shown_large_and_its_neighbours_by_the_arrow_keys(page: Page) -> None:
    page.get_by_role("link", name="Browse").click()
    pictures = page.locator("#images .enlarge")
    expect(pictures.first).to_be_visible()
    alts = [picture.get_attribute("alt") for picture in page.locator("#images img").all()]
    pictures.first.click()
    large = page.locator("#large-picture")
    expect(page.locator("#large")).to_be_visible()
    expect(page.locator("#large-place")).to_contain_text("things/cat/shot1 (support)")
    page.wait_for_function("() => document.querySelector('#large-picture').src.startsWith('blob:')")
    page.keyboard.press("ArrowRight")
    expect(large).to_have_attribute("alt", str(alts[1]))
    page.keyboard.press("ArrowLeft")
    expect(large).to_have_attribute("alt", str(alts[0]))
    expect(page.get_by_role("button", name="The one before")).to_be_disabled()
    page.wait_for_function("() => document.querySelector('#large-picture').src.startsWith('blob:')")
    page.keyboard.press("z")
    assert large.evaluate("picture => [picture.clientWidth, picture.naturalWidth]") == [160, 160], "in its own pixels"
    page.keyboard.press("z")
    assert large.evaluate("picture => picture.clientWidth") > 800
    audit = Axe().run(page)
    assert audit.violations_count == 0, audit.generate_report()
    page.keyboard.press("Escape")
    expect(page.locator("#large")).to_be_hidden()
    expect(pictures.first).to_be_focused()
    page.locator("#browse-category").select_option("things")
    pictures.first.click()
    expect(page.locator("#large")).to_be_visible()
    page.go_back()
    expect(page.locator("#large")).to_be_hidden()
    pictures.first.click()
    page.locator("#large-like").click()
    verdict(page).to_have_text("match: cat")


def test_what_is_chosen_stands_in_the_address_and_comes_back_with_it(page: Page, served: Served) -> None:
    page.get_by_role("link", name="Browse").click()
    expect(page.locator("#images li").first).to_be_visible()
    everything = page.locator("#images li").count()
    page.locator("#browse-category").select_option("things")
    page.locator("#browse-label").select_option("coffee")
    page.locator("#browse-role").select_option("support")
    assert page.url == f"{served.url}/#browse?category=things&label=coffee&role=support"
    expect(page.locator("#images li")).to_have_count(2)
    page.reload()
    expect(page.locator("#images li")).to_have_count(2)
    expect(page.locator("#browse-label")).to_have_value("coffee")
    page.go_back()
    expect(page.locator("#browse-role")).to_have_value("")
    expect(page.locator("#browse-label")).to_have_value("coffee")
    page.goto(f"{served.url}/#browse?category=no-such&label=neither")
    expect(page.locator("#index-status")).to_contain_text("There is no category no-such, and no label neither here")
    expect(page.locator("#images li")).to_have_count(0)
    page.locator("#browse-role").select_option("query")
    page.locator("#browse-role").select_option("")
    expect(page.locator("#images li")).to_have_count(everything)

    page.goto(f"{served.url}/#search?q=ginger&mode=captions")
    expect(page.locator("#found mark")).to_have_text(["ginger"])
    page.get_by_role("searchbox").fill("nothing of it")
    page.get_by_role("searchbox").press("Enter")
    assert page.url == f"{served.url}/#search?q=nothing+of+it&mode=captions"
    expect(page.locator("#search-status")).to_have_text("Nothing found by captions.")
    page.go_back()
    expect(page.locator("#found mark")).to_have_text(["ginger"])


def test_an_address_with_an_image_is_one_of_its_answer(page: Page, served: Served) -> None:
    [image, *_] = served.get("/v1/images?category=things&label=cat&role=query")["images"]
    page.goto(f"{served.url}/#query?image={image['id']}&category=things&backbones=hog")
    verdict(page).to_have_text("match: cat")
    expect(page.locator("#query-category")).to_have_value("things")
    expect(page.locator("#query-backbones input:checked")).to_have_value("hog")
    page.locator("#query-score").select_option("prototype")
    expect(page.locator(".policy")).to_contain_text("By prototype")
    assert page.url.endswith(f"#query?image={image['id']}&category=things&score=prototype&backbones=hog")
    page.reload()
    expect(page.locator(".policy")).to_contain_text("By prototype")
    page.go_back()
    expect(page.locator("#query-score")).to_have_value("")
    page.goto(f"{served.url}/#query?image=x&backbones=no-such")
    expect(page.locator("#query-status")).to_contain_text("There is no backbone no-such, and no image x here")


def test_labels_are_found_by_their_name(page: Page) -> None:
    page.get_by_role("link", name="Search").click()
    page.get_by_role("searchbox").fill("Cof")
    page.get_by_role("searchbox").press("Enter")
    expect(page.locator("#named li")).to_have_text(["things/coffee 2 shots"])
    page.locator("#named a").click()
    expect(page.locator("#browse-label")).to_have_value("coffee")
    expect(page.locator("#images li").first).to_contain_text("things/coffee")


def test_what_comes_next_is_there_before_somebody_scrolls_to_it(page: Page) -> None:
    def few(route: Route) -> None:
        route.continue_(url=f"{route.request.url}&limit=2")

    page.get_by_role("link", name="Browse").click()
    expect(page.locator("#images li").first).to_be_visible()
    everything = page.locator("#images li").count()
    page.route("**/v1/images?*", few)
    page.reload()
    expect(page.locator("#images li")).to_have_count(everything)
    assert (
        len(set(page.locator("#images li").evaluate_all("items => items.map(item => item.dataset.image)")))
        == everything
    )


def test_several_backbones_stand_side_by_side_with_one_form(page: Page, data: Path, tmp_path: Path) -> None:
    page.locator("#query-backbones input[value=clip]").check()
    page.set_input_files("#file", data / CAT)
    expect(page.locator(".compared tbody tr")).to_have_count(2)
    rows = page.locator(".compared tbody th").all_inner_texts()
    assert sorted(rows) == ["clip", "hog"]
    verdicts = set(page.locator(".compared tbody td:nth-child(2)").all_inner_texts())
    agreed = "All of them match things/cat." if verdicts == {"match: cat"} else "They do not agree."
    expect(page.locator(".agreed")).to_have_text(agreed)
    expect(page.locator(".feedback")).to_have_count(1)
    expect(page.locator(".answer")).to_have_count(2)
    audit = Axe().run(page)
    assert audit.violations_count == 0, audit.generate_report()
    page.locator(".answer .hits summary").first.click()
    for role in ("shots", "queries"):
        shown = page.locator(f".answer .{role}").first.locator("li")
        assert shown.count() > 0
        assert all(("/shot" in words) == (role == "shots") for words in shown.all_text_contents())
    save_crop(tmp_path / "rocket.png", "rocket:3")
    page.locator("#query-category").select_option("things")
    page.set_input_files("#file", tmp_path / "rocket.png")
    expect(page.locator(".compared tbody tr")).to_have_count(2)
    page.get_by_role("button", name="This is none of these").click()
    expect(page.locator(".compared .said")).to_contain_text("It is a negative of things now")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".compared .said")).to_have_text("Taken back.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_axe_finds_no_fault_on_any_view_on_phone_and_desktop_light_and_dark(
    page: Page, data: Path, scheme: Any, width: int
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    ask(page, data / CAT)
    for view in ("Query", "Search", "Browse", "Map", "Policy", "Report"):
        page.get_by_role("link", name=view, exact=True).click()
        page.wait_for_timeout(200)
        audit = Axe().run(page)
        assert audit.violations_count == 0, audit.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{view} scrolls sideways"


def test_a_service_with_keys_asks_for_one(
    browser: Browser, data: Path, weights: Path, tmp_path: Path, nearshot: Callable[..., Any]
) -> None:
    secret = nearshot("keys", "add", "me", "--file", tmp_path / "keys.json").stdout.strip()
    with Store(tmp_path / "store", create=True) as store:
        run_index(store, data)
    service = Served(tmp_path / "store", "--api-keys", str(tmp_path / "keys.json"))
    page = browser.new_page()
    page.goto(service.url)
    page.get_by_label("API key").fill("wrong")
    page.get_by_role("button", name="Use it").click()
    expect(page.locator("#key-said")).to_have_text("That key is not known here, or may not do this.")
    page.get_by_label("API key").fill(secret)
    page.get_by_role("button", name="Use it").click()
    page.get_by_role("link", name="Browse").click()
    expect(page.locator("#images li").first).to_be_visible()
    page.wait_for_function("() => document.querySelector('#images img').naturalWidth > 0")
    expect(page.locator("#key-form")).to_be_hidden()
    page.close()
    assert service.end()[0] == 0


@pytest.mark.usefixtures("compiled")
def test_the_picture_in_the_readme_shows_this_page(browser: Browser, tmp_path: Path) -> None:
    """With NEARSHOT_PICTURES=1 it is made anew; compared in the rough, since each browser draws letters its own way."""
    subprocess.run([sys.executable, ROOT / "examples/make_demo.py", tmp_path / "demo"], check=True)
    with Store(tmp_path / "store", create=True) as store:
        run_index(store, tmp_path / "demo", IndexOptions(backbones=("lite0",), device="cpu"))
    service = Served(tmp_path / "store")
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    page.goto(service.url)
    page.locator("#query-category").select_option("textures")
    ask(page, tmp_path / "demo/textures/6.preprocessed/both/grass-and-gravel.png")
    verdict(page).to_have_text("ambiguous")
    for image in ("asked", "nearest", "runner-up"):
        page.wait_for_function("one => document.querySelector(`.${one} img`).naturalWidth > 0", arg=image)
    same_picture(page, ROOT / "docs/page.png", tmp_path)
    page.close()
    assert service.end() == (0, "")


def same_picture(page: Page, shown: Path, tmp_path: Path) -> None:
    """Compare the page with its picture, in the rough, or make the picture anew."""
    picture = shown if os.environ.get("NEARSHOT_PICTURES") else tmp_path / "page.png"
    page.screenshot(path=picture, full_page=True)
    now, before = (Image.open(path).convert("L") for path in (picture, shown))
    assert now.width == before.width
    assert abs(now.height - before.height) < 60
    small = (50, 60)
    differences = np.abs(
        np.subtract(*(np.asarray(screenshot.resize(small), dtype=float) for screenshot in (now, before)))
    )
    bands = differences.reshape(12, 5, 50).mean(axis=(1, 2))  # so that no part of the page can vanish among the rest
    assert bands.max() < 3, f"run this test with NEARSHOT_PICTURES=1, look at {shown}, and commit it"
