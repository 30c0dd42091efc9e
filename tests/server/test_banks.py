"""Banks of hashes in the service: every interface answers by them, in its own shape."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from clipmod_cli.server.apis.downloading import fetch_rules
from clipmod_cli.server.apis.ensemble.shapes import Multi, Single
from clipmod_cli.sources.web.addresses import AddressRules, FetchRules
from tests.banks.making import sha, write_bank
from tests.server.conftest import SettingsOf, served
from tests.server.ensemble.pictures import BLUE_SQUARE, RED_CIRCLE, TRIANGLE
from tests.urls.server import reply, serving

BROKEN = b"\x89PNG\r\n\x1a\n and nothing that could be decoded"


@contextmanager
def service(
    settings_of: SettingsOf, folder: Path, *, deny: bytes = BLUE_SQUARE, **more: Any
) -> Iterator[TestClient]:
    """Give a client of a service that denies one picture and allows the red circle."""
    denied = folder / "deny.csv"
    denied.write_text(f"sha256,type,note\n{sha(deny)},spam,seen before\n", encoding="utf-8")
    allowed = write_bank(folder / "allow.txt", sha(RED_CIRCLE), sha(BROKEN))
    with served(settings_of(bank=(f"deny:{denied}", f"allow:{allowed}"), **more)) as client:
        yield client


def files(field: str, *pictures: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [(field, (f"{number}.png", data)) for number, data in enumerate(pictures)]


def test_a_denied_picture_is_nsfw_in_the_documented_shape(settings_of: SettingsOf, tmp_path: Path) -> None:
    with service(settings_of, tmp_path) as client:
        answer = client.post("/predict/single", files=files("file", BLUE_SQUARE))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    Single.model_validate(found)
    assert (found["final_decision"], found["decided_by"], found["confidence"]) == ("NSFW", "deny", 1.0)
    assert found["matches"] == [{"bank": "deny.csv", "type": "spam", "note": "seen before"}]
    assert (found["ensemble_category"], found["unsafe_score"]) == ("red_circle", 1.0)
    assert (found["models_used"], found["width"], found["view"]) == ([], None, None)
    told = (found["image_hosted"], found["image_url"], found["image_not_hosted"])
    assert told == (False, None, "denied"), "what is denied is not kept"
    (result,) = found["results"].values()
    together = result["ensemble_prediction"]
    assert (together["safety_decision"], together["predicted_category"]) == ("UNSAFE", "red_circle")
    assert together["category_ensemble_probabilities"]["red_circle"] == 1.0
    assert sum(together["category_ensemble_probabilities"].values()) == 1.0


def test_an_allowed_picture_is_safe_even_if_it_cannot_be_decoded(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    with service(settings_of, tmp_path) as client:
        for data in (RED_CIRCLE, BROKEN):
            found = client.post("/predict/single", files=files("file", data)).json()
            assert (found["final_decision"], found["decided_by"]) == ("Safe", "allow"), found
            (result,) = found["results"].values()
            assert result["ensemble_prediction"]["safety_decision"] == "SAFE"
            assert found["unsafe_score"] == 0.0
            assert found["image_not_hosted"] == ("metadata" if data is BROKEN else None)
        other = client.post("/predict/single", files=files("file", RED_CIRCLE + b"\0")).json()
        assert (other["final_decision"], other["decided_by"], other["matches"]) == ("NSFW", "models", None)


def test_a_denied_picture_is_flagged_in_openais_shape_and_an_allowed_one_is_not(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    def moderated(client: TestClient, picture: bytes) -> Any:
        url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        sent = {"input": [{"type": "image_url", "image_url": {"url": url}}]}
        return client.post("/v1/moderations", json=sent).json()["results"][0]

    with service(settings_of, tmp_path) as client:
        denied, allowed = moderated(client, BLUE_SQUARE), moderated(client, RED_CIRCLE)
    assert (denied["flagged"], denied["categories"]["red_circle"]) == (True, True)
    assert denied["category_scores"]["red_circle"] == 1.0
    (image,) = denied["images"]
    assert (image["decided_by"], image["matches"][0]["bank"]) == ("deny", "deny.csv")
    assert (allowed["flagged"], any(allowed["categories"].values())) == (False, False)
    assert allowed["images"][0]["decided_by"] == "allow"


def test_several_pictures_are_decided_one_by_one(settings_of: SettingsOf, tmp_path: Path) -> None:
    with service(settings_of, tmp_path) as client:
        sent = files("files", BLUE_SQUARE, TRIANGLE, RED_CIRCLE, BROKEN)
        found = client.post("/predict/multi", files=sent).json()
        Multi.model_validate(found)
        decided = [(one["final_decision"], one["decided_by"]) for one in found["predictions"]]
        assert decided == [("NSFW", "deny"), ("Safe", "models"), ("Safe", "allow"), ("Safe", "allow")]
        assert (found["summary"]["nsfw_images"], found["summary"]["safe_images"]) == (1, 3)
        stream = client.post("/predict/streaming", files=sent).text
        lines = [json.loads(line.removeprefix("data: ")) for line in stream.split("\n\n") if line]
        assert [(one["final_decision"], one["decided_by"]) for one in lines[:-1]] == decided
        assert (lines[-1]["nsfw_count"], lines[-1]["safe_count"]) == (1, 3)


def test_urls_are_compared_too(settings_of: SettingsOf, tmp_path: Path) -> None:
    with serving() as web, service(settings_of, tmp_path) as client:
        assert isinstance(client.app, FastAPI)
        client.app.dependency_overrides[fetch_rules] = lambda: FetchRules(access=AddressRules(private=True))
        web.on("/a.png", reply(body=BLUE_SQUARE))
        found = client.post("/predict/urls", json={"urls": [web.url("/a.png")]}).json()
    assert [(one["final_decision"], one["decided_by"]) for one in found["predictions"]] == [("NSFW", "deny")]


def test_interfaces_without_a_decision_refuse_what_is_denied(settings_of: SettingsOf, tmp_path: Path) -> None:
    with service(settings_of, tmp_path) as client:
        for picture, status in ((BLUE_SQUARE, 400), (RED_CIRCLE, 200), (TRIANGLE, 200)):
            sent = {"image": ("a.png", picture)}
            answer = client.post("/classify/", files=sent, data={"classes": "red circle, blue square"})
            assert answer.status_code == status, answer.text
            if status == 400:
                assert "denied (deny.csv)" in answer.json()["detail"]
                assert sha(picture) not in answer.text


def test_the_classifier_refuses_what_is_denied(settings_of: SettingsOf, tmp_path: Path) -> None:
    with service(settings_of, tmp_path, classifier=("nudenet",)) as client:
        path = "/api/image-classification?model_name=nudenet"
        answer = client.post(path, files=files("file", BLUE_SQUARE))
        assert (answer.status_code, "denied (deny.csv)" in answer.text) == (400, True)
        assert client.post(path, files=files("file", RED_CIRCLE)).status_code == 200


def test_rows_are_those_of_banks(settings_of: SettingsOf, tmp_path: Path) -> None:
    with service(settings_of, tmp_path) as client:
        client.post("/predict/multi", files=files("files", BLUE_SQUARE, TRIANGLE))
        text = client.get("/metrics").text
        stats = client.get("/stats").json()
    assert 'decision="NSFW"' in text
    assert (stats["nsfw_detections"], stats["safe_detections"]) == (1, 1)


def test_a_changed_bank_holds_without_a_restart(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmod_cli.banks.watch.CHECK_EVERY_S", 0.0)
    with service(settings_of, tmp_path) as client:

        def decided(data: bytes) -> str:
            return str(client.post("/predict/single", files=files("file", data)).json()["decided_by"])

        assert decided(TRIANGLE) == "models"
        write_bank(tmp_path / "deny.csv", sha(TRIANGLE))
        assert (decided(TRIANGLE), decided(BLUE_SQUARE)) == ("deny", "models")
        (tmp_path / "deny.csv").write_text("broken\n", encoding="utf-8")
        assert decided(TRIANGLE) == "deny", "what was read before stays in force"


def test_the_category_of_a_denied_picture_is_the_entrys_own(settings_of: SettingsOf, tmp_path: Path) -> None:
    with service(settings_of, tmp_path, policy="nsfw", models=("open_nsfw",)) as client:
        listed = f"sha256,type\n{sha(BLUE_SQUARE)},nudity\n{sha(TRIANGLE)},drawing\n"
        (tmp_path / "deny.csv").write_text(listed, encoding="utf-8")
    with served(
        settings_of(bank=(f"deny:{tmp_path / 'deny.csv'}",), policy="nsfw", models=("open_nsfw",))
    ) as client:
        answer = client.post("/predict/multi", files=files("files", BLUE_SQUARE, TRIANGLE)).json()
    assert [one["ensemble_category"] for one in answer["predictions"]] == ["nudity", "explicit"]
