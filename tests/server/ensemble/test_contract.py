"""Requests as the document prints them, and every field of its printed answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from clipmod_cli.server.apis.downloading import fetch_rules
from clipmod_cli.server.apis.ensemble import shapes
from clipmod_cli.server.apis.ensemble.service_shapes import Config, Health, Root, Stats
from clipmod_cli.server.apis.printed import answer_of, load
from clipmod_cli.server.configuration import MB, request_limits_of
from clipmod_cli.server.forms.streamed import fault_of
from clipmod_cli.settings.definition import Settings
from clipmod_cli.sources.web.addresses import AddressRules, FetchRules
from tests.contract.curl import read_curl
from tests.contract.documents import differences
from tests.server.ensemble.pictures import BLUE_SQUARE, RED_CIRCLE, RED_SQUARE, TEXT, grown
from tests.urls.server import Server, reply, serving

DOCUMENT = load("ensemble")
COMMANDS = {
    one["section"]: read_curl(one["text"]) for one in DOCUMENT["requests"] if one["language"] == "curl"
}
EVENTS = answer_of(DOCUMENT, "/predict/streaming")
FAULTY_EVENTS = answer_of(DOCUMENT, "/predict/streaming", "Error Response (streaming):")


def printed(path: str, mark: str = "") -> Any:
    """Return the document's answer of an endpoint."""
    return answer_of(DOCUMENT, path, mark)


def post(client: TestClient, path: str, *pictures: bytes) -> Any:
    """Send the document's example request with these pictures under its file names."""
    sent = COMMANDS[path].files
    files = [(field, (name, data)) for (field, name, _), data in zip(sent, pictures, strict=True)]
    return client.post(path, files=files)


def events_of(text: str) -> list[dict[str, Any]]:
    lines = text.split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


NAMES = ("red-circle.jpg", "blue-square.png", "green-triangle.webp")


@pytest.fixture(params=[10_000, 1_000_000], ids=["10 kB", "1 MB"])
def pictures(request: pytest.FixtureRequest) -> list[bytes]:
    """A red circle, a blue square and a green triangle, of one size and then of another."""
    return [grown(name, request.param) for name in NAMES]


@pytest.fixture
def images(pictures: list[bytes]) -> Iterator[Server]:
    """A web server with the pictures of the document's URLs, on loopback."""
    with serving() as server:
        server.on("/image1.jpg", reply(body=pictures[0]))
        server.on("/image2.png", reply(body=pictures[1]))
        server.on("/sample.avif", reply(body=RED_SQUARE))
        server.on("/page.html", reply(body=b"<html>no picture</html>"))
        yield server


@pytest.fixture
def open_client(client: TestClient) -> Iterator[TestClient]:
    """A client of a service that may download from loopback, which no setting can open."""
    app = client.app
    assert isinstance(app, FastAPI)
    app.dependency_overrides[fetch_rules] = lambda: FetchRules(access=AddressRules(private=True))
    yield client
    app.dependency_overrides.clear()


@pytest.mark.parametrize("path", ["/", "/health", "/config", "/stats"])
def test_what_is_told_of_the_service(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert differences(answer.json(), printed(path)) == []


def test_root_has_the_documents_constants(client: TestClient) -> None:
    assert client.get("/").json() == printed("/")


def test_a_single_picture(client: TestClient, pictures: list[bytes]) -> None:
    answer = post(client, "/predict/single", pictures[0])
    assert answer.status_code == 200
    told = answer.json()
    assert differences(told, printed("/predict/single")) == []
    assert list(told["results"]) == ["triple_ensemble"]
    assert (told["image"], told["final_decision"], told["ensemble_category"]) == (
        "example_image.jpg", "NSFW", "red_circle",
    )  # fmt: skip
    result = told["results"]["triple_ensemble"]
    assert result["ensemble_prediction"]["safety_decision"] == "UNSAFE"
    assert list(result["per_model_predictions"]) == told["models_used"] == ["tiny-l", "tiny-h", "tiny-g"]
    shares = result["ensemble_prediction"]["category_ensemble_probabilities"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert re.fullmatch(r"predictions/example_image_[0-9a-f]{32}_prediction\.json", told["prediction_file"])


def test_several_pictures(client: TestClient, pictures: list[bytes]) -> None:
    answer = post(client, "/predict/multi", *pictures)
    assert answer.status_code == 200
    told = answer.json()
    assert differences(told, printed("/predict/multi")) == []
    assert [one["image"] for one in told["predictions"]] == [
        name for _, name, _ in COMMANDS["/predict/multi"].files
    ]
    assert [one["final_decision"] for one in told["predictions"]] == ["NSFW", "Safe", "Safe"]
    summary = told["summary"]
    assert (summary["total_images"], summary["nsfw_images"], summary["safe_images"]) == (3, 1, 2)
    times = [one["total_time_ms"] for one in told["predictions"]]
    assert summary["total_time_ms"] == pytest.approx(sum(times))
    assert summary["errors"] is None


def test_a_stream(client: TestClient, pictures: list[bytes]) -> None:
    answer = post(client, "/predict/streaming", *pictures)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    *lines, summary = events_of(answer.text)
    for number, line in enumerate(lines, 1):
        assert differences(line, EVENTS[0]) == []
        assert line["progress"]["current"] == number
    assert lines[-1]["progress"] == {"current": 3, "total": 3, "total_is_final": True}
    assert differences(summary, EVENTS[3]) == []
    assert (summary["total_processed"], summary["nsfw_count"], summary["safe_count"]) == (3, 1, 2)
    assert summary["errors"] is None


def test_a_bad_file_in_a_stream(client: TestClient) -> None:
    answer = post(client, "/predict/streaming", TEXT, RED_CIRCLE, BLUE_SQUARE)
    error, *_, summary = events_of(answer.text)
    assert differences(error, FAULTY_EVENTS[0]) == []
    assert differences(summary, FAULTY_EVENTS[1]) == []
    assert (error["image"], error["progress"]["current"], summary["total_processed"]) == ("image1.jpg", 1, 2)
    assert summary["errors"] == [f"Error processing image1.jpg: {error['error']}"]


def test_pictures_by_their_urls(open_client: TestClient, images: Server) -> None:
    urls = [images.url(path) for path in ("/image1.jpg", "/image2.png", "/sample.avif")]
    answer = open_client.post("/predict/urls", json={"urls": urls})
    assert answer.status_code == 200
    told = answer.json()
    assert differences(told, printed("/predict/urls")) == []
    assert [one["url"] for one in told["predictions"]] == urls
    assert [one["image"] for one in told["predictions"]] == ["image1.jpg", "image2.png", "sample.avif"]
    assert told["summary"]["errors"] is None


def test_urls_that_fail_are_sentences_in_the_summary(open_client: TestClient, images: Server) -> None:
    good, missing, page = (images.url(path) for path in ("/image1.jpg", "/missing.jpg", "/page.html"))
    told = open_client.post("/predict/urls", json={"urls": [missing, good, page]}).json()
    assert (
        differences(told["summary"], printed("/predict/urls", "Error Response with Mixed")["summary"]) == []
    )
    assert [one["url"] for one in told["predictions"]] == [good]
    first, second = told["summary"]["errors"]
    assert first == f"Error for {missing}: Failed to download image from URL: HTTP 404"
    assert second.startswith(f"Error for {page}: Failed to download image from URL: ")


def test_a_request_never_reaches_a_private_address(client: TestClient, images: Server) -> None:
    url = images.url("/image1.jpg")
    told = client.post("/predict/urls", json={"urls": [url]}).json()
    assert told["predictions"] == []
    assert images.paths() == []
    assert told["summary"]["errors"] == [
        f"Error for {url}: Failed to download image from URL: its address or port is not allowed"
    ]


def test_refusals_are_worded_as_printed(client: TestClient) -> None:
    single = post(client, "/predict/single", TEXT)
    assert (single.status_code, single.json()) == (400, printed("/predict/single", "Error Response:"))
    urls = client.post("/predict/urls", json={"urls": ["not-a-valid-url"]})
    assert (urls.status_code, urls.json()) == (400, printed("/predict/urls", "Error Response:"))


def test_a_large_and_a_bad_file_refuse_several(settings_of: Any) -> None:
    from tests.server.conftest import served

    with served(settings_of(max_image_mb=1)) as client:
        files = [("files", ("corrupted_image.txt", TEXT)), ("files", ("huge_image.jpg", bytes(MB + 1)))]
        answer = client.post("/predict/multi", files=[*files, ("files", ("fine.jpg", RED_CIRCLE))])
        assert (answer.status_code, answer.json()) == (400, printed("/predict/multi", "Error Response:"))
        large = client.post(
            "/predict/single", files={"file": ("a.jpg", RED_CIRCLE + bytes(MB - len(RED_CIRCLE) + 1))}
        )
        assert (large.status_code, large.json()) == (413, {"detail": "File too large. Maximum size: 1MB"})
        for path, field in (("/predict/single", "file"), ("/predict/multi", "files")):
            fits = client.post(path, files={field: ("a.png", BLUE_SQUARE.ljust(2**20, b"\0"))})
            assert fits.status_code == 200, fits.text


def test_the_documented_mb_are_mib() -> None:
    limits = request_limits_of(Settings())
    assert limits.image_bytes == 50 * 1024 * 1024
    assert limits.multi_bytes == 500 * 1024 * 1024
    assert limits.stream_bytes == 1000 * 1024 * 1024
    whole, larger = (
        fault_of(BLUE_SQUARE, limits.image_bytes + more, limits.image_bytes, heic=False) for more in (0, 1)
    )
    assert whole is None
    assert larger == ("file_too_large", "the file is larger than the limit of 50 MB")


@pytest.mark.parametrize("shape", [shapes.Single, shapes.Multi, shapes.UrlMulti, Root, Health, Config, Stats])
def test_examples_fit_their_shapes(shape: Any) -> None:
    example = shape.model_config["json_schema_extra"]["example"]
    assert differences(shape.model_validate(example).model_dump(mode="json"), example) == []
