"""Every printed request runs as it stands against a live service, and its answer shows what is printed."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.server.apis import downloading
from clipmod_cli.server.apis.printed import answer_of, load
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.sources.web.addresses import AddressRules
from clipmod_cli.sources.web.downloads import Downloads
from clipmod_cli.sources.web.fetch import Fetcher
from tests.contract.curl import read_curl
from tests.contract.documents import differences
from tests.contract.printed import Place, files_of
from tests.end_to_end.command import SHAPES, TINY_ENSEMBLE
from tests.server.classifier.making import gif, only_tiny, plain, save_colour_classifier
from tests.server.conftest import opened
from tests.server.ensemble.pictures import ANIMATION, BLUE_SQUARE, RED_CIRCLE, RED_SQUARE, TRIANGLE
from tests.server.listening import listening
from tests.urls.kit import PUBLIC, Detour, Resolver, guarded
from tests.urls.server import AUTHORITY, reply, serving
from tests.video.films import write_film

ENSEMBLE = load("ensemble")
CLASSIFIER = load("classifier")
THEIR_HOST = "aimodel.ddns.net"
"""Where the ensemble document's last examples ask: the service has to answer to this name."""

PICTURES = {"jpg": RED_CIRCLE, "png": BLUE_SQUARE, "webp": TRIANGLE, "avif": RED_SQUARE, "gif": ANIMATION}
CLASSIFIER_MODEL = "Falconsai/nsfw_image_detection"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that a request names."""
    at = tmp_path_factory.mktemp("files")
    for example in CLASSIFIER["examples"]:
        _provide(at, example["request"])
    for request in ENSEMBLE["requests"]:
        if request["language"] == "curl":
            _provide(at, request["text"])
    return at


def _provide(folder: Path, command: str) -> None:
    for _, name, _ in read_curl(command).files:
        kind = Path(name).suffix[1:].lower().replace("jpeg", "jpg")
        if kind == "mp4":
            write_film(folder / name, [plain(colour) for colour in ("blue", "red")])
        else:
            data = gif(["blue", "green", "red"]) if kind == "gif" else PICTURES[kind]
            (folder / name).write_bytes(data)


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resolved]:
    """Settings of the tiny ensemble, with a classifier in the place of the documented one."""
    model = save_colour_classifier(tmp_path_factory.mktemp("models") / "colours", ("nsfw", "normal", "other"))
    changes: dict[str, Any] = {
        "models": tuple(TINY_ENSEMBLE.split(",")),
        "policy": str(SHAPES),
        "classifier": (f"{CLASSIFIER_MODEL}={model}",),
        "server_name": (THEIR_HOST,),
        "access_log": False,
    }
    with pytest.MonkeyPatch.context() as patch:
        yield only_tiny(tmp_path_factory.mktemp("home"), patch, **changes)


@pytest.fixture(scope="module")
def place(resolved: Resolved, folder: Path) -> Iterator[Place]:
    """The folder, and a service behind a socket for which the hosts of printed URLs are loopback too."""
    trusting = ssl.create_default_context()
    AUTHORITY.configure_trust(trusting)
    trusting.check_hostname = False
    with serving(secure=True) as web, pytest.MonkeyPatch.context() as patch:
        for path, data in (("/image1.jpg", "jpg"), ("/image2.png", "png"), ("/sample.avif", "avif")):
            web.on(path, reply(body=PICTURES[data]))

        def fetcher(*args: Any, **kwargs: Any) -> Fetcher:
            names = Resolver(example_com=[[PUBLIC]], cdn_example_com=[[PUBLIC]])
            backend = guarded(AddressRules(private=False), names, Detour(web.port))
            return Fetcher(*args, backend=backend, ssl_context=trusting, **kwargs)

        patch.setattr(downloading, "Downloads", partial(Downloads, make_fetcher=fetcher))
        with opened(resolved) as service, listening(service, resolved.settings) as port:
            yield Place(folder, port)


def _name_of(request: dict[str, Any]) -> str:
    return f"{request['line']}-{request['section']}-{request['language']}"


@pytest.mark.parametrize("request_", ENSEMBLE["requests"], ids=_name_of)
def test_a_request_of_the_ensemble_document(place: Place, request_: dict[str, Any]) -> None:
    example_usage = not request_["section"].startswith("/")
    files = [] if example_usage or request_["section"] == "/predict/urls" else _files(request_["section"])
    told = place.run(request_, files)
    if example_usage:
        assert differences(told[0], _answer_to(request_["text"])) == []
        return
    printed = answer_of(ENSEMBLE, request_["section"])
    *lines, last = told
    for line in lines:
        assert differences(line, printed[0]) == []
    assert differences(last, printed[-1] if isinstance(printed, list) else printed) == []
    assert bool(lines) == isinstance(printed, list)
    assert [name for name in files if name not in json.dumps(told)] == []


def _files(section: str) -> list[str]:
    return files_of(ENSEMBLE["requests"], section)


def _answer_to(command: str) -> Any:
    return answer_of(ENSEMBLE, read_curl(command).target)


@pytest.mark.parametrize("example", CLASSIFIER["examples"], ids=lambda one: one["section"])
def test_a_request_of_the_classifier_document(place: Place, example: dict[str, Any]) -> None:
    (told,) = place.run({"language": "curl", "text": example["request"]}, [])
    labels = {"label": "nsfw", "score": 0.5}
    many = "/api/multi-" in example["request"]
    lists = [one[str(index)] for index, one in enumerate(told)] if many else [told]
    assert len(lists) == (3 if many else 1)
    for one in lists:
        assert one or "query" in example["request"]
        assert [d for label in one for d in differences(label, labels)] == []
    if "/api/video" in example["request"]:
        assert differences(told, example["answer"]) == []


def test_what_is_no_part_of_an_example_was_skipped_by_name() -> None:
    (stray,) = ENSEMBLE["skipped"]
    assert (stray["section"], stray["text"].split()[0]) == ("/predict/urls", '"image":')


def test_every_way_of_asking_is_printed_for_every_endpoint() -> None:
    asked = {(one["section"], one["language"]) for one in ENSEMBLE["requests"]}
    paths = ("/predict/single", "/predict/multi", "/predict/urls", "/predict/streaming")
    assert {(path, way) for path in paths for way in ("curl", "python", "javascript")} <= asked
