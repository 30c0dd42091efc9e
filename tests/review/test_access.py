"""Who may see the page, and what it may be asked for."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from clipmod_cli.review.queue.pictures import ReviewPictures
from clipmod_cli.server.gate.stack import gate_of
from clipmod_cli.server.review.access import OneTimeLink, access_by_key, access_by_link
from clipmod_cli.server.review.app import create_review_app
from clipmod_cli.server.review.context import ReviewCategory, ReviewContext
from clipmod_cli.settings.definition import Settings
from tests.end_to_end.command import SAMPLES
from tests.review.judged import file_line, reviewing

HERE = "http://127.0.0.1:8123"
KEY = "a-key-that-is-long-enough"
CATEGORIES = (ReviewCategory("gore", "unsafe"), ReviewCategory("art", "safe"))


@pytest.fixture
def link() -> OneTimeLink:
    return OneTimeLink()


@pytest.fixture
def stranger(tmp_path: Path, link: OneTimeLink) -> Iterator[TestClient]:
    """A client without a session, before a review of three pictures."""
    lines = []
    for number, name in enumerate(("cat.png", "astronaut.jpg", "coffee.webp")):
        lines.append(file_line(Path(shutil.copy(SAMPLES / name, tmp_path / name)), 0.55 + number / 10))
    with reviewing(tmp_path, lines) as session, ReviewPictures(session.table) as pictures:
        review = ReviewContext(session, pictures, CATEGORIES, lambda: None)
        with TestClient(
            create_review_app(review, access_by_link(link)), base_url=HERE, follow_redirects=False
        ) as client:
            yield client


@pytest.fixture
def person(stranger: TestClient, link: OneTimeLink) -> TestClient:
    """The client that opened the link."""
    assert stranger.get("/", params={"token": link.token}).status_code == 303
    return stranger


PATHS = ("/api/state", "/api/grid", "/api/picture/0", "/api/blurred/0/0", "/static/review.js")
POSTS = ("decide", "undo", "grid", "sharp", "minor", "minor/undo", "finish")


def test_without_a_session_nothing_is_told(stranger: TestClient) -> None:
    assert [stranger.get(path).status_code for path in PATHS] == [401] * len(PATHS)
    assert [stranger.post(f"/api/{path}", json={}).status_code for path in POSTS] == [401] * len(POSTS)
    assert stranger.get("/").status_code == 403
    for wrong in ("", "x", "é"):
        assert stranger.get("/", params={"token": wrong}).status_code == 403
    assert stranger.get("/api/state", headers={"Cookie": "clipmod_review_8123=x"}).status_code == 401


def test_the_link_works_once(person: TestClient, link: OneTimeLink) -> None:
    assert link.token == ""
    assert person.get("/").status_code == 200
    cookies = dict(person.cookies)
    person.cookies.clear()
    assert person.get("/", params={"token": link.token}).status_code == 403
    person.cookies.update(cookies)
    assert person.get("/api/state").json()["item"]["name"].endswith("cat.png")


def test_the_cookie_is_for_this_page_alone(stranger: TestClient, link: OneTimeLink) -> None:
    answer = stranger.get("/", params={"token": link.token})
    assert answer.headers["location"] == "/"
    set_ = answer.headers["set-cookie"].lower()
    assert "httponly" in set_
    assert "samesite=strict" in set_
    assert "domain" not in set_


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8123", "127.0.0.1.evil.example"])
def test_another_name_in_the_host_header_is_refused(person: TestClient, host: str) -> None:
    """A page elsewhere could point its name at this address (DNS rebinding)."""
    assert person.get("/api/state", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("path", POSTS)
def test_other_pages_can_send_nothing(person: TestClient, path: str) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert person.post(f"/api/{path}", json={}, headers=headers).status_code == 403


def test_answers_are_not_kept_and_ask_nobody_else(person: TestClient) -> None:
    for path in ("/", *PATHS):
        answer = person.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["cache-control"] == "no-store"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "http" not in policy
        assert answer.headers["x-frame-options"] == "DENY"


def test_only_what_is_shown_can_be_looked_at(person: TestClient) -> None:
    def statuses(number: int) -> list[int]:
        sharp = person.post("/api/sharp", json={"id": number, "frame": 0, "colour": False})
        return [person.get(f"/api/blurred/{number}/0").status_code, sharp.status_code]

    assert statuses(0) == [200, 200]
    assert statuses(1) == [409, 409]
    assert statuses(999) == [409, 409]
    assert person.get("/api/sharp").status_code in {404, 405}  # no address that a browser may fetch ahead
    person.get("/api/grid")
    assert statuses(1) == [200, 200]
    assert person.post("/api/sharp", json={"id": 0, "frame": 9, "colour": False}).status_code == 404


def test_a_decision_must_be_one(person: TestClient) -> None:
    whole = {"id": 0, "label": "unsafe", "category": None, "seconds": 1.0}
    for wrong in (
        {"label": "minor"},
        {"label": "undo"},
        {"category": "art"},
        {"category": "other"},
        {"seconds": -1},
        {"id": -1},
        {"more": 1},
    ):
        assert person.post("/api/decide", json=whole | wrong).status_code == 422, wrong
    for number in ("NaN", "Infinity"):  # which JSON has not, and its readers take
        body = json.dumps(whole).replace("1.0", number)
        sent = person.post("/api/decide", content=body, headers={"Content-Type": "application/json"})
        assert (sent.status_code, sent.json()["detail"][0]["loc"]) == (422, ["body", "seconds"])
    assert person.post("/api/minor/undo", json={"id": 99, "confirmed": True}).status_code == 400
    assert person.post("/api/decide", json=whole | {"id": 1}).status_code == 409
    assert person.post("/api/minor", json={"id": 0, "confirmed": False}).status_code == 422
    assert person.get("/api/state").json()["done"] == 0
    assert person.post("/api/decide", json=whole | {"category": "gore"}).json()["done"] == 1


@pytest.fixture
def beside(tmp_path: Path, link: OneTimeLink) -> Iterator[TestClient]:
    """A person before three pictures, of which the last two are said to be near copies of the first."""
    names = ("cat.png", "astronaut.jpg", "coffee.webp")
    paths = [Path(shutil.copy(SAMPLES / name, tmp_path / name)) for name in names]
    lines = [file_line(path, unsafe) for path, unsafe in zip(paths, (0.55, 0.6, 0.1), strict=True)]
    near = [[hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]]
    with (
        reviewing(tmp_path, lines, near=near, only=("nsfw", "safe")) as session,
        ReviewPictures(session.table) as pictures,
    ):
        review = ReviewContext(session, pictures, CATEGORIES, lambda: None)
        with TestClient(create_review_app(review, access_by_link(link)), base_url=HERE) as client:
            client.get("/", params={"token": link.token})
            yield client


def test_near_copies_are_told_and_decided_as_the_page_showed_them(beside: TestClient) -> None:
    told = beside.get("/api/state").json()
    assert told["item"]["near_copies"] == 2
    assert [(one["id"], one["outcome"]) for one in told["near"]] == [(1, "nsfw"), (2, "safe")]
    assert [beside.get(f"/api/blurred/{number}/0").status_code for number in (0, 1, 2)] == [200] * 3
    whole = {"id": 0, "label": "safe", "category": None, "seconds": 1.0, "near": [1, 2]}
    assert beside.post("/api/decide", json=whole | {"near": [-1]}).status_code == 422
    assert beside.post("/api/decide", json=whole | {"near": [1, 9]}).status_code == 409
    refused = beside.post("/api/decide", json=whole | {"looked": [1]})
    assert (refused.status_code, "look at it" in refused.json()["detail"]) == (400, True)
    assert beside.get("/api/state").json()["done"] == 0
    after = beside.post("/api/decide", json=whole | {"looked": [2]}).json()
    assert (after["done"], after["item"], after["near"]) == (3, None, [])
    assert beside.post("/api/undo").json()["done"] == 0
    marked = beside.post("/api/minor", json={"id": 0, "confirmed": True}).json()
    assert (marked["withheld"], marked["item"]) == ([0, 1, 2], None)
    assert [beside.get(f"/api/blurred/{number}/0").status_code for number in (0, 1, 2)] == [409] * 3
    back = beside.post("/api/minor/undo", json={"id": 0, "confirmed": True}).json()
    assert (back["item"]["id"], [one["id"] for one in back["near"]]) == (0, [1, 2])


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[TestClient]:
    """A client on another machine, before a review of one picture."""
    path = Path(shutil.copy(SAMPLES / "cat.png", tmp_path))
    settings = Settings(host="192.0.2.1", api_keys=(KEY,), public_url="https://review.example")
    with reviewing(tmp_path, [file_line(path)]) as session, ReviewPictures(session.table) as pictures:
        review = ReviewContext(session, pictures, CATEGORIES, lambda: None)
        app = create_review_app(review, access_by_key(gate_of(settings)))
        with TestClient(app, base_url="https://review.example", follow_redirects=False) as client:
            yield client


def test_another_device_logs_in_with_a_key(phone: TestClient) -> None:
    assert [phone.get(path).status_code for path in PATHS] == [401] * len(PATHS)
    assert [phone.post(f"/api/{path}", json={}).status_code for path in POSTS] == [401] * len(POSTS)
    assert phone.get("/").status_code == 401
    asked = phone.get("/ui")
    assert (asked.status_code, "API key" in asked.text) == (401, True)
    assert phone.post("/ui/login", data={"key": "wrong"}).status_code == 401
    assert phone.post("/ui/login", data={"key": KEY}).status_code == 303
    assert "review.js" in phone.get("/ui").text
    assert phone.get("/api/state").json()["item"]["name"].endswith("cat.png")
    assert phone.get("/api/blurred/0/0").status_code == 200
    assert phone.post("/api/undo", headers={"Origin": "https://evil.example"}).status_code == 403
    assert phone.post("/api/undo", headers={"Origin": "https://review.example"}).status_code == 200


def test_of_what_is_drawn_the_machine_says_nothing(tmp_path: Path, link: OneTimeLink) -> None:
    """A person who is told what the machine thinks agrees with it."""
    path = Path(shutil.copy(SAMPLES / "cat.png", tmp_path))
    with (
        reviewing(tmp_path, [file_line(path)], audit=1.0) as session,
        ReviewPictures(session.table) as pictures,
    ):
        review = ReviewContext(session, pictures, (), lambda: None)
        client = TestClient(create_review_app(review, access_by_link(link)), base_url=HERE)
        with client:
            client.get("/", params={"token": link.token})
            item = client.get("/api/state").json()["item"]
    assert item["drawn"]
    assert not {"score", "outcome", "category", "reasons"} & item.keys()
