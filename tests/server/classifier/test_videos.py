"""`/api/video-classification` over real films."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from tests.server.classifier.making import gif, plain, png
from tests.video.films import write_film

PATH = "/api/video-classification"


def film(tmp_path: Path, colours: Sequence[str]) -> bytes:
    """Return an MP4 with a frame of each colour."""
    return write_film(tmp_path / "film.mp4", [plain(colour) for colour in colours]).read_bytes()


def send(client: TestClient, data: bytes, **params: Any) -> Response:
    return client.post(PATH, files={"file": ("1.mp4", data, "video/mp4")}, params=params)


def hits(client: TestClient, data: bytes, **params: Any) -> list[tuple[int, str]]:
    answer = send(client, data, **params)
    assert answer.status_code == 200, answer.text
    assert all(hit.keys() == {"frame", "label", "score"} for hit in answer.json())
    return [(hit["frame"], hit["label"]) for hit in answer.json()]


def test_frames_of_a_video_count_from_1(client: TestClient, tmp_path: Path) -> None:
    data = film(tmp_path, ["blue"] * 7 + ["red"] * 5 + ["green"] * 3)
    assert hits(client, data) == [(1, "blue"), (8, "red"), (13, "green")]
    assert hits(client, data, labels=["green", "red"]) == [(8, "red"), (13, "green")]
    assert hits(client, data, labels=["green", "red"], return_on_first_matching_label="true") == [(8, "red")]


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("fast", ["true", "false"])
def test_a_short_video_is_not_empty(client: TestClient, tmp_path: Path, frames: int, fast: str) -> None:
    assert hits(client, film(tmp_path, ["red"] * frames), fast_mode=fast) == [(1, "red")]


def test_fast_mode_sees_the_last_frame(client: TestClient, tmp_path: Path) -> None:
    data = film(tmp_path, ["blue"] * 59 + ["red"])
    assert hits(client, data, fast_mode="true", skip_frames_percentage=100) == [(1, "blue"), (60, "red")]


def test_several_models_look_at_one_decoding(client: TestClient, tmp_path: Path) -> None:
    names = ["others", "Falconsai/nsfw_image_detection"]
    answer = send(client, film(tmp_path, ["blue", "red"]), model_names=names).json()
    assert [{name: [hit["label"] for hit in found] for name, found in one.items()} for one in answer] == [
        {names[0]: ["cold", "warm"]},
        {names[1]: ["blue", "red"]},
    ]


@pytest.mark.parametrize("data", [png("red"), gif(["red", "blue"]), b"", b"neither"])
def test_what_is_no_video_is_refused(client: TestClient, data: bytes) -> None:
    answer = send(client, data)
    assert (answer.status_code, answer.json()) == (400, {"detail": "1.mp4 is not a video"})


def test_a_broken_video_is_an_error_and_never_an_empty_list(client: TestClient, tmp_path: Path) -> None:
    data = film(tmp_path, ["blue"] * 30)
    answer = send(client, data[: len(data) * 2 // 3])
    assert answer.status_code == 400
    assert "1.mp4" in answer.json()["detail"]


def test_a_picture_endpoint_takes_no_video(client: TestClient, tmp_path: Path) -> None:
    data = film(tmp_path, ["blue"])
    answer = client.post("/api/image-query-classification", files={"file": ("1.mp4", data)})
    assert (answer.status_code, answer.json()) == (
        400,
        {"detail": "1.mp4 is a video, where a picture is expected"},
    )


def test_no_temporary_file_is_left(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    data = film(tmp_path, ["blue", "red"])
    assert send(client, data).status_code == 200
    assert send(client, data[:-100]).status_code == 400
    assert send(client, data, labels="purple").status_code == 400
    assert list(spool.iterdir()) == []
