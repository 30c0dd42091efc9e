"""Django's own client against guarded fields and the middleware."""

from __future__ import annotations

import asyncio
import importlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import MigrationWriter
from django.test import AsyncClient, Client, override_settings
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

from clipmod_cli.integrations import django as guarding
from clipmod_cli.integrations.guard import UploadGuard
from clipmod_cli.models.seam import Model
from clipmod_cli.types import Frame
from tests.server.ensemble.pictures import BLUE_SQUARE, RED_CIRCLE, TEXT, TRIANGLE

MIDDLEWARE = [
    "django.middleware.csrf.CsrfViewMiddleware",
    "clipmod_cli.integrations.django.UploadGuardMiddleware",
]

pytestmark = pytest.mark.usefixtures("django_ready", "judged_by_the_guard")


@pytest.fixture
def judged_by_the_guard(guard: UploadGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings under which Django's guard is the one whose model is loaded already."""
    monkeypatch.setattr(guarding, "guard", lambda: guard)


@pytest.fixture
def seen(django_ready: None) -> list[bytes]:
    """What views were given."""
    found: list[bytes] = importlib.import_module("tests.integrations.photos.urls").SEEN
    found.clear()
    return found


@pytest.fixture
def photos(django_ready: None) -> Iterator[Any]:
    """The stored photos, none at the beginning."""
    model: Any = importlib.import_module("tests.integrations.photos.models").Photo
    model.objects.all().delete()
    yield model.objects
    model.objects.all().delete()


def named(data: bytes, name: str = "a.png") -> Any:
    return SimpleUploadedFile(name, data)


@contextmanager
def guarded(**clipmod: Any) -> Iterator[Client]:
    """Give a client of a project with the middleware."""
    with override_settings(MIDDLEWARE=MIDDLEWARE, CLIPMOD=clipmod):
        yield Client()


each_handler = pytest.mark.parametrize("memory", [0, 2_500_000], ids=["on disk", "in memory"])
"""TemporaryUploadedFile and InMemoryUploadedFile."""


@each_handler
def test_a_guarded_field_of_a_form(seen: list[bytes], memory: int) -> None:
    with override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=memory):
        assert Client().post("/avatar", {"avatar": named(BLUE_SQUARE)}).status_code == 200
        assert seen == [BLUE_SQUARE]
        refused = Client().post("/avatar", {"avatar": named(RED_CIRCLE, "red_circle.jpg")})
    assert refused.status_code == 400
    assert refused.json() == {"avatar": [{"message": "This file cannot be accepted.", "code": "flagged"}]}
    assert seen == [BLUE_SQUARE]


@each_handler
def test_a_guarded_field_of_a_model(photos: Any, memory: int) -> None:
    with override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=memory):
        for data, code in ((RED_CIRCLE, "flagged"), (TEXT, "unreadable")):
            refused = Client().post("/photo", {"file": named(data)})
            assert [one["code"] for one in refused.json()["file"]] == [code]
        assert photos.count() == 0
        assert Client().post("/photo", {"file": named(BLUE_SQUARE), "title": "x"}).status_code == 200
        assert Client().post("/photo", {"title": "none"}).status_code == 200
    with photos.get(title="x").file.open() as kept:
        assert kept.read() == BLUE_SQUARE


def test_what_is_stored_already_is_not_judged_again(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = photos.create(file=named(BLUE_SQUARE))

    def fail(*_: Any) -> Any:
        raise AssertionError("it was judged")

    monkeypatch.setattr(guarding, "guard", fail)
    photo.title = "new"
    photo.full_clean()
    photo.file = named(TRIANGLE)
    with pytest.raises(AssertionError, match="it was judged"):
        photo.full_clean()


def test_a_file_without_a_name_is_judged_too() -> None:
    upload = named(RED_CIRCLE)
    upload._name = None
    assert not upload
    with pytest.raises(ValidationError):
        guarding.clean_upload(upload)


def test_migrations_name_the_validator_and_stay_the_same(photos: Any) -> None:
    project = ProjectState.from_apps(apps)
    assert MigrationAutodetector(project, project.clone()).changes(graph=MigrationGraph()) == {}
    text, _ = MigrationWriter.serialize(photos.model._meta.get_field("file"))
    assert "validators=[clipmod_cli.integrations.django.CleanUpload()]" in text
    assert guarding.CleanUpload() == guarding.clean_upload
    assert len({guarding.CleanUpload(), guarding.clean_upload}) == 1


@each_handler
def test_the_middleware_judges_all_files_before_the_view(seen: list[bytes], memory: int) -> None:
    with guarded() as client, override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=memory):
        both = {"one": named(BLUE_SQUARE), "two": [named(TRIANGLE), named(RED_CIRCLE, "red_circle.jpg")]}
        refused = client.post("/plain", both)
        assert (refused.status_code, seen) == (422, [])
        assert refused.content == b"This file cannot be accepted."
        clean = client.post("/plain", {"one": named(BLUE_SQUARE), "two": named(TRIANGLE), "title": "t"})
        assert (clean.status_code, clean.content) == (200, b"t")
        assert seen == [BLUE_SQUARE, TRIANGLE]
        assert client.post("/plain", {"title": "no file"}).content == b"no file"
        assert client.get("/plain").status_code == 200


@pytest.mark.parametrize("method", ["put", "patch"])
def test_the_middleware_judges_forms_of_other_methods(seen: list[bytes], method: str) -> None:
    def send(client: Client, data: bytes) -> Any:
        body = encode_multipart(BOUNDARY, {"file": named(data), "title": "t"})
        return getattr(client, method)("/plain", body, content_type=MULTIPART_CONTENT)

    with guarded() as client:
        assert send(client, RED_CIRCLE).status_code == 422
        assert seen == []
        assert send(client, BLUE_SQUARE).content == b"t"
        assert seen == [BLUE_SQUARE]


def looking(get_response: Any) -> Any:
    """Return a middleware that looks at the form, as some that log do."""

    def look(request: Any) -> Any:
        assert request.POST is not None
        return get_response(request)

    return look


def test_the_middleware_judges_a_form_that_another_one_looked_at(seen: list[bytes]) -> None:
    body = encode_multipart(BOUNDARY, {"file": named(RED_CIRCLE)})
    with override_settings(MIDDLEWARE=[f"{__name__}.looking", *MIDDLEWARE]):
        for method in ("put", "patch"):
            answer = getattr(Client(), method)("/plain", body, content_type=MULTIPART_CONTENT)
            assert answer.status_code == 422
    assert seen == []


def test_the_middleware_guards_the_paths_that_are_named(seen: list[bytes]) -> None:
    with guarded(PATHS=["/other/"]) as client:
        assert client.post("/other/plain", {"file": named(RED_CIRCLE)}).status_code == 422
        assert client.post("/plain", {"file": named(RED_CIRCLE)}).status_code == 200
        assert seen == [RED_CIRCLE]


def test_an_asynchronous_view_behind_the_middleware(seen: list[bytes]) -> None:
    async def post(data: bytes) -> int:
        answer = await AsyncClient().post("/slow", {"file": named(data)})
        return int(answer.status_code)

    with guarded():
        assert asyncio.run(post(RED_CIRCLE)) == 422
        assert seen == []
        assert asyncio.run(post(BLUE_SQUARE)) == 200
        assert seen == [BLUE_SQUARE]


def test_a_program_is_answered_in_json_and_in_ones_own_words() -> None:
    with guarded(MESSAGES={"flagged": "Non."}) as client:
        answer = client.post("/plain", {"file": named(RED_CIRCLE)}, headers={"accept": "application/json"})
        assert answer.json() == {"detail": "Non."}
        assert client.post("/plain", {"file": named(RED_CIRCLE)}).content == b"Non."
        refused = client.post("/avatar", {"avatar": named(TEXT)})
    assert b"another one" in refused.content


def test_what_cannot_be_judged_is_503(
    seen: list[bytes], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_frames: Sequence[Frame]) -> Any:
        raise RuntimeError("secret words of the model")

    monkeypatch.setattr(model, "submit", fail)
    with guarded() as client:
        answer = client.post("/plain", {"file": named(BLUE_SQUARE)})
    assert (answer.status_code, seen) == (503, [])
    assert int(answer["Retry-After"]) > 0
    assert b"secret" not in answer.content
    with pytest.raises(ValidationError) as refused:
        guarding.clean_upload(named(BLUE_SQUARE))
    assert refused.value.code == "unavailable"


def test_a_form_that_cannot_be_read_does_not_reach_the_view(seen: list[bytes]) -> None:
    body = encode_multipart(BOUNDARY, {"file": named(RED_CIRCLE)})
    with guarded() as client:
        assert client.post("/plain", body, content_type="multipart/form-data").status_code == 400
    assert seen == []


def test_the_guard_is_made_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    told: list[Any] = []
    settings = {"POLICY": "graphic", "URL": "http://127.0.0.1:9", "DEADLINE_S": 5, "ON_CHECK": told.append}
    with override_settings(CLIPMOD=settings):
        first = guarding.guard()
        assert guarding.guard() is first
        assert first.check(io.BytesIO(BLUE_SQUARE), "a").outcome == "unavailable"
        assert [one.name for one in told] == ["a"]
    with override_settings(CLIPMOD={"POLCY": "nsfw"}), pytest.raises(ImproperlyConfigured, match="polcy"):
        guarding.guard()
    for wrong in ({"MESSAGES": {"bad": "no"}}, {"PATHS": "/photos/"}):
        with override_settings(CLIPMOD=wrong), pytest.raises(ImproperlyConfigured):
            guarding.UploadGuardMiddleware(lambda _: None)
    with override_settings(CLIPMOD={"ON_CHECK": "tests.container.project"}):
        assert guarding.guard() is not first
