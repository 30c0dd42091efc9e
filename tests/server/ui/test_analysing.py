"""A person analyses pictures: one, many, a folder, by address; looks, filters, stops, takes results along."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.server.ensemble.test_unseen import HIT, SAFE
from tests.server.ui.serving import PICTURES, Visit

RED = PICTURES / "red-circle.jpg"
BLUE = PICTURES / "blue-square.png"
HOSTILE = "<img src=x onerror=alert(1)>.jpg"
PAGE_CARDS = 120
SLOW_BYTES_PER_S = 30_000


def test_one_file_is_judged_revealed_and_told_in_detail(desk: Visit) -> None:
    page = desk.open()
    desk.choose(RED)
    desk.finished(1)
    card = desk.card("red-circle.jpg")
    expect(card.locator(".badge").first).to_have_text("NSFW")
    expect(card).to_contain_text("red circle")
    expect(card.get_by_role("meter")).to_have_attribute("aria-label", re.compile("NSFW from 50 %"))
    expect(card.locator(".thumb")).to_have_class(re.compile("blurred"))
    card.get_by_role("button", name="Reveal red-circle.jpg").click()
    expect(card.locator(".thumb")).not_to_have_class(re.compile("blurred"))

    details = card.get_by_role("button", name="Details of red-circle.jpg")
    details.click()
    dialog = page.get_by_role("dialog", name="red-circle.jpg")
    expect(dialog.locator(".model h3")).to_have_count(3)
    for name in ("tiny-l", "tiny-h", "tiny-g"):
        expect(dialog.locator(".model").filter(has_text=name).locator(".unsafe")).to_contain_text(
            "red circle"
        )
    expect(dialog).to_contain_text(re.compile("SHA-256[0-9a-f]{64}"))
    dialog.get_by_text("The answer as JSON").click()
    told = json.loads(dialog.locator("pre").inner_text())
    assert told["final_decision"] == "NSFW"
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(details).to_be_focused()


def test_a_card_says_why_a_person_should_look(desk: Visit) -> None:
    page = desk.open()
    desk.choose_made({"cut.jpg": HIT, "lost.jpg": SAFE})
    desk.finished(2)
    card = desk.card("cut.jpg")
    expect(card.locator(".badges")).to_contain_text("NSFW")
    expect(card.locator(".reasons")).to_contain_text("The file ends early")
    expect(desk.card("lost.jpg")).to_contain_text("Not called Safe: the file ends early")
    card.get_by_role("button", name="Details of cut.jpg").click()
    dialog = page.get_by_role("dialog", name="cut.jpg")
    expect(dialog.locator(".advice")).to_contain_text("Get the whole file and judge it again")
    expect(dialog).to_contain_text(re.compile("Shown to the models100 %"))


def test_many_stream_in_and_are_counted_filtered_sorted_and_taken_along(desk: Visit) -> None:
    page = desk.open()
    broken = {"broken.png": b"\x89PNG\r\n\x1a\n and no more"}
    desk.choose(*sorted(PICTURES.iterdir()))
    desk.finished(10)
    desk.choose_made(broken)
    desk.allow("400")
    desk.finished(11)
    expect(desk.cards).to_have_count(11)
    chips = page.get_by_role("group", name="Show")
    chips.get_by_role("button", name="NSFW").click()
    expect(desk.card("red-circle.jpg")).to_be_visible()
    expect(desk.card("blue-square.png")).to_have_count(0)
    assert {one.inner_text() for one in desk.cards.locator(".badge:first-child").all()} == {"NSFW"}
    chips.get_by_role("button", name="Errors 1").click()
    expect(desk.cards).to_have_count(1)
    expect(desk.cards).to_contain_text("The file is damaged")
    assert sum(_chips(page)[1:]) == _chips(page)[0] == 11
    chips.get_by_role("button", name="All 11").click()
    page.get_by_label("Sort").select_option("score")
    expect(desk.cards.first).to_contain_text("Error")
    expect(desk.cards.nth(1)).to_contain_text("NSFW")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    lines = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert {one["source"] for one in lines} == {*(p.name for p in PICTURES.iterdir()), "broken.png"}
    assert [one["code"] for one in lines if "error" in one] == ["decode_error"]
    page.get_by_role("button", name="Clear").click()
    expect(desk.cards).to_have_count(0)
    expect(page.locator("#choose")).to_be_focused()


def _chips(page: Page) -> list[int]:
    """The numbers beside the filters: all, then each outcome."""
    return [int(one.inner_text()) for one in page.locator("#filters .number").all()]


def test_of_a_streamed_one_the_models_are_asked_when_a_person_wants_to_know(desk: Visit) -> None:
    page = desk.open()
    desk.choose(RED, BLUE)
    desk.finished(2)
    desk.card("blue-square.png").get_by_role("button", name="Details").click()
    page.get_by_role("button", name="Show what each model says").click()
    expect(page.locator(".model")).to_have_count(3)
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("dialog")).to_have_accessible_name("red-circle.jpg")
    expect(page.get_by_role("button", name="Earlier result")).to_be_disabled()


def test_a_folder_is_taken_to_its_depths_dropped_or_chosen(desk: Visit, folder: Path) -> None:
    (folder / "deep" / "deeper").mkdir(parents=True)
    shutil.copy(RED, folder / "a.jpg")
    shutil.copy(BLUE, folder / "deep" / "deeper" / "b.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden").write_text("clutter")
    page = desk.open()
    files = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 200, "data": files})
    desk.finished(2)
    expect(page.get_by_role("alert")).to_contain_text("2 files of the folder left out")
    names = {one.inner_text() for one in desk.cards.locator(".name").all()}
    assert names == {"holiday/a.jpg", "holiday/deep/deeper/b.png"}
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Folder", exact=True).click()
    chooser.value.set_files(str(folder))
    expect(desk.card("holiday/deep/deeper/b.png")).to_have_count(2)


def test_a_picture_can_be_pasted(desk: Visit) -> None:
    page = desk.open()
    page.evaluate(
        """bytes => {
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
        }""",
        list(BLUE.read_bytes()),
    )
    desk.finished(1)
    expect(desk.cards.locator(".name")).to_contain_text("pasted")
    expect(desk.cards.locator(".badge").first).to_have_text("Safe")


def test_of_addresses_each_gets_an_end(desk: Visit) -> None:
    page = desk.open()
    page.get_by_label("Or by their addresses").fill("http://127.0.0.1:9/secret.jpg\nnonsense")
    page.get_by_role("button", name="Analyse addresses").click()
    expect(desk.card("http://127.0.0.1:9/secret.jpg")).to_contain_text("may not go to this address")
    expect(desk.card("nonsense")).to_contain_text("no http or https address")
    expect(desk.cards).to_have_count(2)
    expect(page.locator("#choose")).to_be_focused()
    expect(page.get_by_label("Or by their addresses")).to_be_hidden()
    page.get_by_role("button", name="Addresses", exact=True).click()
    expect(page.get_by_label("Or by their addresses")).to_be_focused()


def test_a_name_is_text_whatever_it_says(desk: Visit, folder: Path) -> None:
    shutil.copy(RED, folder / HOSTILE)
    page = desk.open()
    desk.choose(folder / HOSTILE)
    desk.finished(1)
    expect(desk.card(HOSTILE)).to_have_count(1)
    desk.card(HOSTILE).get_by_role("button", name="Details").click()
    expect(page.locator("#details-title")).to_have_text(HOSTILE)
    assert page.locator("img[onerror]").count() == 0


def test_the_page_stays_small_however_many_there_are(desk: Visit) -> None:
    page = desk.open()
    data = BLUE.read_bytes()
    desk.choose_made({f"{i:03}.png": data for i in range(PAGE_CARDS + 13)})
    desk.finished(PAGE_CARDS + 13)
    expect(desk.cards).to_have_count(PAGE_CARDS)
    page.get_by_role("button", name="Next").click()
    expect(desk.cards).to_have_count(13)
    expect(page.locator("#page-text")).to_have_text("Page 2 of 2")
    expect(desk.cards.first).to_contain_text("120.png")


def test_stopped_it_can_be_continued_and_nothing_is_lost_or_judged_twice(desk: Visit) -> None:
    page = desk.open()
    data = BLUE.read_bytes()
    network = page.context.new_cdp_session(page)
    speed = {"offline": False, "latency": 0, "downloadThroughput": -1}
    network.send("Network.enable")
    network.send("Network.emulateNetworkConditions", {**speed, "uploadThroughput": SLOW_BYTES_PER_S})
    names = {f"{i:02}.png" for i in range(60)}
    desk.choose_made(dict.fromkeys(sorted(names), data))
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#run-text")).to_contain_text("not judged")
    network.send("Network.emulateNetworkConditions", {**speed, "uploadThroughput": -1})
    page.get_by_role("button", name="Continue").click()
    desk.finished(60)
    shown = [one.inner_text() for one in desk.cards.locator(".name").all()]
    assert len(shown) == 60
    assert set(shown) == names


def test_a_service_out_of_reach_and_a_file_that_is_gone_are_said(desk: Visit, folder: Path) -> None:
    files = [folder / f"{name}.png" for name in "abc"]
    for file in files:
        shutil.copy(BLUE, file)
    page = desk.open()
    desk.allow("net::ERR_")
    page.context.set_offline(True)
    desk.choose(*files)
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    files[1].unlink()
    page.context.set_offline(False)
    page.get_by_role("button", name="Continue").click()
    desk.finished(3)
    expect(desk.card("b.png")).to_contain_text("could not be read")
    expect(desk.card("a.png").locator(".badge").first).to_have_text("Safe")
    expect(desk.card("c.png").locator(".badge").first).to_have_text("Safe")
