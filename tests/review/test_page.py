"""The page as a person uses it: by keyboard alone, by touch, and what comes to it before a key is held."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from clipmod_cli.output.reading.withheld import withheld_path
from clipmod_cli.review.decisions import read_decisions
from clipmod_cli.review.queue.pictures import DETAIL
from tests.end_to_end.command import SAMPLES
from tests.review.conftest import Reviewed, ReviewVisit, ended
from tests.video.films import scene, write_film

PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
    "color_scheme": "dark",
}
NAMES = ("cat.png", "astronaut.jpg", "coffee.webp", "horse.bmp")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Four photographs."""
    return [Path(shutil.copy(SAMPLES / name, tmp_path / name)) for name in NAMES]


def labels(visit: ReviewVisit) -> dict[str, tuple[str, str | None]]:
    state = read_decisions(visit.decisions)
    return {Path(one.source).name: (one.label, one.category) for one in state.current.values()}


def detail(data: bytes) -> float:
    """Return how far a picture is from what is left of it in `DETAIL` pixels, in levels."""
    grey = Image.open(io.BytesIO(data)).convert("L")
    scale = DETAIL / max(grey.size)
    small = grey.resize([max(round(side * scale), 1) for side in grey.size], Image.Resampling.BICUBIC)
    again = small.resize(grey.size, Image.Resampling.BICUBIC)
    return float(np.abs(np.asarray(grey, np.float32) - np.asarray(again, np.float32)).mean())


def test_no_sharp_byte_comes_before_the_key_is_held(reviewed: Reviewed, photos: list[Path]) -> None:
    """All pictures that come are compared with what a held key brings."""
    with reviewed(photos) as visit:
        page = visit.page
        assert visit.name == "cat.png"
        visit.press("c", "c", "u", "z", "g", "g")
        assert visit.of("/api/sharp") == []
        came = [one.body() for one in visit.of("/api/blurred")]
        assert len(came) >= 8
        texts = {
            one.headers.get("content-type", "").split(";")[0]
            for one in visit.answers
            if one not in visit.of("/api/blurred")
        }
        assert texts <= {"", "text/html", "text/css", "text/javascript", "application/json", "text/plain"}
        page.keyboard.down("b")
        expect(page.locator("#sharp")).to_be_visible()
        (held,) = visit.of("/api/sharp")
        assert held.request.method == "POST"
        assert held.headers["cache-control"] == "no-store"
        sharpest = max(detail(one) for one in came if one)  # one that was cancelled brought nothing
        drawn = page.evaluate("document.getElementById('sharp').toDataURL()")
        assert detail(base64.b64decode(drawn.partition(",")[2])) > 2 * sharpest
        page.keyboard.up("b")
        expect(page.locator("#sharp")).to_be_hidden()
        assert page.evaluate("document.getElementById('sharp').width") == 1  # and its pixels are gone
        page.keyboard.down("b")
        expect(page.locator("#sharp")).to_be_visible()
        page.keyboard.up("b")
        assert len(visit.of("/api/sharp")) == 2  # asked for again


def test_by_keyboard_alone(reviewed: Reviewed, photos: list[Path]) -> None:
    with reviewed(photos) as visit:
        visit.counts("0 done · 4 left")
        assert not is_dark(visit.page)
        visit.press("u", "s")
        assert visit.name == "coffee.webp"
        visit.press("z")
        assert visit.name == "astronaut.jpg"
        visit.press("?", "1", "s")
        visit.counts("4 done · 0 left")
        expect(visit.page.get_by_role("heading", name="The queue is empty")).to_be_visible()
        visit.press("z")
        assert visit.name == "horse.bmp"
        visit.press("2")
        assert labels(visit) == {
            "cat.png": ("unsafe", None),
            "astronaut.jpg": ("unsure", None),
            "coffee.webp": ("unsafe", "female_present"),
            "horse.bmp": ("unsafe", "adult_object"),
        }
        finish = visit.page.get_by_role("button", name="Finish")
        finish.focus()
        visit.page.keyboard.press("Enter")
        expect(visit.page.get_by_role("heading", name="Finished")).to_be_visible()
        assert ended(visit.process) == 0


def test_what_the_machine_said_and_grey_at_first(reviewed: Reviewed, photos: list[Path]) -> None:
    with reviewed(photos) as visit:
        expect(visit.page.locator("#verdict")).to_contain_text("NSFW: female present")
        expect(visit.page.locator("#why")).to_contain_text("NSFW from 0.5")
        colour = visit.page.locator("#colour")
        visit.press("c")
        expect(colour).to_have_attribute("aria-pressed", "true")
        assert "colour=true" in str(visit.page.locator("#blurred").get_attribute("src"))
        visit.press("s")
        expect(colour).to_have_attribute("aria-pressed", "false")
        assert "colour=false" in str(visit.page.locator("#blurred").get_attribute("src"))


def test_a_key_that_stays_down_decides_once(reviewed: Reviewed, photos: list[Path]) -> None:
    with reviewed(photos) as visit:
        for _ in range(5):
            visit.page.keyboard.down("u")
        visit.settle()
        visit.counts("1 done · 3 left")
        visit.page.keyboard.up("u")
        visit.page.keyboard.press("Control+s")  # the browser's own
        visit.settle()
        visit.counts("1 done · 3 left")


def test_nothing_is_decided_unseen(reviewed: Reviewed, photos: list[Path]) -> None:
    """While a film is decoded, it can only be passed over."""
    with reviewed(photos) as visit:
        page = visit.page
        page.route("**/api/picture/1", lambda _route: None)  # it is never answered
        page.keyboard.press("u")
        expect(page.locator("#name")).to_contain_text("astronaut.jpg")
        expect(page.locator("#note")).to_contain_text("Decoding")
        page.keyboard.press("u")
        page.keyboard.press("1")
        expect(page.get_by_role("button", name="Unsafe", exact=False).first).to_be_disabled()
        visit.counts("1 done · 3 left")
        visit.press("?")
        assert visit.name == "coffee.webp"
        visit.press("u")
        visit.counts("3 done · 1 left")
        assert labels(visit)["astronaut.jpg"] == ("unsure", None)


def test_many_at_once_must_be_typed(reviewed: Reviewed, tmp_path: Path) -> None:
    files = []
    for number in range(24):
        files.append(tmp_path / f"{number:02}.png")
        Image.new("RGB", (40, 30), (number * 10, 0, 0)).save(files[-1])
    with reviewed(files) as visit:
        page = visit.page
        visit.press("g", "Space", "ArrowRight", "Space")
        expect(page.locator("#picked")).to_contain_text("2 of 24")
        visit.press("s")
        visit.counts("2 done · 22 left")
        visit.press("a")
        expect(page.locator("#picked")).to_contain_text("22 of 22")
        visit.press("u")
        expect(page.get_by_role("heading", name="22 at once: unsafe?")).to_be_visible()
        page.keyboard.type("20")
        visit.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("must be typed")
        visit.counts("2 done · 22 left")
        visit.faults.clear()  # the browser notes the refusal
        visit.press("u")
        page.keyboard.type("22")
        visit.press("Enter")
        expect(page.get_by_role("heading", name="The queue is empty")).to_be_visible()
        visit.press("z")
        visit.counts("2 done · 22 left")
        visit.press("z")
        visit.counts("0 done · 24 left")


def test_the_grid_is_sharp_only_while_the_key_is_held(reviewed: Reviewed, photos: list[Path]) -> None:
    with reviewed(photos) as visit:
        visit.press("g", "ArrowRight")
        visit.page.keyboard.down("b")
        expect(visit.page.locator("#grid-sharp")).to_be_visible()
        (held,) = visit.of("/api/sharp")
        assert (held.request.post_data_json or {})["id"] == 1
        visit.page.keyboard.up("b")
        expect(visit.page.locator("#grid-sharp")).to_be_hidden()


def test_nothing_plays_by_itself(reviewed: Reviewed, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    write_film(film, scene(120, red=range(40, 60)), gop=10)
    with reviewed([film]) as visit:
        page = visit.page
        place = page.locator("#place")
        expect(place).to_contain_text("1 of ")
        page.wait_for_timeout(1000)
        expect(place).to_contain_text("1 of ")
        assert not page.locator("video, audio").count()
        visit.press("ArrowRight")
        expect(place).to_contain_text("2 of ")
        page.keyboard.press("Space")
        expect(place).to_contain_text("4 of ")
        page.keyboard.press("Space")
        assert visit.of("/api/sharp") == []


def test_what_may_show_a_minor_is_confirmed_and_told(reviewed: Reviewed, photos: list[Path]) -> None:
    with reviewed(photos) as visit:
        page = visit.page
        visit.press("m", "Escape")
        visit.counts("0 done · 4 left")
        visit.press("m", "m")
        told = page.get_by_role("dialog", name="It is withheld")
        expect(told).to_contain_text("hotline")
        expect(told).to_contain_text("not legal advice")
        visit.press("Enter")
        assert visit.name == "astronaut.jpg"
        visit.press("z")
        assert visit.name == "astronaut.jpg"
        visit.press("g")
        assert page.locator(".tile").count() == 3
        visit.press("g", "m", "m")
        page.get_by_role("button", name="It was a mistake").click()
        visit.settle()
        assert visit.name == "astronaut.jpg"
        assert labels(visit) == {"cat.png": ("minor", None)}
    assert withheld_path(visit.decisions.with_name("out.jsonl")).read_bytes().count(b"\n") == 1
    assert all(path.exists() for path in photos)


def is_dark(page: Page) -> bool:
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, ground[4:-1].split(","))) < 300


def hold_by_touch(page: Page, selector: str) -> None:
    box = page.locator(selector).bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    expect(page.locator("#sharp")).to_be_visible()
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator("#sharp")).to_be_hidden()


def test_by_touch(reviewed: Reviewed, photos: list[Path]) -> None:
    with reviewed(photos, **PHONE) as visit:
        page = visit.page
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"]
        assert is_dark(page)
        for name in ("Unsafe", "Safe", "Unsure", "Undo", "Hold for sharp", "May show a minor"):
            expect(page.locator("#one").get_by_role("button", name=name, exact=True)).to_be_in_viewport()
        hold_by_touch(page, "#hold")
        hold_by_touch(page, "#picture")
        assert len(visit.of("/api/sharp")) == 2
        page.locator("#one").get_by_role("button", name="Unsafe", exact=True).tap()
        visit.counts("1 done · 3 left")
        page.locator("#undo").tap()
        visit.counts("0 done · 4 left")
        page.locator("#open-grid").tap()
        tiles = page.locator(".tile")
        expect(tiles).to_have_count(4)
        tiles.nth(0).tap()
        tiles.nth(2).tap()
        page.locator("#grid-bar").get_by_role("button", name="Safe", exact=True).tap()
        visit.counts("2 done · 2 left")
        assert labels(visit) == {"cat.png": ("safe", None), "coffee.webp": ("safe", None)}


def test_what_ends_is_said(reviewed: Reviewed, photos: list[Path]) -> None:
    with reviewed(photos) as visit:
        visit.process.kill()
        visit.process.wait()
        visit.page.keyboard.press("u")
        expect(visit.page.get_by_role("alert")).to_contain_text("does not answer")
        visit.faults.clear()
