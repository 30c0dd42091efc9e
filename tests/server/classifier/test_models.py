"""Which models callers may name, and that each is loaded once, and never on a caller's word."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException

from clipmod_cli import assemble
from clipmod_cli.errors import SettingsError
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.server.apis.classifier import models
from clipmod_cli.server.apis.classifier.models import Classifiers, classifiers_of, read_allowed
from clipmod_cli.server.configuration import DocumentedEnvironment, documented_environment
from clipmod_cli.settings.definition import Settings
from tests.hub import FakeHub

FALCON = "Falconsai/nsfw_image_detection"
SECRET = "hf_not-to-be-told"


def made(
    tmp_path: Path, *texts: str, endpoint: str = "http://127.0.0.1:9", env: Any = None, **hub: Any
) -> Classifiers:
    settings = Settings(classifier=texts or Settings().classifier)
    where = Hub(endpoint=endpoint, cache_dir=tmp_path / "cache", timeout_s=1.0, **hub)
    return classifiers_of(settings, documented_environment(env or {}), where)


def soon() -> float:
    return time.monotonic() + 60


def refused(classifiers: Classifiers, name: str) -> HTTPException:
    with pytest.raises(HTTPException) as caught:
        classifiers.load(classifiers.resolve([name]), soon())
    return caught.value


def test_the_documented_names_are_allowed() -> None:
    assert list(read_allowed(Settings().classifier)) == [
        FALCON,
        "LukeJacob2023/nsfw-image-detector",
        "nateraw/vit-age-classifier",
        "nudenet",
    ]


def test_aliases_stand_for_folders_and_repositories(tmp_path: Path) -> None:
    found = read_allowed([f"mine={tmp_path}/run=3", "a.b/c=x/y", f"{tmp_path}/plain", "parts=nudenet"])
    assert {name: one.spec.spec for name, one in found.items()} == {
        "mine": f"hf:{tmp_path}/run=3",
        "a.b/c": "hf:x/y",
        "plain": f"hf:{tmp_path}/plain",
        "parts": "nudenet",
    }


@pytest.mark.parametrize(
    "text", ["x", "a=b", "a b=x/y", "open_clip:ViT-L-14/x", "=x/y", "x/y,z/w", "auto", ""]
)
def test_a_wrong_entry_is_told(text: str) -> None:
    with pytest.raises(SettingsError, match="--classifier"):
        read_allowed([text])


def test_one_name_for_two_models_is_refused() -> None:
    with pytest.raises(SettingsError, match="two models"):
        read_allowed(["a=x/y", "a=x/z"])


def test_the_default_is_the_operators(tmp_path: Path) -> None:
    assert made(tmp_path).default_name == FALCON
    assert made(tmp_path, "nudenet").default_name == "nudenet"
    named = made(tmp_path, "nudenet", env={"DEFAULT_MODEL_NAME": "x/y", "DEFAULT_SCORE": "0.3"})
    assert named.default_name == "x/y"
    assert named.resolve([])[0].spec.repo == "x/y"
    assert named.default_score == 0.3
    with pytest.raises(SettingsError, match="DEFAULT_MODEL_NAME"):
        made(tmp_path, env={"DEFAULT_MODEL_NAME": "not a model"})


@pytest.mark.parametrize(
    "name", ["x/y", "../etc", "http://127.0.0.1/x", "hf:x/y", "open_clip:ViT-L-14/x", "a" * 5000]
)
def test_a_name_that_is_not_allowed_is_400_and_asks_nobody(tmp_path: Path, name: str) -> None:
    with FakeHub() as hub:
        error = refused(made(tmp_path, endpoint=hub.endpoint), name)
        assert hub.requests == []
    assert error.status_code == 400
    assert FALCON in error.detail
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("offline", [True, False])
def test_what_cannot_be_had_is_503_with_the_command(tmp_path: Path, offline: bool) -> None:
    error = refused(made(tmp_path, offline=offline), FALCON)
    assert error.status_code == 503
    assert error.headers == {"Retry-After": "1"}
    assert f"clipmod models download hf:{FALCON}" in error.detail
    assert str(tmp_path) not in error.detail
    assert "127.0.0.1" not in error.detail


def test_a_broken_folder_is_503_without_its_path(tmp_path: Path) -> None:
    error = refused(made(tmp_path, f"mine={tmp_path}/nowhere"), "mine")
    assert error.status_code == 503
    assert str(tmp_path) not in error.detail


def test_weights_come_from_the_hub_once_and_the_token_is_told_to_nobody_else(
    tmp_path: Path, colours: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    files = {path.name: path.read_bytes() for path in colours.iterdir()}
    with FakeHub() as hub:
        hub.add(FALCON, files)
        classifiers = made(tmp_path, endpoint=hub.endpoint, env={"ACCESS_TOKEN": SECRET})
        first = classifiers.load(classifiers.resolve([]), soon())
        asked = len(hub.requests)
        assert classifiers.load(classifiers.resolve([FALCON]), soon()) is first
        assert len(hub.requests) == asked
        assert {request.headers.get("Authorization") for request in hub.asked("/api/")} == {
            f"Bearer {SECRET}"
        }
    assert SECRET not in caplog.text
    assert SECRET not in repr(classifiers)


def test_concurrent_first_requests_load_once(
    tmp_path: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    monkeypatch.setattr(models, "load", _counting(loads, assemble.load))
    classifiers = made(tmp_path, f"mine={colours}", f"same={colours}")
    asked = [classifiers.resolve([name]) for name in ("mine", "same") * 8]
    with ThreadPoolExecutor(16) as threads:
        loaded = list(threads.map(lambda one: classifiers.load(one, soon()), asked))
    assert len(loads) == 1
    assert all(one is loaded[0] for one in loaded)


def test_a_slow_load_holds_up_nobody_else(
    tmp_path: Path, colours: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, real = threading.Event(), assemble.load

    def slow(choice: Any, **how: Any) -> Any:
        if choice.names == ("colours",):
            assert go.wait(30)
        return real(choice, **how)

    monkeypatch.setattr(models, "load", slow)
    classifiers = made(tmp_path, f"slow={colours}", f"quick={others}")
    with pytest.raises(HTTPException) as caught:
        classifiers.load(classifiers.resolve(["slow"]), time.monotonic() + 0.05)
    assert (caught.value.status_code, "still being brought" in caught.value.detail) == (503, True)
    assert classifiers.load(classifiers.resolve(["quick"]), soon()).members
    go.set()
    assert classifiers.load(classifiers.resolve(["slow"]), soon()).members


def test_what_failed_is_tried_again(tmp_path: Path, colours: Path) -> None:
    late = tmp_path / "late"
    classifiers = made(tmp_path, f"mine={late}")
    assert refused(classifiers, "mine").status_code == 503
    shutil.copytree(colours, late)
    assert classifiers.load(classifiers.resolve(["mine"]), soon()).members


def test_models_of_the_same_folder_name_stay_apart(tmp_path: Path, colours: Path, others: Path) -> None:
    for number, folder in enumerate((colours, others)):
        shutil.copytree(folder, tmp_path / str(number) / "best")
    classifiers = made(tmp_path, *(f"m{number}={tmp_path}/{number}/best" for number in (0, 1)))
    asked = classifiers.resolve(["m1", "m0"])
    both = classifiers.load(asked, soon())
    assert {member.model.name for member in both.members} == {classifiers.called(one) for one in asked}
    assert len(both.members) == 2
    assert classifiers.load(classifiers.resolve(["m0", "m1"]), soon()) is both


def test_at_most_so_many_models_are_named(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(9)]
    classifiers = made(tmp_path, *(f"{name}=x/{name}" for name in names))
    with pytest.raises(HTTPException, match="At most 8"):
        classifiers.resolve(names)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, DocumentedEnvironment()),
        (
            {"DEFAULT_SCORE": "", "API_KEYS": "", "USE_API_KEYS": " ", "ACCESS_TOKEN": ""},
            DocumentedEnvironment(),
        ),
        (
            {"API_KEYS": " abc,123,, xyz", "USE_API_KEYS": "False"},
            DocumentedEnvironment(api_keys=("abc", "123", "xyz"), use_api_keys=False),
        ),
        (
            {"USE_API_KEYS": "true", "DEFAULT_SCORE": "1"},
            DocumentedEnvironment(use_api_keys=True, default_score=1),
        ),
    ],
)
def test_the_documented_environment(given: dict[str, str], expected: DocumentedEnvironment) -> None:
    assert documented_environment(given) == expected


@pytest.mark.parametrize(
    "given", [{"DEFAULT_SCORE": "x"}, {"DEFAULT_SCORE": "nan"}, {"DEFAULT_SCORE": "7"}, {"USE_API_KEYS": "x"}]
)
def test_a_senseless_variable_is_told(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(given))):
        documented_environment(given)


def test_secrets_are_not_shown() -> None:
    shown = repr(documented_environment({"ACCESS_TOKEN": SECRET, "API_KEYS": "abc"}))
    assert SECRET not in shown
    assert "abc" not in shown


def _counting(loads: list[str], real: Any) -> Any:
    def load(choice: Any, **how: Any) -> Any:
        loads.append(choice.names[0])
        time.sleep(0.05)
        return real(choice, **how)

    return load
