"""Pictures of which something was not looked at: an error by default, never a silent Safe; a hit is a hit."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from clipmod_cli.server.apis.downloading import fetch_rules
from clipmod_cli.server.service import Service
from clipmod_cli.sources.web.addresses import AddressRules, FetchRules
from tests.server.conftest import SettingsOf, opened
from tests.server.ensemble.pictures import BLUE_SQUARE, RED_CIRCLE
from tests.server.ensemble.test_contract import events_of
from tests.urls.server import reply, serving

REASON = "not all of it was looked at (truncated)"


def cut(picture: bytes) -> bytes:
    """Return a JPEG of the picture without its last tenth."""
    whole = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").resize((224, 224)).save(whole, "JPEG", quality=95)
    return whole.getvalue()[: int(len(whole.getvalue()) * 0.9)]


SAFE, HIT = cut(BLUE_SQUARE), cut(RED_CIRCLE)


@pytest.fixture
def urls(client: TestClient) -> Iterator[dict[str, str]]:
    """The addresses of the pictures, from which the service may download."""
    app = client.app
    assert isinstance(app, FastAPI)
    app.dependency_overrides[fetch_rules] = lambda: FetchRules(access=AddressRules(private=True))
    pictures = {"whole": BLUE_SQUARE, "safe": SAFE, "hit": HIT}
    with serving() as server:
        yield {name: server.on(f"/{name}.jpg", reply(body=data)) for name, data in pictures.items()}
    app.dependency_overrides.clear()


def single(client: TestClient, picture: bytes) -> Any:
    return client.post("/predict/single", files={"file": ("a.jpg", picture)})


def many(client: TestClient, path: str, *pictures: bytes) -> Any:
    files = [("files", (f"{number}.jpg", data)) for number, data in enumerate(pictures)]
    return client.post(path, files=files)


def test_one_picture_is_refused_with_the_reason(client: TestClient) -> None:
    answer = single(client, SAFE)
    assert (answer.status_code, answer.json()) == (400, {"detail": f"Error processing image: {REASON}"})
    hit = single(client, HIT)
    assert (hit.status_code, hit.json()["final_decision"]) == (200, "NSFW")
    assert hit.json()["review_reasons"][0] == "truncated"
    assert single(client, BLUE_SQUARE).json()["final_decision"] == "Safe"


def test_one_of_a_few_refuses_the_request(client: TestClient) -> None:
    answer = many(client, "/predict/multi", BLUE_SQUARE, SAFE, HIT)
    assert (answer.status_code, answer.json()["detail"]) == (400, f"File validation errors: 1.jpg: {REASON}")
    good = many(client, "/predict/multi", BLUE_SQUARE, HIT).json()
    assert [one["final_decision"] for one in good["predictions"]] == ["Safe", "NSFW"]


def test_one_of_many_is_a_line_of_its_own(client: TestClient) -> None:
    *lines, summary = events_of(many(client, "/predict/streaming", BLUE_SQUARE, SAFE, HIT).text)
    assert [line.get("final_decision") for line in lines] == ["Safe", None, "NSFW"]
    assert (lines[1]["type"], lines[1]["image"], lines[1]["error"]) == ("error", "1.jpg", REASON)
    assert (summary["total_processed"], summary["nsfw_count"], summary["safe_count"]) == (2, 1, 1)
    assert summary["errors"] == [f"Error processing 1.jpg: {REASON}"]


def test_one_by_its_address_is_among_the_errors(client: TestClient, urls: dict[str, str]) -> None:
    answer = client.post("/predict/urls", json={"urls": list(urls.values())})
    assert answer.status_code == 200
    told = answer.json()
    assert [one["url"] for one in told["predictions"]] == [urls["whole"], urls["hit"]]
    assert told["summary"]["errors"] == [f"Error for {urls['safe']}: {REASON}"]


@pytest.mark.parametrize(("mode", "decision"), [("flag", "NSFW"), ("safe", "Safe")])
def test_the_operator_may_choose_an_answer(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch, mode: str, decision: str
) -> None:
    monkeypatch.setattr(service, "unseen", mode)
    told = single(client, SAFE).json()
    assert (told["final_decision"], told["needs_review"]) == (decision, True)
    assert "truncated" in told["review_reasons"]
    (result,) = told["results"].values()
    assert result["final_decision"] == decision
    assert result["ensemble_prediction"]["safety_decision"] == ("UNSAFE" if decision == "NSFW" else "SAFE")
    line, summary = events_of(many(client, "/predict/streaming", SAFE).text)
    assert line["final_decision"] == decision
    assert (summary["nsfw_count"], summary["safe_count"]) == ((1, 0) if decision == "NSFW" else (0, 1))


def test_answers_say_what_was_looked_at(client: TestClient) -> None:
    wide = io.BytesIO()
    Image.new("RGB", (400, 100), "white").save(wide, "PNG")
    told = single(client, wide.getvalue()).json()
    assert (told["coverage"], told["views_scored"]) == (1.0, 8), "the whole and seven squares"
    assert len(told["view"]) == 4
    assert told["scale"] > 0
    assert told["review_reasons"] == [] or told["needs_review"]


def test_uncovered_parts_are_not_looked_at(settings_of: SettingsOf) -> None:
    from tests.server.conftest import client_of

    wide = io.BytesIO()
    Image.new("RGB", (400, 100), "white").save(wide, "PNG")
    resolved = settings_of(coverage="centre")
    with opened(resolved) as service, client_of(service, resolved) as client:
        answer = single(client, wide.getvalue())
        assert (answer.status_code, answer.json()["detail"]) == (
            400,
            "Error processing image: not all of it was looked at (coverage)",
        )


def test_an_animation_of_more_views_than_a_request_may_have_is_not_silently_safe(client: TestClient) -> None:
    blue = Image.open(io.BytesIO(BLUE_SQUARE)).convert("RGB").resize((64, 48))
    shots = [blue.copy() for _ in range(200)]
    for number, one in enumerate(shots):
        one.paste((0, 40, 100 + number % 150), (0, 0, 12, 12))
    moving = io.BytesIO()
    shots[0].save(moving, "PNG", save_all=True, append_images=shots[1:], duration=50)
    answer = single(client, moving.getvalue())
    assert answer.status_code == 400
    assert "unsampled" in answer.json()["detail"]
