"""What a hub can refuse, and how a person is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub.client import Hub, translate_error
from clipmod_cli.models.hub.download import download
from tests.hub import FakeHub, black_hole, refusing_port
from tests.models.weights.kit import (
    FILES,
    REPO,
    SPEC,
    run,
)
from tests.slowness import slowness


def test_a_file_that_is_gone(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    fake.faults.gone = {"model.safetensors"}
    with pytest.raises(MissingModelError, match=r"no longer has model\.safetensors of owner/name"):
        download(SPEC, hub=hub)


def test_a_repository_without_the_files(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, {"config.json": b"{}", "preprocessor_config.json": b"{}", "model.py": b"boom"})
    with pytest.raises(MissingModelError, match=r"it lacks .*model\.safetensors"):
        download(SPEC, hub=hub)


def test_a_gated_repository(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    fake.faults.gated = True
    with pytest.raises(MissingModelError, match=r"gated: accept its terms at .*/owner/name"):
        download(SPEC, hub=hub)


def test_a_repository_that_does_not_exist(fake: FakeHub, hub: Hub) -> None:
    with pytest.raises(MissingModelError, match="no owner/name that you may read"):
        download(SPEC, hub=hub)


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_hub_that_is_down(fake: FakeHub, hub: Hub, status: int) -> None:
    fake.add(REPO, FILES)
    fake.faults.status = status
    with pytest.raises(MissingModelError, match=f"cannot be reached .HTTP status {status}") as caught:
        download(SPEC, hub=hub)
    assert "nudenet" in str(caught.value)


def test_a_captive_portal(fake: FakeHub, hub: Hub) -> None:
    fake.faults.html = True
    with pytest.raises(MissingModelError, match="not a Hugging Face hub"):
        download(SPEC, hub=hub)


def test_a_hub_that_drips(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    fake.faults.drip_s = 0.1
    with pytest.raises(MissingModelError, match="no answer within 1 s"):
        download(SPEC, hub=replace(hub, timeout_s=1))


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://127.0.0.1", "http://me:secret@127.0.0.1:1"])
def test_an_address_that_cannot_work(hub: Hub, endpoint: str) -> None:
    with pytest.raises(MissingModelError, match="cannot be reached") as caught:
        download(SPEC, hub=replace(hub, endpoint=endpoint))
    assert "secret" not in str(caught.value)


@contextmanager
def _busy() -> Iterator[str]:
    with FakeHub() as fake:
        fake.faults.status = 503
        yield fake.endpoint


@pytest.mark.parametrize("unreachable", [black_hole, refusing_port, _busy])
def test_an_unreachable_hub_is_told_within_ten_seconds(
    unreachable: Callable[[], AbstractContextManager[str]], tmp_path: Path
) -> None:
    with unreachable() as endpoint:
        began, slow = time.monotonic(), slowness()
        done = run(endpoint, tmp_path, "download", "ensemble")
        took = time.monotonic() - began
    assert done.returncode == 4
    assert f"the hub at {endpoint} cannot be reached" in done.stderr
    assert "HF_ENDPOINT" in done.stderr
    assert "--models nudenet" in done.stderr
    assert "Traceback" not in done.stderr
    assert took < 10 * max(slow, slowness())  # the promise; the hub is given 7 s of it


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "CLIPMOD_OFFLINE"])
def test_the_environment_can_forbid_the_network(fake: FakeHub, tmp_path: Path, variable: str) -> None:
    fake.add(REPO, FILES)
    done = run(fake.endpoint, tmp_path, "download", SPEC.spec, **{variable: "1"})
    assert done.returncode == 4
    assert "offline" in done.stderr
    assert fake.requests == []


def test_a_token_goes_to_the_hub_and_nowhere_else(fake: FakeHub, tmp_path: Path) -> None:
    fake.add(REPO, FILES)
    fake.faults.cut_after = 100_000
    done = run(fake.endpoint, tmp_path, "download", SPEC.spec, HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    for request in fake.requests:
        expected = None if "/cdn/" in request.path else "Bearer hf_secret"
        assert request.headers.get("Authorization") == expected
    assert {request.path.split("/")[1] for request in fake.requests} == {"api", "owner", "cdn"}
    assert len(fake.asked("/api/")) == 1
    assert "hf_secret" not in done.stdout + done.stderr
    assert "Signature" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("elsewhere", "says"), [(black_hole, r"no answer within 1\.5 s"), (refusing_port, "refused")]
)
def test_a_file_host_that_does_not_answer_is_told_at_once(
    fake: FakeHub, hub: Hub, elsewhere: Callable[[], AbstractContextManager[str]], says: str
) -> None:
    fake.add(REPO, FILES)
    with elsewhere() as address:
        fake.faults.elsewhere = address
        with pytest.raises(MissingModelError, match=says) as caught:
            download(SPEC, hub=replace(hub, timeout_s=1.5))
    assert len(fake.asked("model.safetensors")) == 1
    assert "Signature" not in str(caught.value)


def _all_kinds(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(below for sub in kind.__subclasses__() for below in _all_kinds(sub))]


@pytest.mark.parametrize("kind", _all_kinds(httpx2.RequestError))
def test_every_error_of_the_http_library_is_told(hub: Hub, kind: type[Exception]) -> None:
    told = translate_error(kind("boom"), hub, REPO, "model.safetensors")
    assert f"the hub at {hub.endpoint} cannot be reached" in str(told)
    assert "model.safetensors of owner/name" in str(told)


@pytest.mark.parametrize("kind", _all_kinds(HfHubHTTPError))
@pytest.mark.parametrize("status", [401, 403, 404, 418, 500])
def test_every_refusal_of_the_hub_is_told(hub: Hub, kind: type[HfHubHTTPError], status: int) -> None:
    url = f"{hub.endpoint}/x?Signature=secret"
    response = httpx2.Response(status, request=httpx2.Request("GET", url))
    told = str(translate_error(kind(f"refused {url}", response=response), hub, REPO))
    assert REPO in told
    assert "secret" not in told
