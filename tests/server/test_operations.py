"""What those who run the service see: metrics, the pages and their description."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from clipmod_cli.server.operations import endpoints
from clipmod_cli.settings.definition import Settings
from tests.end_to_end.command import TINY
from tests.server.classifier.making import only_tiny
from tests.server.conftest import served

KEY = "a-key-that-is-long-enough"
PICTURE = next(iter(sorted((TINY / "pictures").glob("*.png"))))
VIEWS = 2
"""The square on its ground, and without the ground around it."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One service for all tests: each looks at what its own requests change."""
    with pytest.MonkeyPatch.context() as patch:
        resolved = only_tiny(tmp_path_factory.mktemp("home"), patch, access_log=False)
        with served(resolved) as one:
            yield one


def numbers(client: TestClient) -> dict[str, float]:
    """Return all samples of /metrics by name and labels."""
    text = client.get("/metrics").text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {f"{one.name}{dict(sorted(one.labels.items()))}": one.value for one in samples}


def changes(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}


def judge(client: TestClient, data: bytes = b"") -> int:
    files = {"file": ("a.png", data or PICTURE.read_bytes())}
    return client.post("/predict/single", files=files).status_code


def test_the_metrics_count_requests_batches_and_decisions(client: TestClient) -> None:
    before = numbers(client)
    assert judge(client) == 200
    seen = changes(before, numbers(client))
    route = {"method": "POST", "route": "/predict/single", "status": "200"}
    assert seen[f"clipmod_requests_total{route}"] == 1
    assert seen["clipmod_request_seconds_count{'route': '/predict/single'}"] == 1
    assert seen["clipmod_batch_frames_sum{}"] == VIEWS
    assert seen["clipmod_forward_seconds_count{}"] == 1
    assert seen["clipmod_item_seconds_count{}"] == 1
    assert seen["clipmod_received_bytes_total{}"] > PICTURE.stat().st_size
    (decision,) = [name for name in seen if name.startswith("clipmod_decisions_total")]
    assert "'judged_by': 'openclip_fallback'" in decision
    assert "'decision': 'NSFW'" in decision or "'decision': 'Safe'" in decision


def test_an_item_that_cannot_be_judged_is_counted_by_its_code(client: TestClient) -> None:
    before = numbers(client)
    assert judge(client, PICTURE.read_bytes()[:60]) == 400
    seen = changes(before, numbers(client))
    (failure,) = [name for name in seen if name.startswith("clipmod_item_failures_total")]
    assert "'stage': 'decode'" in failure
    assert not [name for name in seen if name.startswith("clipmod_decisions_total")]


def test_a_shared_batch_shows(client: TestClient) -> None:
    before = numbers(client)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: judge(client), range(24))) == {200}
    seen = changes(before, numbers(client))
    assert seen["clipmod_batch_frames_sum{}"] == 24 * VIEWS
    assert seen["clipmod_batch_frames_count{}"] <= 24


def test_no_client_makes_new_labels(client: TestClient) -> None:
    before = numbers(client)
    for number in range(5):
        client.get(f"/nowhere/{number}")
        client.get(f"/image/{number:032x}")
        client.request(f"METHOD{number}", "/")
        client.get(f"/docs/{number}.js")
    seen = [name for name in changes(before, numbers(client)) if name.startswith("clipmod_requests_total")]
    routes = {match[1] for name in seen if (match := re.search(r"'route': '([^']*)'", name))}
    assert routes == {"(none)", "/image/{image_id}", "/", "/docs/{name}", "/metrics"}
    assert not any("METHOD" in name for name in seen)


def test_the_service_itself_shows(client: TestClient) -> None:
    seen = numbers(client)
    assert seen["clipmod_ready{}"] == 1
    assert seen["clipmod_queue_frames{}"] == 0
    assert seen["clipmod_requests_limit{}"] == Settings().max_requests
    assert seen["clipmod_requests_in_flight{}"] == 1  # the one that asks
    assert seen["process_resident_memory_bytes{}"] > 0
    assert any("'policy': 'shapes'" in name for name in seen if name.startswith("clipmod_info"))


def test_what_is_hosted_shows(client: TestClient) -> None:
    before = numbers(client)
    assert judge(client) == 200
    seen = changes(before, numbers(client))
    assert seen["clipmod_hosted_pictures{}"] == 1
    assert seen["clipmod_hosted_bytes{}"] == PICTURE.stat().st_size
    assert seen["clipmod_prediction_files{}"] == 1
    assert seen["clipmod_prediction_bytes{}"] > 0


def test_open_metrics_are_given_to_those_who_ask_for_them(client: TestClient) -> None:
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


# ---------------------------------------------------------------- the pages and the description


def test_the_docs_page_needs_nothing_from_elsewhere_and_no_inline_script(client: TestClient) -> None:
    answer = client.get("/docs")
    rules = dict(rule.split(maxsplit=1) for rule in answer.headers["content-security-policy"].split("; "))
    assert rules["script-src"] == rules["connect-src"] == "'self'"
    assert rules["default-src"] == "'none'"
    used = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert len([name for name in used if name.endswith(".js")]) == 2
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", answer.text)
    for name in used:
        if name.startswith("data:"):
            continue
        found = client.get(name)
        assert found.status_code == 200, name
        assert found.headers["content-type"].startswith(("text/javascript", "text/css")), name
        assert found.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "%2e%2e/openapi.py", "swagger.html", "x.js"])
def test_no_other_file_is_given(client: TestClient, name: str) -> None:
    assert client.get(f"/docs/{name}", follow_redirects=False).status_code == 404


def test_what_is_shipped_for_the_pages_has_its_licence_beside_it() -> None:
    names = {path.name for path in endpoints.ASSETS.iterdir()}
    assert names >= {
        "README.md", "swagger-ui.LICENSE.txt", "swagger-ui.NOTICE.txt", "swagger-ui-bundle.js.LICENSE.txt",
    }  # fmt: skip
    told = (endpoints.ASSETS / "README.md").read_text(encoding="utf-8")
    assert all(name in told for name in ("swagger-ui-bundle.js", "swagger-ui.css"))


def test_the_pages_start_scripts_name_nothing_elsewhere() -> None:
    for path in endpoints.ASSETS.glob("*-start.js"):
        assert "://" not in path.read_text(encoding="utf-8")


def test_every_operation_is_described_with_its_refusals(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["info"]["title"] == "clipmod"
    tags = {tag["name"] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            named = f"{method} {path}"
            assert operation["summary"], named
            assert set(operation["tags"]) <= tags, named
            assert {"400", "429", "500"} <= operation["responses"].keys(), named
            if method == "post":
                assert {"403", "503", "504", "408", "413"} <= operation["responses"].keys(), named
            assert ("401" in operation["responses"]) == (path not in {"/healthz", "/readyz"}), named
    assert "security" not in document


def test_with_keys_the_description_says_how_they_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = only_tiny(tmp_path, monkeypatch, access_log=False, api_keys_file=_key_file(tmp_path))
    with served(resolved, headers={"X-API-Key": KEY}) as client:
        document = client.get("/openapi.json").json()
        assert document == client.get("/openapi.json").json()  # asked twice, completed once
    kinds = {(one["type"], one.get("in", one.get("scheme"))) for one in _schemes(document).values()}
    assert kinds == {("apiKey", "header"), ("http", "bearer"), ("apiKey", "cookie")}
    assert {name for one in document["security"] for name in one} == set(_schemes(document))
    assert document["paths"]["/healthz"]["get"]["security"] == []


def _schemes(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["securitySchemes"]
    return found


def _key_file(folder: Path) -> str:
    file = folder / "keys"
    file.write_text(KEY)
    return str(file)
