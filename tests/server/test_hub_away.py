"""A hub that refuses, or never answers: the service starts with what is here, and no request waits for it."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.end_to_end.command import SHAPES, TINY_L, Command
from tests.end_to_end.test_hub_away import PROMISE_S, listening
from tests.hub import black_hole, refusing_port
from tests.server.classifier.making import plain
from tests.server.ensemble.pictures import RED_CIRCLE
from tests.server.listening import CONTENT_TYPE, form_of
from tests.server.test_serving_process import Running, running
from tests.slowness import slowness
from tests.video.films import write_film

HERE = ("--policy", str(SHAPES), "--models", TINY_L, "--no-isolate")
NOTHING_HERE = ("--policy", "nsfw", "--no-isolate")
DEFAULT = "Falconsai/nsfw_image_detection"
COMMAND = f"clipmod models download hf:{DEFAULT}"
"""What brings the documented default of the classifier API."""

GETS = ("/", "/health", "/config", "/stats", "/ui", "/docs", "/openapi.json", "/metrics", "/readyz")
JUDGING = (("/predict/single", "file"), ("/predict/multi", "files"), ("/predict/streaming", "files"))
CLASSIFYING = (
    ("/api/image-classification", "file"),
    ("/api/multi-image-classification", "files"),
    ("/api/image-query-classification", "file"),
    ("/api/multi-image-query-classification", "files"),
)

VIDEO = "/api/video-classification"


def ask(service: Running, path: str, field: str = "", data: bytes = RED_CIRCLE) -> tuple[int, str]:
    """Return the status and text of an answer, which has to come in time; to a field a picture goes along."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PROMISE_S * slowness())
    try:
        if field:
            connection.request(
                "POST", path, form_of(field, [("a.jpg", data)]), {"Content-Type": CONTENT_TYPE}
            )
        else:
            connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_every_endpoint_answers_or_names_the_command(clipmod: Command, tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mp4", [plain("red")]).read_bytes()
    with (
        black_hole() as address,
        running(clipmod, base=HERE, HF_ENDPOINT=address, HF_HOME=str(clipmod.home)) as service,
    ):
        assert {path: ask(service, path)[0] for path in GETS} == dict.fromkeys(GETS, 200)
        for path, field in JUDGING:
            status, text = ask(service, path, field)
            assert (status, "NSFW" in text) == (200, True), path
        status, text = ask(service, "/classify/", "image")
        assert (status, "prediction" in text) == (200, True)
        wanted = [*((path, field, RED_CIRCLE) for path, field in CLASSIFYING), (VIDEO, "file", film)]
        with ThreadPoolExecutor(len(wanted)) as pool:  # each waits for the hub
            answers = list(pool.map(lambda one: ask(service, *one), wanted))
        for (path, _, _), (status, text) in zip(wanted, answers, strict=True):
            assert (status, COMMAND in json.loads(text)["detail"]) == (503, True), path
        status, _ = ask(service, "/readyz")
        assert status == 200


def test_without_any_weights_it_starts_with_the_light_models(clipmod: Command) -> None:
    pytest.importorskip("nudenet")
    with (
        refusing_port() as address,
        running(clipmod, base=NOTHING_HERE, HF_ENDPOINT=address, HF_HOME=str(clipmod.home)) as service,
    ):
        assert ask(service, "/readyz")[0] == 200
        status, text = ask(service, "/predict/single", "file")
        assert (status, list(json.loads(text)["results"])) == (200, ["embedded_ensemble"])
        status, text = ask(service, "/classify/", "image")
        assert (status, "clipmod models download ensemble" in json.loads(text)["detail"]) == (503, True)


def test_an_ensemble_that_is_asked_for_and_cannot_be_had_is_told_in_time(clipmod: Command) -> None:
    with listening() as hub:
        words = ("serve", "--port", "0", "--models", "ensemble", "--no-db")
        ended = clipmod.process(
            *words, env={"HF_ENDPOINT": hub.address, "HF_HOME": str(clipmod.home / "hub")}
        )
        assert hub.first is not None
        assert time.monotonic() - hub.first < PROMISE_S * slowness()
    assert ended.code == 4
    for way in ("HF_ENDPOINT", "--offline", "--models nudenet"):
        assert way in ended.stderr
