"""A real service in this process over the tiny models, and a client that speaks to it without a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from clipmod_cli.assemble import policy_of
from clipmod_cli.judge.choice import choose
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.server.app import create_app
from clipmod_cli.server.service import Service, open_service
from clipmod_cli.settings.reading import Resolved, resolve
from tests.end_to_end.command import SHAPES, TINY_ENSEMBLE, Command
from tests.warm import warm

BASE_URL = "http://127.0.0.1:8000"
"""Where a client believes to be: a service without keys answers to no name but those of this machine."""

SettingsOf = Callable[..., Resolved]


@pytest.fixture
def settings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SettingsOf:
    """Settings of the tiny ensemble over the shapes policy, with these changes; all in `tmp_path`."""
    for folder in ("DATA", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"XDG_{folder}_HOME", str(tmp_path / folder.lower()))
    for name in ("API_KEYS", "USE_API_KEYS", "CLIPMOD_API_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    warm(tmp_path / "cache")

    def make(**changes: Any) -> Resolved:
        ours = {
            "models": tuple(TINY_ENSEMBLE.split(",")),
            "policy": str(SHAPES),
            "isolate": False,
            "data_dir": str(tmp_path / "kept"),
            **({} if changes.get("no_db") else {"db": str(tmp_path / "store.duckdb")}),
        }
        return resolve({**ours, **changes})

    return make


@contextmanager
def opened(resolved: Resolved) -> Iterator[Service]:
    """Give a service with loaded models, closed afterwards unless an application has done so."""
    policy = policy_of(resolved)
    hub = Hub.from_environment(offline=True)
    choice = choose(resolved.settings.models, policy, hub)
    service = open_service(resolved, choice, policy, hub, command="clipmod serve")
    try:
        yield service
    finally:
        if not service.draining:
            service.close()


@contextmanager
def served(resolved: Resolved, **options: Any) -> Iterator[TestClient]:
    """Give a client of the application over these settings."""
    with opened(resolved) as service, client_of(service, resolved, **options) as client:
        yield client


def client_of(service: Service, resolved: Resolved, **options: Any) -> TestClient:
    """Return a client of the application over an open service; entering it starts the application."""
    return TestClient(create_app(service, resolved.settings), base_url=BASE_URL, **options)


@pytest.fixture
def clipmod(tmp_path_factory: pytest.TempPathFactory, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """The command line, with a home of its own."""
    return Command(tmp_path_factory.mktemp("home"), capfdbinary)


@pytest.fixture
def service(settings_of: SettingsOf) -> Iterator[Service]:
    """A service of the tiny ensemble, open."""
    with opened(settings_of()) as one:
        yield one


@pytest.fixture
def client(service: Service, settings_of: SettingsOf) -> Iterator[TestClient]:
    """A client of the application over `service`."""
    with client_of(service, settings_of()) as one:
        yield one
