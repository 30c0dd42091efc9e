"""Models that raise, hang and come back, pictures that make them fail, and what the probes say meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from psutil import Process, wait_procs
from starlette.testclient import TestClient

from clipmod_cli.models.seam import ForwardPass
from clipmod_cli.server.gate.availability import UNREADY
from clipmod_cli.server.readiness import follow
from clipmod_cli.server.readiness.reference import NAME, LineCheck, LineStatus
from clipmod_cli.server.service import Service
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.types import Frame
from tests.end_to_end.command import TINY_ENSEMBLE
from tests.server.classifier.making import only_tiny
from tests.server.conftest import client_of, opened
from tests.server.ensemble.pictures import BLUE_SQUARE
from tests.server.listening import wait_until
from tests.server.test_faulty_models import Submit, raise_on_purpose, see_no_numbers

EVERY_S = 0.02
WAIT_S = 60.0
POISON = "poison.png"

Fault = Callable[[Submit, Sequence[Frame]], Callable[[], ForwardPass]]


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resolved]:
    """Settings of the tiny ensemble."""
    with pytest.MonkeyPatch.context() as patch:
        models = tuple(TINY_ENSEMBLE.split(","))
        yield only_tiny(tmp_path_factory.mktemp("home"), patch, models=models, access_log=False)


@pytest.fixture(scope="module")
def service(resolved: Resolved) -> Iterator[Service]:
    """That service; it looks at the reference picture as often as tests need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow, "CHECK_EVERY_S", EVERY_S)
        with opened(resolved) as one:
            yield one


@pytest.fixture(scope="module")
def client(service: Service, resolved: Resolved) -> Iterator[TestClient]:
    """A client of it."""
    with client_of(service, resolved) as one:
        yield one


@contextmanager
def broken(service: Service, fault: Fault, members: slice = slice(None)) -> Iterator[None]:
    """Give models a fault for the time of the block."""
    with pytest.MonkeyPatch.context() as patch:
        for member in service.panel.ensemble.members[members]:
            model: Any = member.model
            patch.setattr(model, "submit", partial(fault, model.submit))
        yield


def judge(client: TestClient, name: str = "a.png") -> Any:
    return client.post("/predict/single", files={"file": (name, BLUE_SQUARE)})


def is_ready(client: TestClient) -> bool:
    return bool(client.get("/readyz").status_code == 200)


def run_out_of_memory(_real: Submit, _frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
    raise MemoryError


def numbers(client: TestClient, name: str) -> list[str]:
    """Return the lines of a metric."""
    return [line for line in client.get("/metrics").text.splitlines() if line.startswith(name)]


@pytest.mark.parametrize("fault", [raise_on_purpose, see_no_numbers, run_out_of_memory])
def test_a_model_that_fails_40_times_ends_readiness_until_it_is_back(
    client: TestClient, service: Service, fault: Fault
) -> None:
    assert is_ready(client)
    with broken(service, fault):
        answers = [judge(client) for _ in range(40)]
        wait_until(lambda: not is_ready(client))
        told = client.get("/readyz").json()
        assert (told["status"], told["models_loaded"], told["draining"]) == ("not ready", True, False)
        assert told["reason"].startswith("the reference picture cannot be judged (")
        assert "secret" not in told["reason"]
        assert client.get("/healthz").status_code == 200
        assert client.get("/health").json()["status"] == "degraded"
        assert client.get("/").json()["status"] == "unavailable"
        assert numbers(client, "clipmod_line_ok") == ["clipmod_line_ok 0.0"]
        assert numbers(client, "clipmod_ready") == ["clipmod_ready 0.0"]
        refused = judge(client)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert client.post("/api/image-classification", files={"file": BLUE_SQUARE}).status_code == 503
    assert {answer.status_code for answer in answers} <= {500, 503}
    assert not [answer.text for answer in answers[:5] if UNREADY in answer.text]
    assert UNREADY in refused.text
    wait_until(lambda: is_ready(client))
    assert client.get("/health").json()["status"] == "healthy"
    assert numbers(client, "clipmod_line_ok") == ["clipmod_line_ok 1.0"]
    assert judge(client).status_code == 200


def test_one_callers_poison_leaves_the_service_ready_for_others(client: TestClient, service: Service) -> None:
    looks = threading.Semaphore(0)

    def choke(real: Submit, frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        if any(frame.item.source == POISON for frame in frames):
            raise RuntimeError("not this one")
        for frame in frames:
            if frame.item.source == NAME:
                looks.release()
        return real(frames)

    with broken(service, choke), ThreadPoolExecutor(2) as pool:
        poisoned = pool.map(lambda _: (judge(client, POISON).status_code, is_ready(client)), range(40))
        honest = pool.map(lambda _: judge(client).status_code, range(10))
        assert set(honest) == {200}
        assert set(poisoned) == {(500, True)}
        alone = [(judge(client, POISON).status_code, is_ready(client)) for _ in range(10)]
        assert set(alone) == {(500, True)}
        assert looks.acquire(timeout=WAIT_S), "five failures in a row, and nobody looked"
        assert is_ready(client)
    assert judge(client).status_code == 200


def test_while_a_forward_pass_hangs_requests_end_and_new_ones_do_not_wait(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, back = threading.Event(), threading.Event()

    def hang(real: Submit, frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        entered.set()
        assert back.wait(WAIT_S)
        return real(frames)

    def classify() -> Any:
        return client.post("/classify/", files={"image": BLUE_SQUARE})

    assert classify().status_code == 200  # which keeps the vectors of its classes
    monkeypatch.setattr(service, "deadline_s", 2.0)
    with ThreadPoolExecutor(3) as pool:
        with broken(service, hang):
            taken = [pool.submit(judge, client)]
            assert entered.wait(WAIT_S)
            # this endpoint's thread waits for its evidence, and must not wait beyond its deadline
            taken.append(pool.submit(classify))
            wait_until(
                lambda: numbers(client, "clipmod_requests_admitted") == ["clipmod_requests_admitted 2.0"]
            )
            monkeypatch.setattr(service.readiness, "pass_limit_s", 0.5)
            wait_until(lambda: not is_ready(client))
            assert client.get("/readyz").json()["reason"] == "a forward pass takes more than 0.5 s"
            assert float(numbers(client, "clipmod_forward_running_seconds")[0].split()[1]) > 0.5
            assert judge(client).status_code == 503
            assert [one.result(WAIT_S).status_code for one in taken] == [504, 504]
            assert not is_ready(client)
            back.set()
        wait_until(lambda: is_ready(client))
    assert judge(client).status_code == 200


def test_a_pass_that_came_back_late_is_followed_by_a_look_at_the_reference_picture(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, back = threading.Event(), threading.Event()

    def hang_once_then_raise(real: Submit, frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        if not late.is_set():
            late.set()
            assert back.wait(WAIT_S)
            return real(frames)
        raise RuntimeError("broken by then")

    monkeypatch.setattr(service.readiness, "pass_limit_s", 0.2)
    with ThreadPoolExecutor(1) as pool, broken(service, hang_once_then_raise):
        taken = pool.submit(judge, client)
        wait_until(lambda: not is_ready(client))
        back.set()
        assert taken.result(WAIT_S).status_code in {200, 500}
        wait_until(lambda: "cannot be judged (model_error)" in (client.get("/readyz").json()["reason"] or ""))
    wait_until(lambda: is_ready(client))


def test_a_member_that_fails_degrades_and_the_others_judge(client: TestClient, service: Service) -> None:
    check = LineCheck(service.panels, service.options, service.device)
    assert check() == LineStatus()
    with broken(service, raise_on_purpose, slice(1, 2)):
        assert check() == LineStatus(degraded=True)
    with broken(service, raise_on_purpose):
        assert check().fault == f"{NAME} cannot be judged (model_error)"
    assert is_ready(client)


def test_the_reference_picture_leaves_no_trace(client: TestClient, service: Service) -> None:
    def traces() -> Any:
        stats = client.get("/stats").json()
        del stats["uptime_hours"], stats["database_stats"]["database_size_mb"]
        return stats, numbers(client, "clipmod_decisions"), numbers(client, "clipmod_hosted")

    assert judge(client).status_code == 200
    before = traces()
    assert LineCheck(service.panels, service.options, service.device)(copies=3) == LineStatus()
    assert traces() == before
    assert judge(client).status_code == 200
    assert traces() != before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lost_device_asks_to_be_restarted(resolved: Resolved) -> None:
    class AcceleratorError(RuntimeError):
        """As torch calls what no later call recovers from."""

    def lose(_real: Submit, _frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        raise AcceleratorError("CUDA error: an illegal memory access was encountered")

    alone = replace(resolved, settings=replace(resolved.settings, no_db=True))
    with opened(alone) as service, client_of(service, alone) as client:
        assert client.get("/healthz").status_code == 200
        with broken(service, lose):
            assert judge(client).status_code == 500
            wait_until(lambda: not service.device.alive)
        answer = client.get("/healthz")
        assert (answer.status_code, answer.json()) == (503, {"status": "dead"})
        assert client.get("/readyz").json()["reason"] == follow.DEAD
        assert judge(client).status_code == 503


def test_all_decode_workers_run_before_the_first_request_and_are_replaced(resolved: Resolved) -> None:
    isolated = replace(resolved, settings=replace(resolved.settings, no_db=True, isolate=True, workers="2"))
    before = {one.pid for one in Process().children(recursive=True)}
    with opened(isolated) as service, client_of(service, isolated) as client:
        started = [one for one in Process().children(recursive=True) if one.pid not in before]
        workers = [one for one in started if not one.children() and one.parent() != Process()]
        assert is_ready(client)
        assert len(workers) == 2
        for one in workers:
            one.kill()
        wait_procs(workers, timeout=WAIT_S)
        assert judge(client).status_code == 200
        assert is_ready(client)
