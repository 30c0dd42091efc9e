"""The page around the pictures: sections, colours, phone, keyboard, what it is served with."""

from __future__ import annotations

import http.client
import re
from urllib.parse import urlsplit

from playwright.sync_api import expect

from clipmod_cli.server.ui.page import EDITION, FILES
from tests.server.ui.serving import PICTURES, Visit

TINY_PHONE = 320
SOMETHING = re.compile(r"\S")
RED = PICTURES / "red-circle.jpg"


def test_statistics_health_and_configuration_are_shown(desk: Visit) -> None:
    page = desk.open()
    desk.choose(RED)
    desk.finished(1)
    page.get_by_role("link", name="Statistics").click()
    expect(page.get_by_role("heading", name="Statistics")).to_be_focused()
    expect(page.locator(".legend")).to_contain_text("NSFW: ")
    expect(page.get_by_text("99 of 100 within")).to_have_count(2)
    expect(page.locator(".stacked .part.nsfw")).not_to_have_attribute("width", "0")
    page.get_by_role("link", name="Health").click()
    expect(page.locator("#health .notice")).to_contain_text("healthy")
    expect(page.get_by_role("table", name="Models")).to_contain_text("triple_ensemble")
    page.get_by_role("link", name="Configuration").click()
    expect(page.get_by_role("table", name="Categories")).to_contain_text("any red disc")
    page.go_back()
    expect(page.get_by_role("heading", name="Health")).to_be_visible()
    page.get_by_role("link", name="Analyse").click()
    expect(desk.card("red-circle.jpg")).to_be_visible()


def test_colours_and_blur_are_remembered(desk: Visit) -> None:
    page = desk.open()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Colours: device").click()
    page.get_by_role("button", name="Colours: light").click()
    dark = page.evaluate(ground)
    assert dark != light
    desk.choose(RED)
    desk.finished(1)
    desk.choose(PICTURES / "blue-square.png")
    desk.finished(2)
    expect(page.locator(".blurred")).to_have_count(1)
    page.get_by_label("Blur Safe ones too").check()
    expect(page.locator(".blurred")).to_have_count(2)
    desk.open()
    assert page.evaluate(ground) == dark
    desk.choose(PICTURES / "blue-square.png")
    desk.finished(1)
    expect(page.locator(".blurred")).to_have_count(1)
    page.get_by_label("Blur Safe ones too").uncheck()
    expect(page.locator(".blurred")).to_have_count(0)


def test_it_fits_a_phone_and_follows_its_dark_colours(phone: Visit) -> None:
    page = phone.open()
    phone.choose(RED, PICTURES / "blue-square.png")
    phone.finished(2)
    wide = "document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 21, 25)"
    phone.card("red-circle.jpg").get_by_role("button", name="Details").tap()
    page.get_by_role("button", name="Show what each model says").tap()
    expect(page.locator(".model h3").first).to_be_in_viewport()
    expect(page.get_by_role("button", name="Close")).to_be_in_viewport()
    page.get_by_role("button", name="Close").tap()
    for width in (390, TINY_PHONE):
        page.set_viewport_size({"width": width, "height": 640})
        for name in ("Statistics", "Health", "Configuration", "Analyse"):
            page.get_by_role("link", name=name, exact=True).tap()
            expect(page.locator("main > section:visible h1")).to_contain_text(name)
            assert page.evaluate(wide) <= 0, (name, width)


def test_it_works_with_the_keyboard_alone(desk: Visit) -> None:
    page = desk.open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Policy")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#choose")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(str(RED))
    desk.finished(1)
    desk.card("red-circle.jpg").get_by_role("button", name="Reveal").focus()
    page.keyboard.press("Space")
    expect(page.locator(".blurred")).to_have_count(0)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_everything_has_a_name_for_those_who_do_not_see_it(desk: Visit) -> None:
    page = desk.open()
    desk.choose(RED, PICTURES / "blue-square.png")
    desk.finished(2)
    expect(page.get_by_role("status")).to_contain_text("2 pictures: 1 NSFW, 0 to review, 1 Safe, 0 errors")
    controls = page.locator("button:visible, a:visible, select:visible, textarea:visible, input:visible")
    for control in controls.all():
        expect(control).to_have_accessible_name(SOMETHING)
    assert page.locator("h1:visible").count() == 1
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))


def test_its_files_are_kept_by_browsers_and_no_other_is_given(desk: Visit) -> None:
    host = urlsplit(desk.address).netloc

    def ask(path: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(host)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    for name in FILES:
        answer = ask(f"/ui/static/{EDITION}/{name}")
        assert answer.status == 200
        assert "immutable" in str(answer.headers["Cache-Control"])
    for path in (
        f"{EDITION}/page.html",
        f"{EDITION}/..%2fpage.py",
        f"{EDITION}/%2e%2e/page.py",
        "other/app.js",
    ):
        assert ask(f"/ui/static/{path}").status == 404
    for path in ("/ui", "/ui/"):
        policy = str(ask(path).headers["Content-Security-Policy"])
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
