"""FastAPI's own client against guarded endpoints."""

# No `from __future__ import annotations`: FastAPI would look for names of the fixture.

import asyncio
import io
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, UploadFile
from fastapi.testclient import TestClient

from clipmod_cli.errors import SettingsError
from clipmod_cli.integrations import fastapi as guarding
from clipmod_cli.integrations.fastapi import check_uploads, clean_upload, clean_uploads
from clipmod_cli.integrations.guard import UploadGuard
from clipmod_cli.integrations.per_process import PerProcess
from clipmod_cli.models.seam import Model
from clipmod_cli.types import Frame
from tests.integrations.conftest import bare
from tests.server.ensemble.pictures import BLUE_SQUARE, RED_CIRCLE, TEXT, TRIANGLE

LARGE_SAFE = BLUE_SQUARE + bytes(2_000_000)
"""Over the megabyte that FastAPI holds in memory; zeros behind a picture are no content."""


@pytest.fixture
def seen() -> list[bytes]:
    """What endpoints were given."""
    return []


@pytest.fixture
def app(guard: UploadGuard, seen: list[bytes]) -> FastAPI:
    """An application with guarded endpoints."""
    one = FastAPI()
    messages: Any = {"flagged": "Bitte ein anderes Bild."}
    Avatar = Annotated[UploadFile, Depends(clean_upload("avatar", guard=guard))]  # noqa: N806
    Files = Annotated[list[UploadFile], Depends(clean_uploads(guard=guard))]  # noqa: N806
    Told = Annotated[UploadFile, Depends(clean_upload(guard=guard, messages=messages))]  # noqa: N806

    @one.post("/avatar")
    async def avatar(avatar: Avatar) -> int:
        seen.append(await avatar.read())
        return len(seen[-1])

    @one.post("/files")
    def files(files: Files) -> int:
        seen.extend(file.file.read() for file in files)
        return len(files)

    @one.post("/told")
    async def told(file: Told) -> None:
        seen.append(await file.read())

    @one.post("/optional")
    async def optional(file: UploadFile | None = None) -> None:
        await check_uploads([file] if file else [], guard=guard)
        seen.append(await file.read() if file else b"")

    return one


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app)


@pytest.mark.parametrize("data", [BLUE_SQUARE, LARGE_SAFE], ids=["in memory", "on disk"])
def test_a_clean_upload_reaches_the_endpoint_unchanged(
    client: TestClient, seen: list[bytes], data: bytes
) -> None:
    answer = client.post("/avatar", files={"avatar": ("a.png", data)})
    assert (answer.status_code, answer.json()) == (200, len(data))
    assert seen == [data]


@pytest.mark.parametrize(
    ("data", "status"),
    [(RED_CIRCLE, 422), (TEXT, 422), (BLUE_SQUARE + bytes(10_000_000), 413)],
    ids=["flagged", "no picture", "too large"],
)
def test_a_refused_upload_never_reaches_the_endpoint(
    client: TestClient, seen: list[bytes], data: bytes, status: int
) -> None:
    answer = client.post("/avatar", files={"avatar": ("red_circle.png", data)})
    assert answer.status_code == status
    assert seen == []
    assert answer.json().keys() == {"detail"}
    assert isinstance(answer.json()["detail"], str)
    for word in ("red", "circle", "0.", "NSFW", "score", "shapes"):
        assert word not in answer.text


def test_all_files_of_a_list_are_judged(client: TestClient, seen: list[bytes]) -> None:
    def post(*data: bytes) -> int:
        return client.post("/files", files=[("files", ("a", one)) for one in data]).status_code

    assert post(BLUE_SQUARE, TRIANGLE, RED_CIRCLE) == 422
    assert seen == []
    assert post(BLUE_SQUARE, TRIANGLE) == 200
    assert seen == [BLUE_SQUARE, TRIANGLE]


def test_messages_can_be_ones_own(client: TestClient) -> None:
    answer = client.post("/told", files={"file": ("a", RED_CIRCLE)})
    assert answer.json() == {"detail": "Bitte ein anderes Bild."}
    assert "Bitte" not in client.post("/told", files={"file": ("a", TEXT)}).text


def test_a_message_for_no_outcome_is_told_at_once() -> None:
    wrong: Any = {"nsfw": "No."}
    with pytest.raises(SettingsError, match="flagged"):
        clean_upload(messages=wrong)


def test_without_a_guard_the_environment_says_what_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare(tmp_path, monkeypatch)
    for name, value in (("MODELS", "open_nsfw"), ("ISOLATE", "false"), ("THRESHOLD", "0")):
        monkeypatch.setenv(f"CLIPMOD_{name}", value)
    monkeypatch.setattr(guarding, "_usual", PerProcess(UploadGuard))
    app = FastAPI()

    @app.post("/")
    async def keep(file: Annotated[UploadFile, Depends(clean_upload())]) -> None:
        raise AssertionError(file)

    try:
        assert TestClient(app).post("/", files={"file": ("a", BLUE_SQUARE)}).status_code == 422
    finally:
        guarding._usual.get().close()


def test_an_optional_file_is_checked_by_the_endpoint(client: TestClient, seen: list[bytes]) -> None:
    assert client.post("/optional").status_code == 200
    assert client.post("/optional", files={"file": ("a", RED_CIRCLE)}).status_code == 422
    assert client.post("/optional", files={"file": ("a", BLUE_SQUARE)}).status_code == 200
    assert seen == [b"", BLUE_SQUARE]


def test_what_cannot_be_judged_is_503(
    client: TestClient, seen: list[bytes], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_frames: Sequence[Frame]) -> Any:
        raise RuntimeError("secret words of the model")

    monkeypatch.setattr(model, "submit", fail)
    answer = client.post("/avatar", files={"avatar": ("a.png", BLUE_SQUARE)})
    assert (answer.status_code, seen) == (503, [])
    assert int(answer.headers["Retry-After"]) > 0
    assert "secret" not in answer.text


def test_the_event_loop_goes_on_while_a_model_works(
    app: FastAPI, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, released = threading.Event(), threading.Event()
    submit: Callable[[Sequence[Frame]], Any] = model.submit

    def wait(frames: Sequence[Frame]) -> Any:
        asked.set()
        assert released.wait(60)
        return submit(frames)

    @app.get("/release")
    async def release() -> None:
        released.set()

    async def both() -> tuple[int, int]:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            upload = asyncio.create_task(client.post("/avatar", files={"avatar": ("a", BLUE_SQUARE)}))
            await asyncio.to_thread(asked.wait, 60)
            other = await client.get("/release")
            return (await upload).status_code, other.status_code

    monkeypatch.setattr(model, "submit", wait)
    assert asyncio.run(both()) == (200, 200)


def test_the_description_shows_the_files(client: TestClient) -> None:
    described = client.get("/openapi.json").json()

    def fields_of(path: str) -> Any:
        content = described["paths"][path]["post"]["requestBody"]["content"]
        return described["components"]["schemas"][
            content["multipart/form-data"]["schema"]["$ref"].rpartition("/")[2]
        ]

    avatar, files = fields_of("/avatar"), fields_of("/files")
    assert (list(avatar["properties"]), avatar["required"]) == (["avatar"], ["avatar"])
    assert avatar["properties"]["avatar"]["type"] == "string"
    assert (list(files["properties"]), files["required"]) == (["files"], ["files"])
    assert files["properties"]["files"]["type"] == "array"
    assert client.post("/avatar", files={"other": ("a", io.BytesIO(BLUE_SQUARE))}).status_code == 422
