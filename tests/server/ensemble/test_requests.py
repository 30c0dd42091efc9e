"""What clients may send that the document does not show: hostile names, empty forms, too much, too many."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from clipmod_cli.models.seam import ForwardPass
from clipmod_cli.server.apis.ensemble import judging
from clipmod_cli.server.forms.spooled import SpooledPieces
from clipmod_cli.server.service import Service
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.types import Frame
from tests.full_disk import files_no_longer_than
from tests.server.conftest import client_of, opened, served
from tests.server.ensemble.pictures import ANIMATION, BLUE_SQUARE, CUT, EVERYTHING, RED_CIRCLE, TEXT, VIDEO
from tests.server.listening import WAIT_S, wait_until

HOSTILE = (
    "../../../etc/passwd",
    "C:\\windows\\x.jpg",
    "a\u202egpj.exe",
    "x" * 3000,
    "<script>.png",
    "",
    ".",
    "ü b.jpg",
)


def single(client: TestClient, data: bytes = RED_CIRCLE, name: str = "a.jpg") -> Any:
    return client.post("/predict/single", files={"file": (name, data)})


@pytest.mark.parametrize("name", [name for name in HOSTILE if name])
def test_a_name_is_only_ever_shown(client: TestClient, resolved: Resolved, name: str) -> None:
    answer = single(client, name=name)
    assert answer.status_code == 200
    told = answer.json()
    folder = Path(str(resolved.settings.data_dir))
    written = folder / told["prediction_file"]
    assert written.parent == folder / "predictions"
    assert json.loads(written.read_text(encoding="utf-8")) == told
    assert written.stat().st_mode & 0o077 == 0


def test_predictions_of_one_name_do_not_collide(client: TestClient) -> None:
    files = {single(client).json()["prediction_file"] for _ in range(3)}
    assert len(files) == 3


@pytest.mark.parametrize("data", [TEXT, CUT, VIDEO, b"", b"<svg/>"])
def test_what_is_no_picture_is_refused(client: TestClient, data: bytes) -> None:
    answer = single(client, data)
    assert answer.status_code == 400
    formats = "jpg, jpeg, png, bmp, gif, webp, avif, tiff"
    assert answer.json() == {"detail": f"Invalid image file. Supported formats: {formats}"}


def test_an_animation_is_judged_by_its_worst_frame(client: TestClient) -> None:
    told = single(client, ANIMATION, "a.gif").json()
    assert (told["final_decision"], told["kind"], told["frames_scored"]) == ("NSFW", "animation", 5)


@pytest.mark.parametrize("path", ["/predict/single", "/predict/multi", "/predict/streaming"])
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"json": {}}, 400),
        ({"data": {"file": "text"}}, 400),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400),
        ({"content": b"--b--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 422),
        ({"files": {"other": ("a.jpg", RED_CIRCLE)}}, 422),
        ({"files": {"file": (None, "a field"), "files": (None, "another")}}, 422),
    ],
)
def test_a_form_that_is_none(client: TestClient, path: str, sent: dict[str, Any], status: int) -> None:
    answer = client.post(path, **sent)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_two_files_are_not_one(client: TestClient) -> None:
    answer = client.post("/predict/single", files=[("file", ("a", RED_CIRCLE)), ("file", ("b", BLUE_SQUARE))])
    assert (answer.status_code, answer.json()) == (
        400, {"detail": "Too many files. Maximum: 1 file per request"},
    )  # fmt: skip


def test_more_files_than_may_be(client: TestClient) -> None:
    answer = client.post("/predict/multi", files=[("files", ("a.jpg", RED_CIRCLE))] * 11)
    assert (answer.status_code, answer.json()) == (
        400, {"detail": "Too many files. Maximum: 10 files per request"},
    )  # fmt: skip


def test_more_urls_than_may_be(client: TestClient) -> None:
    answer = client.post("/predict/urls", json={"urls": ["https://example.com/a.jpg"] * 11})
    assert answer.status_code == 400
    assert client.post("/predict/urls", json={"urls": []}).status_code == 400
    assert client.post("/predict/urls", json={"urls": "no list"}).status_code == 422


def test_a_bad_file_among_several_is_found_before_a_model_runs(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    model: Any = service.panel.ensemble.members[0].model
    monkeypatch.setattr(model, "submit", lambda frames: asked.append(len(frames)))
    files = [("files", (f"{i}.jpg", data)) for i, data in enumerate([*EVERYTHING, CUT])]
    answer = client.post("/predict/multi", files=files)
    assert (answer.status_code, answer.json()) == (
        400, {"detail": "File validation errors: Invalid file: 3.jpg"},
    )  # fmt: skip
    assert asked == []


def _raise(_frames: Sequence[Frame]) -> None:
    raise RuntimeError("/secret/path: the device is gone")


def test_the_fallback_judges_where_a_member_fails(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = service.panel.ensemble.members[1].model
    with monkeypatch.context() as patch:
        patch.setattr(model, "submit", _raise)
        told = single(client).json()
        assert list(told["results"]) == ["openclip_fallback"]
        assert (told["final_decision"], told["degraded"], told["needs_review"]) == ("NSFW", True, True)
        assert told["models_used"] == ["tiny-l"]
        health = client.get("/health").json()
        assert (health["status"], health["models"]["judging"]) == ("degraded", "openclip_fallback")
    assert list(single(client).json()["results"]) == ["triple_ensemble"]
    assert client.get("/health").json()["status"] == "healthy"


def test_nobody_left_to_judge_is_an_error_without_details(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = service.panel.ensemble.members[0].model  # the fallback's too
    monkeypatch.setattr(model, "submit", _raise)
    answer = single(client)
    assert answer.status_code == 500
    assert answer.json() == {"detail": "Error processing image: The models failed on this picture"}
    several = client.post("/predict/multi", files=[("files", ("a.jpg", RED_CIRCLE))])
    assert (several.status_code, several.json()) == (500, answer.json())
    stream = client.post("/predict/streaming", files=[("files", ("a.jpg", RED_CIRCLE))])
    assert "secret" not in stream.text
    assert '"type":"error"' in stream.text


def test_concurrent_requests_share_forward_passes(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, free = threading.Event(), threading.Event()
    sizes: list[int] = []
    model: Any = service.panel.ensemble.members[0].model
    submit = model.submit

    def slowly(frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        sizes.append(len(frames))
        entered.set()
        assert free.wait(WAIT_S)
        wait: Callable[[], ForwardPass] = submit(frames)
        return wait

    monkeypatch.setattr(model, "submit", slowly)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(single, client)
        assert entered.wait(WAIT_S)
        others = [pool.submit(single, client) for _ in range(4)]
        wait_until(lambda: len(service.device.queue) == 4 * sizes[0])
        free.set()
        answers = [one.result() for one in (first, *others)]
    assert [one.status_code for one in answers] == [200] * 5
    assert sum(sizes) == 5 * sizes[0], "each picture has as many views"
    assert max(sizes) > sizes[0]


def test_a_deadline_is_504(settings_of: Any) -> None:
    with opened(settings_of(deadline=0.05)) as service, client_of(service, settings_of()) as client:
        model: Any = service.panel.ensemble.members[0].model
        submit = model.submit
        model.submit = lambda frames: (threading.Event().wait(0.3), submit(frames))[1]
        answers = [single(client), client.post("/predict/multi", files=[("files", ("a.jpg", RED_CIRCLE))])]
    assert [one.status_code for one in answers] == [504, 504]


def test_checking_files_ends_at_the_deadline(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while a file is being decoded, which may take a minute."""
    decoded = threading.Event()

    def decode_slowly(*_: object, **__: object) -> Iterator[Frame]:
        decoded.wait(WAIT_S)
        yield from ()

    monkeypatch.setattr(judging, "decode_with", decode_slowly)
    began = time.monotonic()
    with SpooledPieces() as spool:
        failures = judging.check_decoding(
            service, service.caller_of(deadline_s=0.05), [], spool, service.default
        )
    took = time.monotonic() - began
    decoded.set()
    assert not failures
    assert took < WAIT_S / 2


def test_a_full_service_is_503_with_a_time_to_come_back(client: TestClient, service: Service) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.load, "most", 0)
        for path in ("single", "multi", "streaming"):
            answer = client.post(f"/predict/{path}", files={"file": ("a.jpg", RED_CIRCLE)})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert single(client).status_code == 200


def test_links_use_the_public_url(settings_of: Any) -> None:
    with served(settings_of(public_url="https://moderation.example.org/api/")) as client:
        told = single(client).json()
    assert told["image_url"] == f"https://moderation.example.org/api/image/{told['image_id']}"


def test_without_hosting_and_predictions(settings_of: Any) -> None:
    resolved = settings_of(no_hosting=True, no_predictions=True, no_db=True)
    with served(resolved) as client:
        told = single(client).json()
        health = client.get("/health").json()
        assert client.get("/stats").status_code == 404
        assert client.get(f"/image/{'0' * 32}").status_code == 404
    assert [told[name] for name in ("image_hosted", "image_url", "image_id", "image_expires_hours")] == [
        False, None, None, None,
    ]  # fmt: skip
    assert told["prediction_file"] is None
    assert (health["status"], health["database"]["connected"]) == ("healthy", False)
    assert health["configuration"]["enable_image_hosting"] is False
    assert not Path(str(resolved.settings.data_dir)).exists()


def test_a_store_that_does_not_answer_is_told(settings_of: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.duckdb"
    broken.write_bytes(b"this is no database" * 100)
    with served(settings_of(db=str(broken))) as client:
        health = client.get("/health").json()
        assert (health["status"], health["database"]["ping_success"]) == ("degraded", False)
        assert single(client).status_code == 200
        stats = client.get("/stats")
    assert stats.status_code == 503
    assert str(tmp_path) not in stats.text


def test_a_full_disk_is_told_and_heals_by_itself(settings_of: Any) -> None:
    resolved = settings_of()
    with served(resolved) as client:
        single(client)
        assert client.get("/stats").json()["total_requests"] == 1
        (part,) = Path(f"{resolved.settings.db}.runs").glob("*.jsonl")
        with files_no_longer_than(part.stat().st_size + 100):
            client.app_state["storage"].ping._last = None
            health = client.get("/health").json()
            assert (health["status"], health["database"]["ping_success"]) == ("degraded", False)
            assert client.get("/stats").status_code == 503
        client.app_state["storage"].ping._last = None
        assert client.get("/health").json()["status"] == "healthy"
        assert client.get("/stats").json()["total_requests"] == 1


def test_statistics_are_kept_across_restarts(settings_of: Any) -> None:
    with served(settings_of()) as client:
        single(client)
        single(client, TEXT)
    with served(settings_of()) as client:
        client.post("/predict/multi", files=[("files", (str(i), d)) for i, d in enumerate(EVERYTHING)])
        told = client.get("/stats").json()
    assert (told["total_requests"], told["total_images_processed"]) == (3, 4)
    assert (told["nsfw_detections"], told["safe_detections"]) == (2, 2)
    assert told["models_usage"] == {"triple_ensemble": 2, "openclip_fallback": 0}
    assert told["error_rate"] == 0.0  # what a caller did wrong is no error of the service
    assert told["average_processing_time_ms"] > 0
    assert told["database_stats"]["total_images_hosted"] == 4
    assert told["performance_metrics"]["max_concurrent_requests"] == 1


@pytest.mark.parametrize("query", ["threshold=0.1", "coverage=centre", "policy=nsfw"])
@pytest.mark.parametrize("path", ["/predict/single", "/predict/multi", "/predict/streaming", "/predict/urls"])
def test_criteria_that_no_setting_allows_are_refused_and_never_ignored(
    client: TestClient, path: str, query: str
) -> None:
    files = {"file" if path == "/predict/single" else "files": ("a.jpg", RED_CIRCLE)}
    body: Any = {"json": {"urls": ["http://example.org/a"]}} if path == "/predict/urls" else {"files": files}
    answer = client.post(f"{path}?{query}", **body)
    assert answer.status_code == 400
    assert ("Allowed: shapes" if "policy" in query else "parameters: policy") in answer.json()["detail"]


def test_the_policy_in_force_may_be_named(client: TestClient) -> None:
    answer = client.post("/predict/single?policy=shapes", files={"file": ("a.jpg", RED_CIRCLE)})
    assert answer.json()["policy"] == "shapes"
