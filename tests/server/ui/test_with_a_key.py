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


def test_when_the_session_ends_results_stay_and_the_rest_goes_on_after_the_login(stranger: Visit) -> None:
    stranger.page.goto(f"{stranger.address}/ui")
    page = log_in(stranger)
    expect(page.locator("#limits")).to_contain_text("MB")
    stranger.choose(RED)
    stranger.finished(1)
    page.context.clear_cookies()
    stranger.choose(PICTURES / "blue-square.png")
    expect(page.get_by_role("alert")).to_contain_text("session has ended")
    expect(stranger.cards).to_have_count(1)
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Log in").click()
    log_in(Visit(popup.value, stranger.address))
    expect(popup.value.locator("#limits")).to_contain_text("MB")
    page.get_by_role("button", name="Continue").click()
    expect(stranger.card("blue-square.png").locator(".badge").first).to_have_text("Safe")


def test_without_results_the_end_of_a_session_leads_to_the_login(stranger: Visit) -> None:
    stranger.page.goto(f"{stranger.address}/ui")
    page = log_in(stranger)
    expect(page.locator("#limits")).to_contain_text("MB")
    page.context.clear_cookies()
    page.get_by_role("link", name="Health").click()
    expect(page.get_by_label("API key")).to_be_visible()
