"""The page of a service that wants a key, keeps no pictures and has no store."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.server.ui.serving import KEY, PICTURES, Visit

RED = PICTURES / "red-circle.jpg"


def log_in(stranger: Visit, key: str = KEY) -> Page:
    stranger.page.get_by_label("API key").fill(key)
    stranger.page.get_by_role("button", name="Open").click()
    return stranger.page


def test_the_key_is_asked_for_once_and_given_back_at_the_end(stranger: Visit) -> None:
    stranger.page.goto(f"{stranger.address}/ui")
    page = log_in(stranger, "a wrong one")
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    log_in(stranger)
    expect(page.locator("#judging")).to_contain_text("Policy shapes NSFW from 50 %")
    expect(page.locator("#limits")).to_contain_text("MB")
    stranger.choose(RED)
    stranger.finished(1)
    expect(stranger.card("red-circle.jpg").locator(".badge").first).to_have_text("NSFW")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.goto(f"{stranger.address}/ui")
    expect(page.get_by_label("API key")).to_be_visible()


def test_without_a_store_the_statistics_say_so(stranger: Visit) -> None:
    stranger.page.goto(f"{stranger.address}/ui")
    page = log_in(stranger)
    stranger.allow("404")
    page.get_by_role("link", name="Statistics").click()
    expect(page.locator("#statistics .notice")).to_contain_text("--no-db")


def test_when_the_session_ends_the_key_is_asked_for_and_the_rest_goes_on(stranger: Visit) -> None:
    stranger.page.goto(f"{stranger.address}/ui")
    page = log_in(stranger)
    expect(page.locator("#limits")).to_contain_text("MB")
    stranger.choose(RED)
    stranger.finished(1)
    page.context.clear_cookies()
    stranger.choose(PICTURES / "blue-square.png")
    dialog = page.get_by_role("dialog", name="Your session has ended")
    expect(dialog.get_by_label("API key")).to_be_focused()
    dialog.get_by_label("API key").fill("a wrong one")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("not valid")
    dialog.get_by_label("API key").fill(KEY)
    page.keyboard.press("Enter")
    expect(stranger.card("blue-square.png").locator(".badge").first).to_have_text("Safe")
    expect(stranger.cards).to_have_count(2)


def test_a_section_is_filled_after_the_key_was_given_again(stranger: Visit) -> None:
    stranger.page.goto(f"{stranger.address}/ui")
    page = log_in(stranger)
    expect(page.locator("#limits")).to_contain_text("MB")
    page.context.clear_cookies()
    page.get_by_role("link", name="Health").click()
    page.get_by_role("dialog").get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#health .notice")).to_contain_text("healthy")
