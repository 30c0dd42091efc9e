"""Requests to `/v1` that OpenAI's client does not send: broken, hostile or too large ones; other paths."""

from __future__ import annotations

import base64
import http.client
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from clipmod_cli.judge.policy.reading import builtin_text
from clipmod_cli.server.apis.moderations import reading
from clipmod_cli.server.apis.moderations.errors import OpenaiErrorMiddleware
from clipmod_cli.server.forms.strict_json import read_json
from clipmod_cli.server.gate.rate import RateLimitMiddleware
from clipmod_cli.server.service import Service
from tests.server.conftest import client_of, opened
from tests.server.ensemble.pictures import BLUE_SQUARE, RED_CIRCLE
from tests.server.moderations.conftest import KEY

PICTURE = base64.b64encode(RED_CIRCLE).decode()


@pytest.fixture(scope="module")
def web() -> Iterator[httpx2.Client]:
    """A client that sends what it is told."""
    with httpx2.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as one:
        yield one


def image(encoded: str = PICTURE) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{encoded}"}}


def told(answer: httpx2.Response) -> tuple[int, str | None]:
    """Return status and code of an error, which has all of its fields."""
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert error["message"]
    return answer.status_code, error["code"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'{"input": NaN}', "invalid_json"),
        (b'{"input": "\\ud800"}', "text_not_supported"),
        (b'{"\\ud800": 1}', "unknown_parameter"),
        (b'{"input": [{"type": "image_url", "image_url": {"url": "\\ud800"}}]}', "invalid_image_url"),
        (
            b'{"input": [{"type": "image_url", "image_url": {"url": "data:;base64,\\ud800"}}]}',
            "invalid_base64_image",
        ),
        (b"\xff", "invalid_json"),
        (b"[" * 50_000, "invalid_json"),
        (b'{"input": [' + b"[]," * 100_000 + b"[]]}", "invalid_json"),
        (b"{}", "missing_required_parameter"),
        (b'{"input": []}', "invalid_value"),
        (b'{"input": {}}', "invalid_value"),
        (b'{"input": [7]}', "invalid_value"),
        (json.dumps({"input": [image()], "policy": "nsfw"}).encode(), "unknown_parameter"),
        (json.dumps({"input": [image()], "model": 7}).encode(), "invalid_type"),
        (json.dumps({"input": [{**image(), "type": "text", "text": "x"}]}).encode(), "invalid_value"),
        (
            json.dumps({"input": [{"type": "image_url", "image_url": "https://a.org"}]}).encode(),
            "invalid_value",
        ),
        (json.dumps({"input": [image(), {"type": "input_audio"}]}).encode(), "invalid_value"),
    ],
)
def test_a_request_that_is_none(web: httpx2.Client, url: str, body: bytes, code: str) -> None:
    sent = {"Content-Type": "application/json"}
    assert told(web.post(f"{url}/moderations", content=body, headers=sent)) == (400, code)


def test_a_picture_behind_a_repeated_key_is_not_passed_over(web: httpx2.Client, url: str) -> None:
    red, blue = json.dumps(image()), json.dumps(image(base64.b64encode(BLUE_SQUARE).decode()))
    hidden, shown = red.removeprefix("{").removesuffix("}"), blue.removeprefix("{")
    for body in (f'{{"input": [{red}], "input": [{blue}]}}', f'{{"input": [{{{hidden}, {shown}]}}'):
        answer = web.post(f"{url}/moderations", content=body, headers={"Content-Type": "application/json"})
        assert told(answer) == (400, "invalid_json")
        assert "more than once" in answer.json()["error"]["message"]


def test_a_form_is_no_request(web: httpx2.Client, url: str) -> None:
    assert told(web.post(f"{url}/moderations", data={"input": "x"})) == (415, "invalid_content_type")


def test_a_query_is_never_quietly_ignored(web: httpx2.Client, url: str) -> None:
    for query in ("policy=general", "threshold=0.5", "unknown=1"):
        answer = web.post(f"{url}/moderations?{query}", json={"input": [image()]})
        assert told(answer) == (400, None)
    answer = web.post(f"{url}/moderations?threshold=7", json={"input": [image()]})
    assert told(answer) == (422, None)
    assert answer.json()["error"]["message"].startswith("query.threshold: ")


def test_slashes_may_be_escaped_and_the_model_left_out(web: httpx2.Client, url: str) -> None:
    body = json.dumps({"input": [image()]}).replace("/", "\\/")
    answer = web.post(f"{url}/moderations", content=body, headers={"Content-Type": "application/json"})
    assert answer.json()["results"][0]["flagged"] is True


def test_other_paths_answer_in_the_same_shape_and_the_other_interfaces_in_theirs(
    web: httpx2.Client, url: str
) -> None:
    assert told(web.post(f"{url}/chat/completions", json={})) == (404, None)
    assert told(web.get(f"{url}/moderations")) == (405, None)
    outside = web.post(url.removesuffix("/v1") + "/v1x", json={})
    assert (outside.status_code, set(outside.json())) == (404, {"detail"})


def test_too_many_requests_are_told_in_the_same_shape() -> None:
    layers = [Middleware(OpenaiErrorMiddleware), Middleware(RateLimitMiddleware, a_minute=1)]
    with TestClient(Starlette(middleware=layers)) as client:
        client.get("/v1/models")
        answer = client.get("/v1/models")
        assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (429, True)
        assert answer.json()["error"] == {
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
            "message": "Too many requests: 1 a minute are allowed",
        }
        assert len(answer.content) == int(answer.headers["content-length"])


def test_a_body_that_is_too_large_is_refused_before_it_is_read(url: str) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    connection.putrequest("POST", f"{parts.path}/moderations")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(200_000_000))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["error"]["message"] == "Request too large. Maximum total size: 100MB"
    connection.close()


def test_a_picture_that_is_too_large_is_413(web: httpx2.Client, lenient: str) -> None:
    encoded = base64.b64encode(RED_CIRCLE + bytes(1 << 20)).decode()
    answer = web.post(f"{lenient}/moderations", json={"input": [image(), image(encoded)]})
    assert told(answer) == (413, "image_file_too_large")
    assert answer.json()["error"]["param"] == "input[1].image_url.url"


def test_large_bodies_are_parsed_one_at_a_time(
    web: httpx2.Client, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, together = threading.Semaphore(1), threading.Event()

    def watched(text: str) -> Any:
        if not inside.acquire(timeout=0):
            together.set()
            return read_json(text)
        together.wait(0.2)  # for another that must not come
        inside.release()
        return read_json(text)

    monkeypatch.setattr(f"{reading.__name__}.read_json", watched)
    noise = Image.effect_noise((1100, 1100), 90).convert("RGB")
    encoded = base64.b64encode(_png(noise)).decode()
    assert len(encoded) > reading.SMALL_BYTES
    body = {"input": [image(encoded)]}
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda _: web.post(f"{url}/moderations", json=body), range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert not together.is_set()


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def test_the_deadline_is_504(
    web: httpx2.Client, url: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "deadline_s", 0.0)
    answer = web.post(f"{url}/moderations", json={"input": [image()]})
    assert told(answer) == (504, None)
    assert answer.json()["error"]["type"] == "server_error"


def test_a_policy_that_flags_nothing_moderates_nothing(
    web: httpx2.Client, url: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    criteria = service.panel.criteria
    safe = tuple(replace(one, safety="SAFE", openai=()) for one in criteria.policy.categories)
    harmless = replace(criteria, policy=replace(criteria.policy, categories=safe))
    monkeypatch.setattr(service, "panel", replace(service.panel, criteria=harmless))
    assert told(web.post(f"{url}/moderations", json={"input": [image()]})) == (400, "policy_flags_nothing")


GORE = """
[[categories]]
name = "gore"
safety = "UNSAFE"
openai = ["violence"]
prompts = ["a bloody wound"]
"""


def test_a_category_that_no_model_sees_applies_to_nothing(settings_with: Any, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(builtin_text("nsfw") + GORE, encoding="utf-8")
    resolved = settings_with(
        models=("open_nsfw",), policy=str(policy), allow_partial=True, offline=True, unseen="flag"
    )
    with opened(resolved) as one, client_of(one, resolved) as client:
        (result,) = client.post("/v1/moderations", json={"input": [image()]}).json()["results"]
    looked = result["category_applied_input_types"]
    assert (looked["sexual"], looked["violence"]) == (["image"], [])
    assert (result["category_scores"]["violence"], result["categories"]["violence"]) == (0.0, False)
    assert result["flagged"], "not all was looked at"


def test_what_is_judged_is_counted_and_not_hosted(web: httpx2.Client, lenient: str) -> None:
    def counts() -> tuple[float, float, float]:
        lines = web.get(lenient.removesuffix("/v1") + "/metrics").text.splitlines()
        asked = [
            one for one in lines if one.startswith("clipmod_requests_total") and "/v1/moderations" in one
        ]
        decided = [one for one in lines if one.startswith("clipmod_decisions_total")]
        hosted = next(one for one in lines if one.startswith("clipmod_hosted_bytes"))
        return sum(map(_value, asked)), sum(map(_value, decided)), _value(hosted)

    before = counts()
    encoded = base64.b64encode(BLUE_SQUARE).decode()
    answer = web.post(f"{lenient}/moderations", json={"input": [image(encoded), image(encoded)]})
    assert answer.status_code == 200
    assert counts() == (before[0] + 1, before[1] + 2, 0.0)


def _value(line: str) -> float:
    return float(line.rpartition(" ")[2])
