"""A service that is busy, away or in trouble: the page says so, waits, goes on, and loses nothing."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect

from tests.server.ui.serving import PICTURES, Visit

RED, BLUE = PICTURES / "red-circle.jpg", PICTURES / "blue-square.png"


def refuse_some(page: Page, status: int, times: int, retry_s: int) -> list[str]:
    """Answer the next requests that judge as a busy service does, then let them through; return both."""
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) > times:
            return route.continue_()
        told = {"detail": "The service is busy. Try again soon"}
        return route.fulfill(status=status, json=told, headers={"Retry-After": str(retry_s)})

    page.route("**/predict/**", answer)
    return asked


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_waited_for_and_asked_again(desk: Visit, status: int) -> None:
    page = desk.open()
    desk.allow(str(status))
    asked = refuse_some(page, status, times=2, retry_s=1)
    desk.choose(RED, BLUE)
    desk.finished(2)
    assert len(asked) == 3
    expect(desk.card("red-circle.jpg").locator(".badge").first).to_have_text("NSFW")
    expect(desk.card("blue-square.png").locator(".badge").first).to_have_text("Safe")


def test_a_long_wait_can_be_stopped_cut_short_and_continued(desk: Visit) -> None:
    page = desk.open()
    desk.allow("503")
    refuse_some(page, 503, times=2, retry_s=600)
    desk.choose(RED, BLUE)
    expect(page.locator("#run-text")).to_contain_text("The service is busy. Trying again in")
    expect(page.locator("#run-text")).to_contain_text("0 of 2 done")
    expect(page.locator("#said")).to_contain_text("Waiting to try again")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#run-text")).to_have_text("Stopped: 2 of 2 not judged")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Try now").click()
    desk.finished(2)


def test_an_ending_or_failing_service_is_told_in_a_banner(desk: Visit) -> None:
    page = desk.open()
    desk.allow("503")
    banner = page.locator("#banner")
    expect(banner).to_be_hidden()
    look = "document.dispatchEvent(new Event('visibilitychange'))"
    ending = {"status": "not ready", "models_loaded": True, "queue_full": False, "draining": True}
    page.route("**/readyz", lambda route: route.fulfill(status=503, json=ending))
    page.evaluate(look)
    expect(banner).to_contain_text("The service is ending")
    page.unroute("**/readyz")

    def degrade(route: Route) -> None:
        told = route.fetch().json()
        told["status"], told["models"]["judging"] = "degraded", "openclip_fallback"
        route.fulfill(json=told)

    page.route("**/health", degrade)
    page.evaluate(look)
    expect(banner).to_contain_text("a fallback judges in their place")
    page.unroute("**/health")
    page.evaluate(look)
    expect(banner).to_be_hidden()


def test_what_the_service_had_no_time_for_can_be_tried_again(desk: Visit) -> None:
    page = desk.open()
    desk.allow("504")
    refuse_some(page, 504, times=1, retry_s=0)
    desk.choose(RED)
    expect(page.locator("#run-text")).to_have_text("1 picture: 0 NSFW, 0 to review, 0 Safe, 1 error")
    page.get_by_role("button", name="Try errors again").click()
    expect(page.locator("#run-text")).to_have_text("1 picture: 1 NSFW, 0 to review, 0 Safe, 0 errors")
    expect(desk.cards).to_have_count(1)
