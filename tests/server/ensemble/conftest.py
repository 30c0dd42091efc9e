"""One service for all tests of a module: loading models takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from clipmod_cli.server.service import Service
from clipmod_cli.settings.reading import Resolved, resolve
from tests.end_to_end.command import SHAPES, TINY_ENSEMBLE
from tests.server.conftest import client_of, opened
from tests.warm import warm


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resolved]:
    """Settings of the tiny ensemble over the shapes policy, in a home of their own."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for folder in ("DATA", "CONFIG", "CACHE"):
            patch.setenv(f"XDG_{folder}_HOME", str(home / folder.lower()))
        for name in ("API_KEYS", "USE_API_KEYS", "CLIPMOD_API_KEYS"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        warm(home / "cache")
        ours: dict[str, Any] = {
            "models": tuple(TINY_ENSEMBLE.split(",")),
            "policy": str(SHAPES),
            "isolate": False,
            "access_log": False,
            "data_dir": str(home / "kept"),
            "db": str(home / "store.duckdb"),
        }
        yield resolve(ours)


@pytest.fixture(scope="module")
def service(resolved: Resolved) -> Iterator[Service]:
    """A service of the tiny ensemble, open."""
    with opened(resolved) as one:
        yield one


@pytest.fixture(scope="module")
def client(service: Service, resolved: Resolved) -> Iterator[TestClient]:
    """A client of the application over `service`."""
    with client_of(service, resolved) as one:
        yield one
