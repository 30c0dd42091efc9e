"""The recipe "add an HTTP dialect": one module with a router, and one entry in `DIALECTS`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter, Request, UploadFile
from starlette.testclient import TestClient

from clipmod_cli.server import app
from clipmod_cli.server.apis.dialects import DIALECTS, Dialect
from clipmod_cli.server.forms.uploads import check_pictures, picture_items, upload_route
from clipmod_cli.server.state import Admitted, Info, Served, in_thread
from tests.end_to_end.command import TINY
from tests.server.classifier.making import only_tiny
from tests.server.conftest import client_of, opened

# ---------------------------------------------------------------- the module

router = APIRouter(route_class=upload_route(lambda limits: limits.image_bytes))


@router.post("/toy/judge", summary="Judge one picture, shortly")
async def judge(
    request: Request, service: Served, info: Info, file: UploadFile, _: Admitted
) -> dict[str, Any]:
    """Answer with the decision and nothing else."""
    check_pictures([file], service.limits)
    (judged,) = await in_thread(
        request, lambda: list(service.judge(picture_items([file]), service.caller_of()))
    )
    info.images, info.judged_by = 1, judged.panel.key
    return {"decision": judged.record.final_decision}


# ---------------------------------------------------------------- the entry

TOY = Dialect(name="toy", description="Decisions alone.", router=router, judging_paths=("/toy/",))

PICTURE = next(iter(sorted((TINY / "pictures").glob("*.png")))).read_bytes()


@pytest.fixture
def client(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The real application, with the toy in the table."""
    monkeypatch.setattr(app, "DIALECTS", (*DIALECTS, TOY))
    home = tmp_path_factory.mktemp("home")
    resolved = only_tiny(home, monkeypatch, access_log=False, db=str(home / "db"), max_requests=1)
    with opened(resolved) as service, client_of(service, resolved) as one:
        one.service = service  # type: ignore[attr-defined]
        yield one


def post(client: TestClient) -> Any:
    return client.post("/toy/judge", files={"file": ("a.png", PICTURE)})


def test_a_toy_dialect_judges_is_described_and_counted(client: TestClient) -> None:
    answer = post(client)
    assert answer.status_code == 200
    assert answer.json()["decision"] in {"NSFW", "Safe"}

    document = client.get("/openapi.json").json()
    operation = document["paths"]["/toy/judge"]["post"]
    assert operation["tags"] == ["toy"]
    assert {"name": "toy", "description": "Decisions alone."} in document["tags"]
    assert {"401", "413", "503"} <= operation["responses"].keys()

    stats = client.get("/stats").json()
    assert (stats["total_requests"], stats["total_images_processed"]) == (1, 1)


def test_a_full_service_refuses_its_requests(client: TestClient) -> None:
    with client.service.load.one():  # type: ignore[attr-defined]
        answer = post(client)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert post(client).status_code == 200
