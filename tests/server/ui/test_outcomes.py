"""What a person sees first: results above the fold, what judges, one outcome a picture, what is covered."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from playwright.sync_api import ViewportSize, expect

from clipmod_cli.errors import ERROR_CODES
from clipmod_cli.server.ui.page import STATIC
from clipmod_cli.types import ReviewReason
from tests.server.ensemble.test_unseen import HIT
from tests.server.ui.serving import PICTURES, Visit

RED, BLUE = PICTURES / "red-circle.jpg", PICTURES / "blue-square.png"
BROKEN = b"\x89PNG\r\n\x1a\n and no more"
LAPTOP: ViewportSize = {"width": 1280, "height": 720}
SMALL_PHONE: ViewportSize = {"width": 360, "height": 640}
SMALLEST_TARGET = 44
DRAWN = """one => {
    const { right, height } = one.getBoundingClientRect();
    return { right, height, text: one.textContent.trim() };
}"""


@pytest.mark.parametrize("size", [LAPTOP, SMALL_PHONE])
def test_results_begin_above_the_fold(desk: Visit, size: ViewportSize) -> None:
    desk.page.set_viewport_size(size)
    page = desk.open()
    large = page.locator(".intake").bounding_box()
    desk.choose(RED, BLUE)
    desk.finished(2)
    small, card = page.locator(".intake").bounding_box(), desk.cards.first.bounding_box()
    assert large is not None
    assert small is not None
    assert card is not None
    assert small["height"] < large["height"] / 2
    assert card["y"] + 100 < size["height"]
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_text("Drop pictures or folders here")).to_be_visible()


def test_what_judges_is_named_and_an_allowed_policy_can_be_chosen(desk: Visit) -> None:
    page = desk.open()
    line, policy = page.locator("#judging"), page.get_by_label("Policy")
    expect(policy).to_have_value("shapes")
    for words in ("NSFW from 50 %", "Models tiny-l, tiny-h, tiny-g", "Looks at all of each picture"):
        expect(line).to_contain_text(words)
    expect(line).to_contain_text(re.compile(r"clipmod \d"))
    desk.choose(BLUE)
    desk.finished(1)
    policy.select_option("squares")
    expect(line).not_to_contain_text("50 %")
    desk.choose_made({"again.png": BLUE.read_bytes()})
    desk.finished(2)
    expect(desk.card("blue-square.png").locator(".badge").first).to_have_text("Safe")
    expect(desk.card("again.png").locator(".badge").first).to_have_text("NSFW")


def test_all_but_safe_pictures_are_covered_until_revealed(desk: Visit) -> None:
    page = desk.open()
    desk.choose_made(
        {"cut.jpg": HIT, "broken.png": BROKEN, "b.png": BLUE.read_bytes(), "r.jpg": RED.read_bytes()}
    )
    desk.finished(4)
    expect(page.locator(".blurred")).to_have_count(2)
    expect(desk.card("b.png").locator(".blurred")).to_have_count(0)
    expect(desk.card("b.png").get_by_role("button", name="Reveal")).to_have_count(0)
    reveal = desk.card("r.jpg").get_by_role("button", name="Reveal r.jpg")
    reveal.press("Enter")
    expect(desk.card("r.jpg").locator(".blurred")).to_have_count(0)
    expect(desk.card("cut.jpg").locator(".blurred")).to_have_count(1)
    desk.card("r.jpg").get_by_role("button", name="Hide again r.jpg").press("Enter")
    expect(desk.card("r.jpg").locator(".blurred")).to_have_count(1)


def test_an_error_is_its_own_count_and_never_one_of_the_judged(desk: Visit) -> None:
    page = desk.open()
    desk.allow("400")
    desk.choose_made({"broken.png": BROKEN, "b.png": BLUE.read_bytes(), "r.jpg": RED.read_bytes()})
    desk.finished(3)
    expect(page.locator("#run-text")).to_have_text("3 pictures: 1 NSFW, 0 to review, 1 Safe, 1 error")
    desk.choose_made({"alone.png": BROKEN})
    desk.finished(4)
    expect(page.locator("#run-text")).to_have_text("4 pictures: 1 NSFW, 0 to review, 1 Safe, 2 errors")
    expect(desk.card("alone.png")).to_contain_text("The file is damaged")
    desk.card("alone.png").get_by_role("button", name="Details").click()
    dialog = page.get_by_role("dialog", name="alone.png")
    expect(dialog.locator(".advice")).to_contain_text("Get it again from where it came from")
    expect(dialog).to_contain_text("decode_error")


def test_on_a_small_phone_nothing_is_cut_and_all_can_be_touched(phone: Visit) -> None:
    page = phone.page
    page.set_viewport_size(SMALL_PHONE)
    phone.open()
    phone.choose(RED, BLUE)
    phone.finished(2)
    for name in ("Statistics", "Health", "Configuration", "Analyse"):
        page.get_by_role("link", name=name, exact=True).tap()
        expect(page.locator("main > section:visible .panel, .card:visible").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= SMALL_PHONE["width"], name
        cells = [one.evaluate(DRAWN) for one in page.locator("td:visible, th:visible, a:visible").all()]
        assert [one for one in cells if one["right"] > SMALL_PHONE["width"]] == []
    buttons = [one.evaluate(DRAWN) for one in page.locator("button:visible, select:visible").all()]
    assert [one for one in buttons if one["height"] < SMALLEST_TARGET] == []


def test_every_code_has_words() -> None:
    words = (STATIC / "explain.js").read_text(encoding="utf-8")
    known = set(re.findall(r"^  (\w+): \[", words, re.MULTILINE))
    assert known == {*ERROR_CODES, *get_args(ReviewReason)}
