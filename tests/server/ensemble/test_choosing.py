"""Policy, threshold and coverage of a single request: as the operator allows them, and never ignored."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from clipmod_cli.errors import BlindModelError, PolicyError, SettingsError
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.models.seam import ForwardPass
from clipmod_cli.server.service import JudgedItem, Service, allowed_policies
from clipmod_cli.settings.definition import Settings
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.types import Frame
from tests.end_to_end.command import SHAPES
from tests.server.conftest import opened
from tests.server.ensemble.pictures import BLUE_SQUARE, RED_CIRCLE
from tests.server.listening import wait_until
from tests.urls.server import Server, reply, serving

SQUARES = """
name = "squares"
templates = ["a photo of a {}", "{}"]
agreement_threshold = 0.5
[thresholds]
medium = 0.5
[[categories]]
name = "nothing"
safety = "SAFE"
otherwise = true
prompts = ["nothing", "empty picture", "plain background", "blank page"]
[[categories]]
name = "circle"
safety = "SAFE"
prompts = ["red circle", "green circle", "blue circle"]
[[categories]]
name = "triangle"
safety = "SAFE"
prompts = ["red triangle", "green triangle", "blue triangle"]
[[categories]]
name = "square"
safety = "UNSAFE"
prompts = ["blue square"]
"""
PATHS = ("/predict/single", "/predict/multi", "/predict/urls", "/predict/streaming")


@pytest.fixture(scope="module")
def web() -> Iterator[Server]:
    """A web server with a blue square and a red circle."""
    with serving() as server:
        server.on("/square.png", reply(body=BLUE_SQUARE))
        server.on("/circle.jpg", reply(body=RED_CIRCLE))
        yield server


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy by which blue squares are NSFW, and red circles are Safe."""
    at = tmp_path_factory.mktemp("policies") / "squares.toml"
    at.write_text(SQUARES, encoding="utf-8")
    return at


@pytest.fixture(scope="module")
def resolved(resolved: Resolved, squares: Path, web: Server) -> Resolved:
    """Settings of a service whose callers may choose all that can be chosen."""
    settings = dataclasses.replace(
        resolved.settings,
        allow_policy=(str(squares),),
        allow_threshold=True,
        allow_coverage=True,
        unseen="safe",
        early_exit="exact",
        allow_host=(f"localhost:{web.port}",),
    )
    return dataclasses.replace(resolved, settings=settings)


def ask(client: TestClient, web: Server, path: str, query: str = "", *, circle: bool = False) -> Any:
    """Send the blue square, or the red circle, to an endpoint."""
    name, data = ("circle.jpg", RED_CIRCLE) if circle else ("square.png", BLUE_SQUARE)
    if path == "/predict/urls":
        return client.post(path + query, json={"urls": [web.url(f"/{name}")]})
    field = "file" if path == "/predict/single" else "files"
    return client.post(path + query, files={field: (name, data)})


def picture_of(answer: Any) -> dict[str, Any]:
    """Return the only picture of an answer."""
    assert answer.status_code == 200, answer.text
    if answer.text.startswith("data: "):
        line: dict[str, Any] = json.loads(answer.text.split("\n\n")[0].removeprefix("data: "))
        return line
    told: dict[str, Any] = answer.json()
    return told["predictions"][0] if "predictions" in told else told


@pytest.mark.parametrize("path", PATHS)
def test_a_request_is_judged_by_the_policy_that_it_names(
    client: TestClient, web: Server, squares: Path, path: str
) -> None:
    default, chosen = (
        picture_of(ask(client, web, path)),
        picture_of(ask(client, web, path, "?policy=squares")),
    )
    assert (default["policy"], default["final_decision"]) == ("shapes", "Safe")
    assert (chosen["policy"], chosen["final_decision"]) == ("squares", "NSFW")
    assert (default["policy_hash"], chosen["policy_hash"]) == (
        load_policy(str(SHAPES)).hash,
        load_policy(str(squares)).hash,
    )
    circle = picture_of(ask(client, web, path, "?policy=squares", circle=True))
    assert (circle["policy"], circle["final_decision"]) == ("squares", "Safe")


@pytest.mark.parametrize("path", PATHS)
def test_a_request_is_judged_by_the_threshold_that_it_names(
    client: TestClient, web: Server, path: str
) -> None:
    strict = picture_of(ask(client, web, path, "?threshold=0"))
    assert (strict["threshold"], strict["final_decision"]) == (0.0, "NSFW")
    lenient = picture_of(ask(client, web, path, "?threshold=1.0&policy=squares"))
    assert (lenient["threshold"], lenient["policy"]) == (1.0, "squares")
    assert lenient["final_decision"] == ("NSFW" if lenient["unsafe_score"] == 1.0 else "Safe")
    assert picture_of(ask(client, web, path))["threshold"] == 0.5  # and nothing of it stays


def test_a_request_chooses_how_much_of_a_picture_is_shown(client: TestClient) -> None:
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.effect_noise((400, 96), 60).convert("RGB").save(buffer, "PNG")
    whole, centre = (
        picture_of(client.post("/predict/single" + query, files={"file": ("a.png", buffer.getvalue())}))
        for query in ("?coverage=full", "?coverage=centre")
    )
    assert whole["coverage"] == 1.0
    assert centre["coverage"] < 0.5
    assert centre["views_scored"] == 1 < whole["views_scored"]
    assert "coverage" in centre["review_reasons"]


def test_rows_tell_by_which_criteria_and_runs_differ(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch, web: Server
) -> None:
    judged: list[JudgedItem] = []
    monkeypatch.setattr(service, "watchers", [judged.append])
    queries = ("", "?policy=squares", "?threshold=0.25", "?policy=squares&threshold=0.25", "?coverage=centre")
    for query in queries:
        ask(client, web, "/predict/single", query)
    assert len({one.record.run_key for one in judged}) == len(queries)
    assert {one.record.run_id for one in judged} == {service.panel.facts.run_id}
    store = client.app_state["storage"].store
    found = store.query(
        "SELECT policy, policy_hash, threshold, run_key FROM items ORDER BY judged_at, index"
    ).rows
    kept = [(r.policy, r.policy_hash, r.threshold, r.run_key) for r in (one.record for one in judged)]
    assert [tuple(row) for row in found[-len(queries) :]] == kept


def test_policies_share_forward_passes_and_keep_their_own_criteria(
    client: TestClient, service: Service, web: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    model: Any = service.panel.ensemble.members[0].model
    real: Callable[[Sequence[Frame]], Callable[[], ForwardPass]] = model.submit
    first = threading.Lock()

    def submit(frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        if first.acquire(blocking=False):  # the others wait for this pass, so that they share the next one
            wait_until(lambda: len(service.device.queue) + len(frames) >= len(queries))
        batches.append(len(frames))
        return real(frames)

    chosen = ("", "&policy=squares", "&threshold=0.9&policy=squares", "&threshold=0")
    queries = [f"?coverage=centre{more}" for more in chosen] * 2  # one view each, which allows early exit
    alone = [picture_of(ask(client, web, "/predict/single", query)) for query in queries]
    monkeypatch.setattr(model, "submit", submit)
    with ThreadPoolExecutor(len(queries)) as threads:
        together = list(
            threads.map(lambda query: picture_of(ask(client, web, "/predict/single", query)), queries)
        )
    assert len(batches) < len(queries)
    fields = ("policy", "threshold", "final_decision", "models_used", "models_skipped")
    for one, other in zip(alone, together, strict=True):
        assert [one[name] for name in fields] == [other[name] for name in fields]
        assert one["unsafe_score"] == pytest.approx(other["unsafe_score"], abs=1e-4)
    assert len({json.dumps(one["models_used"]) for one in alone}) > 1  # early exit differs by criteria


def test_the_fallback_judges_by_the_policy_of_the_request(
    client: TestClient, service: Service, web: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: Any = service.panel.ensemble.members[1].model  # exact early exit does not need the last one

    def fail(_: Sequence[Frame]) -> Callable[[], ForwardPass]:
        raise RuntimeError("broken")

    monkeypatch.setattr(broken, "submit", fail)
    told = picture_of(ask(client, web, "/predict/single", "?policy=squares&threshold=0"))
    assert list(told["results"]) == ["openclip_fallback"]
    assert (told["policy"], told["threshold"]) == ("squares", 0.0)
    assert "square" in told["results"]["openclip_fallback"]["ensemble_prediction"][
        "category_ensemble_probabilities"
    ]  # fmt: skip
    assert "fallback_model" in told["review_reasons"]


def test_the_moderations_of_openais_clients_are_by_that_policy_too(client: TestClient, web: Server) -> None:
    body = {"input": [{"type": "image_url", "image_url": {"url": web.url("/square.png")}}]}
    default, chosen = (
        client.post(f"/v1/moderations{query}", json=body).json()["results"][0]
        for query in ("", "?policy=squares")
    )
    assert (default["categories"].get("square"), chosen["categories"].get("square")) == (None, True)


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("?policy=nsfw", 400, "Allowed: shapes, squares"),
        ("?policy=", 400, "Allowed: shapes, squares"),
        ("?policy=../../etc/passwd", 400, "Allowed: shapes, squares"),
        ("?treshold=0.1", 400, "policy, threshold, coverage"),
        ("?policy=squares&policy=shapes", 400, "more than once"),
        ("?threshold=1.1", 422, "less than or equal to 1"),
        ("?threshold=nan", 422, "finite number"),
        ("?threshold=", 422, "valid number"),
        ("?coverage=tiles%3D9", 422, "'full' or 'centre'"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_what_is_unknown_is_refused(
    client: TestClient, web: Server, path: str, query: str, status: int, said: str
) -> None:
    answer = ask(client, web, path, query)
    assert answer.status_code == status
    assert said in json.dumps(answer.json()["detail"])


def test_the_configuration_tells_what_may_be_chosen(client: TestClient) -> None:
    told = client.get("/config").json()
    assert told["allowed_policies"] == ["shapes", "squares"]
    assert told["allowed_parameters"] == ["policy", "threshold", "coverage"]


def test_policies_are_checked_at_the_start(resolved: Resolved, tmp_path: Path, squares: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(SQUARES.replace("blue square", "green square"), encoding="utf-8")
    default = load_policy(str(SHAPES))
    with pytest.raises(SettingsError, match="the name 'squares' too"):
        allowed_policies(Settings(allow_policy=(str(squares), str(other))), default)
    with pytest.raises(PolicyError, match="no-such"):
        allowed_policies(Settings(allow_policy=("no-such",)), default)
    both = Settings(allow_policy=(str(squares), str(squares), str(SHAPES)))
    assert [one.name for one in allowed_policies(both, default)] == ["squares"]
    blind = tmp_path / "blind.toml"
    blind.write_text(SQUARES.replace('prompts = ["blue square"]', 'labels = { nudenet = ["FACE_MALE"] }'))
    settings = dataclasses.replace(resolved.settings, allow_policy=(str(blind),))
    with (
        pytest.raises(BlindModelError, match="cannot see square"),
        opened(dataclasses.replace(resolved, settings=settings)),
    ):
        pass
