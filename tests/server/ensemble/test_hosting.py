"""Hosted pictures by HTTP: of every size, by every endpoint, without metadata, until they are deleted."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from clipmod_cli.server.apis.ensemble.image import OpenFileResponse
from clipmod_cli.settings.reading import Resolved
from tests.end_to_end.command import SAMPLES
from tests.server.conftest import client_of, opened
from tests.server.ensemble.pictures import ANIMATION, RED_CIRCLE, TEXT, TRIANGLE, grown
from tests.urls.server import Server, reply, serving

SECRET = b"N 52 31 12 E 13 24 36"
SIZES = (10_000, 1_000_000)

Send = Callable[..., list[dict[str, Any]]]


def with_comment(jpeg: bytes) -> bytes:
    """Return a JPEG with a comment."""
    return jpeg[:2] + b"\xff\xfe" + (len(SECRET) + 2).to_bytes(2, "big") + SECRET + jpeg[2:]


def pixels(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as opened_picture:
        return np.asarray(opened_picture.convert("RGBA"))


@pytest.fixture(scope="module")
def web() -> Iterator[Server]:
    """A web server on loopback that downloads may come from."""
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def resolved(resolved: Resolved, web: Server) -> Resolved:
    """The settings, with `web` as a host of the operator's own."""
    settings = dataclasses.replace(resolved.settings, allow_host=(f"localhost:{web.port}",), unseen="flag")
    return dataclasses.replace(resolved, settings=settings)


def by_single(client: TestClient, data: bytes) -> Any:
    return client.post("/predict/single", files={"file": ("a.jpg", data)}).json()


def by_multi(client: TestClient, data: bytes) -> Any:
    told = client.post("/predict/multi", files=[("files", ("a.jpg", data))]).json()
    return told["predictions"][0]


def by_streaming(client: TestClient, data: bytes) -> Any:
    text = client.post("/predict/streaming", files=[("files", ("a.jpg", data))]).text
    return json.loads(text.split("\n\n")[0].removeprefix("data: "))


@pytest.fixture(params=["single", "multi", "streaming", "urls"])
def send(request: pytest.FixtureRequest, client: TestClient, web: Server) -> Callable[[bytes], Any]:
    """Send a picture by each of the endpoints; return what is told of it."""

    def by_urls(_client: TestClient, data: bytes) -> Any:
        url = web.on("/a.jpg", reply(body=data))
        return client.post("/predict/urls", json={"urls": [url]}).json()["predictions"][0]

    ways = {"single": by_single, "multi": by_multi, "streaming": by_streaming, "urls": by_urls}
    return lambda data: ways[request.param](client, data)


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_of_any_size_is_hosted(client: TestClient, send: Callable[[bytes], Any], size: int) -> None:
    sent = with_comment(grown("red-circle.jpg", size))
    told = send(sent)
    assert (told["image_hosted"], told["image_not_hosted"]) == (True, None)
    answer = client.get(told["image_url"])
    assert answer.status_code == 200
    assert len(answer.content) == int(answer.headers["content-length"]) == len(sent) - len(SECRET) - 4
    assert SECRET not in answer.content
    assert np.array_equal(pixels(answer.content), pixels(sent))


def test_all_samples_are_hosted(client: TestClient) -> None:
    samples = [path for path in sorted(SAMPLES.iterdir()) if path.suffix != ".md"]
    text = client.post(
        "/predict/streaming", files=[("files", (path.name, path.read_bytes())) for path in samples]
    ).text
    lines = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n")[:-2]]
    assert [(one["image"], one.get("image_not_hosted", one)) for one in lines] == [
        (path.name, None) for path in samples
    ]
    for path, one in zip(samples, lines, strict=True):
        assert np.array_equal(pixels(client.get(one["image_url"]).content), pixels(path.read_bytes())), path


def test_how_a_hosted_picture_is_sent(client: TestClient) -> None:
    told = client.post("/predict/single", files={"file": ("a.webp", TRIANGLE)}).json()
    assert told["image_url"] == f"http://127.0.0.1:8000/image/{told['image_id']}"
    assert re.fullmatch(r"[0-9a-f]{32}", told["image_id"])
    answer = client.get(told["image_url"])
    assert (answer.status_code, answer.content) == (200, TRIANGLE)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert "private" in answer.headers["cache-control"]
    again = client.get(told["image_url"], headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_what_cannot_be_stripped_is_not_hosted(client: TestClient) -> None:
    told = by_single(client, ANIMATION[:-1])  # a GIF without its end
    assert [told[name] for name in ("image_hosted", "image_url", "image_id", "image_expires_hours")] == [
        False, None, None, None,
    ]  # fmt: skip
    assert told["image_not_hosted"] == "metadata"


def test_what_was_not_judged_is_not_kept(client: TestClient, resolved: Resolved) -> None:
    folder = Path(str(resolved.settings.data_dir)) / "hosted"
    before = set(folder.iterdir())
    client.post("/predict/single", files={"file": ("a.jpg", TEXT)})
    client.post("/predict/streaming", files=[("files", ("a.jpg", TEXT))])
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize("image_id", ["0" * 32, "..%2f..%2fetc%2fpasswd", "%00", "x" * 5000, "a.json"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_id_is_404(client: TestClient, method: str, image_id: str) -> None:
    answer = client.request(method, f"/image/{image_id}")
    assert answer.status_code == 404
    assert answer.json()["detail"]


def test_a_deleted_picture_is_gone_with_its_prediction_and_its_row(
    client: TestClient, resolved: Resolved
) -> None:
    def hosted() -> int:
        return int(client.get("/stats").json()["database_stats"]["total_images_hosted"])

    told, other = by_single(client, RED_CIRCLE), by_single(client, RED_CIRCLE)
    before, prediction = hosted(), Path(str(resolved.settings.data_dir)) / told["prediction_file"]
    assert told["image_id"] in prediction.name
    assert prediction.is_file()
    assert client.delete(told["image_url"], headers={"Origin": "https://evil.test"}).status_code == 403
    answer = client.delete(told["image_url"])
    assert (answer.status_code, answer.content) == (204, b"")
    assert (client.get(told["image_url"]).status_code, client.delete(told["image_url"]).status_code) == (
        404,
        404,
    )
    assert not prediction.exists()
    assert hosted() == before - 1
    assert client.get(other["image_url"]).status_code == 200


def test_the_file_is_closed_if_the_caller_left_before_its_first_byte(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"picture")
    file = (tmp_path / "a").open("rb")

    async def has_left(_: object = None) -> Any:
        raise OSError("the connection is gone")

    answer = OpenFileResponse(file, headers={}, media_type="image/png")
    with pytest.raises(ClientDisconnect):
        asyncio.run(answer({"type": "http", "asgi": {"spec_version": "2.4"}}, has_left, has_left))
    assert file.closed


def test_the_limits_are_in_the_configuration(client: TestClient) -> None:
    assert client.get("/config").json()["kept"] == {
        "hosting_mb": 2000,
        "hosting_files": 100_000,
        "keep_metadata": False,
        "enable_predictions": True,
        "predictions_mb": 500,
        "predictions_files": 100_000,
    }


def test_two_services_on_one_folder_behind_a_round_robin(client: TestClient, resolved: Resolved) -> None:
    settings = dataclasses.replace(resolved.settings, keep_metadata=True, hosting_mb=1)
    other_resolved = dataclasses.replace(resolved, settings=settings)
    with opened(other_resolved) as service, client_of(service, other_resolved) as other:
        turns = itertools.cycle([client, other])
        told = [by_single(next(turns), with_comment(RED_CIRCLE)) for _ in range(5)]
        found = [next(turns).get(one["image_url"]) for one in told]
        assert [answer.status_code for answer in found] == [200] * 5
        assert [SECRET in answer.content for answer in found] == [False, True] * 2 + [False]
        assert [next(turns).delete(one["image_url"]).status_code for one in told] == [204] * 5
        assert [next(turns).get(one["image_url"]).status_code for one in told] == [404] * 5
        # the smaller quota of the other one
        told = [by_single(one, grown("red-circle.jpg", 1_500_000)) for one in (client, other)]
        assert [(one["image_hosted"], one["image_not_hosted"]) for one in told] == [
            (True, None),
            (False, "quota"),
        ]
        # what one answer names is not evicted for it, and is for the next one
        large = [("files", ("a.jpg", grown("red-circle.jpg", 700_000)))]
        for _ in range(2):
            text = other.post("/predict/streaming", files=large * 2).text
            lines = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n")[:2]]
            assert [one["image_not_hosted"] for one in lines] == [None, "quota"]
            assert other.get(lines[0]["image_url"]).status_code == 200
