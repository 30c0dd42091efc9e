"""`/classify/`: the caller's own classes, the form's rules, URLs, and what is kept of the text towers."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException
from httpx2 import Response
from starlette.testclient import TestClient

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.models.open_clip.model import OpenClipModel
from clipmod_cli.server.apis.classes import words as class_words
from clipmod_cli.server.apis.classes.words import DOCUMENTED_CLASSES, ClassVectors, read_classes
from clipmod_cli.server.apis.downloading import fetch_rules
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.sources.web.addresses import AddressRules, FetchRules
from tests.end_to_end.command import TINY_ENSEMBLE
from tests.models.backends import tiny_clip
from tests.server.classifier.making import only_tiny, png
from tests.server.conftest import served
from tests.tiny.shapes import draw_clear
from tests.urls.server import reply, serving

CLASSES = "red circle, blue square, green star"
MODELS = (*TINY_ENSEMBLE.split(","), "nudenet=0.5")


def soon() -> float:
    """Return when a test's request is over."""
    return time.monotonic() + 60


def shape(name: str) -> bytes:
    """Return a picture of a shape, as a PNG."""
    colour, form = name.split()
    buffer = io.BytesIO()
    draw_clear(colour, form, (96, 96)).save(buffer, "PNG")
    return buffer.getvalue()


def send(client: TestClient, data: bytes | None = None, path: str = "/classify/", **form: str) -> Response:
    files = {"image": ("a.png", data)} if data is not None else None
    return client.post(path, files=files, data=form)


def result(client: TestClient, data: bytes | None = None, **form: str) -> Any:
    answer = send(client, data, **form)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"result"}
    return answer.json()["result"]


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory, allowed: tuple[str, ...]) -> Iterator[Resolved]:
    """Settings of the tiny ensemble with the detector beside it, which knows no words."""
    with pytest.MonkeyPatch.context() as patch:
        yield only_tiny(
            tmp_path_factory.mktemp("home"), patch, classifier=allowed, models=MODELS, policy="nsfw"
        )


@pytest.mark.parametrize("name", ["red circle", "blue square", "green star"])
@pytest.mark.parametrize("path", ["/classify/", "/classify"])
def test_the_class_that_is_there_has_the_highest_probability(
    client: TestClient, name: str, path: str
) -> None:
    answer = send(client, shape(name), path, classes=CLASSES)
    told = answer.json()["result"]
    assert told["prediction"] == name
    assert list(told["label_probabilities"]) == CLASSES.split(", ")
    assert sum(told["label_probabilities"].values()) == pytest.approx(1)
    assert told["original_payload"] == {"location": None, "classifier": "clip"}


@pytest.mark.parametrize("form", [{}, {"classes": "", "classifier": "", "location": ""}])
def test_the_documented_classes_are_the_default(client: TestClient, form: dict[str, str]) -> None:
    told = result(client, png("red"), **form)
    assert list(told["label_probabilities"]) == DOCUMENTED_CLASSES.split(", ")


def test_one_loaded_model_can_be_named(client: TestClient) -> None:
    every = result(client, shape("red circle"), classes=CLASSES)
    one = result(client, shape("red circle"), classes=CLASSES, classifier="tiny-h")
    assert one["prediction"] == every["prediction"]
    assert one["label_probabilities"] != every["label_probabilities"]
    assert one["original_payload"]["classifier"] == "tiny-h"


def test_an_allowed_classifier_answers_with_labels_of_its_own(client: TestClient) -> None:
    told = result(client, png("red"), classifier="others")
    assert told["prediction"] == "warm"
    assert set(told["label_probabilities"]) == {"warm", "fresh", "cold"}
    told = result(client, png("red"), classifier="others", classes="cold, fresh")
    assert list(told["label_probabilities"]) == ["cold", "fresh"]


@pytest.mark.parametrize(
    ("form", "picture", "status", "said"),
    [
        ({}, False, 400, "either image"),
        ({"location": "http://example.org/a.png"}, True, 400, "either image"),
        ({"location": "file:///etc/passwd"}, False, 400, "cannot be judged"),
        ({"location": "http://169.254.169.254/latest"}, False, 400, "cannot be judged"),
        ({"location": "http://localhost:1/a.png"}, False, 400, "cannot be judged"),
        ({"classes": "one"}, True, 400, "2 to 64"),
        ({"classes": ", ,"}, True, 400, "2 to 64"),
        ({"classes": ",".join(f"c{n}" for n in range(65))}, True, 400, "2 to 64"),
        ({"classes": "a," + "b" * 101}, True, 400, "100 characters"),
        ({"classes": "a,A"}, True, 400, "twice"),
        ({"classes": "a,b\0"}, True, 400, "control"),
        ({"classifier": "x/y"}, True, 400, "not a classifier of this service"),
        ({"classifier": "others", "classes": "purple"}, True, 400, "warm, fresh, cold"),
    ],
)
def test_what_cannot_be_asked_is_400(
    client: TestClient, form: dict[str, str], picture: bool, status: int, said: str
) -> None:
    answer = send(client, png("red") if picture else None, **form)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]


def test_braces_and_quotes_in_classes_are_only_words(client: TestClient) -> None:
    words = ["{}", "{0.__class__}", "%s", "'; drop table", "<script>", "../../x"]
    told = result(client, png("red"), classes=",".join(words))
    assert list(told["label_probabilities"]) == words


def test_a_picture_that_cannot_be_decoded_is_400(client: TestClient) -> None:
    assert send(client, b"no picture").status_code == 400


def test_a_url_is_fetched(client: TestClient) -> None:
    app: Any = client.app
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        rules = FetchRules(access=AddressRules(private=True))
        patch.setitem(app.dependency_overrides, fetch_rules, lambda: rules)
        url = server.on("/a.png", reply(200, shape("red circle")))
        told = result(client, location=url, classes=CLASSES)
        missing = send(client, location=server.url("/none.png"))
    assert told["prediction"] == "red circle"
    assert told["original_payload"] == {"location": url, "classifier": "clip"}
    assert missing.status_code == 400
    assert "404" in missing.json()["detail"]


def test_private_addresses_are_never_asked(client: TestClient) -> None:
    with serving() as server:
        answer = send(client, location=server.on("/a.png", reply(200, png("red"))))
        assert server.asked == []
    assert answer.status_code == 400
    assert "127.0.0.1" not in answer.json()["detail"]


def test_without_a_text_image_model_it_is_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: tuple[str, ...]
) -> None:
    settings = only_tiny(
        tmp_path, monkeypatch, classifier=allowed, models=("nudenet",), policy="nsfw", allow_partial=True
    )
    with served(settings) as client:
        assert send(client, png("red")).status_code == 503
        assert result(client, png("red"), classifier="others")["prediction"] == "warm"


def towers(models: list[OpenClipModel]) -> list[str]:
    """Return whose text towers are in memory."""
    return [model.name for model in models if model.texts._tower is not None]


@pytest.fixture
def tiny(tmp_path: Path) -> list[OpenClipModel]:
    """Three models as the service holds them: their own prompts embedded, no tower left."""
    loaded = [tiny_clip(name, tmp_path) for name in ("tiny-l", "tiny-h", "tiny-g")]
    for model in loaded:
        model.embed(["nothing"])
    return loaded


def ensemble_of(models: list[OpenClipModel]) -> Ensemble:
    return Ensemble(members=[Member(model, 1 / len(models)) for model in models])


def test_one_text_tower_at_most_stays(tiny: list[OpenClipModel]) -> None:
    words, ensemble = ClassVectors(), ensemble_of(tiny)
    assert towers(tiny) == []
    for text in ("red circle,blue square", "green star,blue square", "grey star,red star"):
        words.criteria(ensemble, read_classes(text), soon())
        assert len(towers(tiny)) == 1


def test_the_tower_that_is_there_is_used_first(tiny: list[OpenClipModel]) -> None:
    words, ensemble, reloads = ClassVectors(), ensemble_of(tiny), [0]
    for model in tiny:
        model.texts.load = _counting(model.texts.load, reloads)
    words.criteria(ensemble, read_classes("red circle,blue square"), soon())
    assert reloads == [3]
    words.criteria(ensemble, read_classes("green star,grey star"), soon())
    assert reloads == [5]


def test_classes_seen_before_are_not_embedded_again(
    tiny: list[OpenClipModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, ensemble = ClassVectors(), ensemble_of(tiny)
    first = words.criteria(ensemble, read_classes("red circle,blue square,green star"), soon())
    for model in tiny:
        monkeypatch.setattr(model, "embed", _refuse)
    again = words.criteria(ensemble, read_classes("green star,red circle"), soon())
    for one, other in zip(first.judges, again.judges, strict=True):
        vectors = one.reader.vectors, other.reader.vectors  # type: ignore[attr-defined]
        assert (vectors[0][[2, 0]] == vectors[1]).all()


def test_a_restart_reads_them_from_disk(tiny: list[OpenClipModel]) -> None:
    classes = read_classes("red circle,blue square")
    ClassVectors().criteria(ensemble_of(tiny), classes, soon())
    for model in tiny:
        model.unload_text_tower()
        model.texts.load = _refuse
    assert ClassVectors().criteria(ensemble_of(tiny), classes, soon()).judges


def test_memory_for_vectors_is_bounded(tiny: list[OpenClipModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_words, "MOST_VECTORS", 10)
    words = ClassVectors()
    for number in range(5):
        words.criteria(ensemble_of(tiny[:1]), read_classes(f"a{number},b{number}"), soon())
    assert len(words._known) <= 10


def test_many_at_once_get_the_same(tiny: list[OpenClipModel]) -> None:
    words, ensemble = ClassVectors(), ensemble_of(tiny)
    texts = ["red circle,blue square", "green star,blue square"] * 6
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda text: words.criteria(ensemble, read_classes(text), soon()), texts))
    for number, one in enumerate(made):
        for judge, same in zip(one.judges, made[number % 2].judges, strict=True):
            assert (judge.reader.vectors == same.reader.vectors).all()  # type: ignore[attr-defined]


def test_waiting_for_a_tower_ends_with_the_request(tiny: list[OpenClipModel]) -> None:
    words = ClassVectors()
    with words._tower, pytest.raises(HTTPException) as caught:
        words.criteria(ensemble_of(tiny), read_classes("red circle,blue square"), 0.0)
    assert caught.value.status_code == 504


def test_the_same_members_are_one_ensemble_for_all_requests(tiny: list[OpenClipModel]) -> None:
    words, ensemble = ClassVectors(), ensemble_of(tiny)
    assert words.models_of(ensemble, "clip") is ensemble
    one = words.models_of(ensemble, "tiny-g")
    assert one is words.models_of(ensemble, tiny[2].spec)
    assert one is not None
    assert [(member.model.name, member.weight) for member in one.members] == [("tiny-g", 1.0)]
    assert words.models_of(ensemble, "nudenet") is None


def _counting(real: Any, count: list[int]) -> Any:
    def reload() -> Any:
        count[0] += 1
        return real()

    return reload


def _refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("a class that was seen before was embedded again")
