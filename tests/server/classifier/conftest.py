"""A service whose callers may name two small classifiers and the detector, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from clipmod_cli.settings.reading import Resolved
from tests.server.classifier.making import only_tiny, save_colour_classifier
from tests.server.conftest import served


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a classifier with the labels red, green and blue."""
    return save_colour_classifier(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a classifier that calls the same colours warm, fresh and cold."""
    return save_colour_classifier(tmp_path_factory.mktemp("models") / "others", ("warm", "fresh", "cold"))


@pytest.fixture(scope="session")
def allowed(colours: Path, others: Path) -> tuple[str, ...]:
    """The operator's list: a folder in the place of the documented default, another one, and the detector."""
    return f"Falconsai/nsfw_image_detection={colours}", f"others={others}", "nudenet"


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory, allowed: tuple[str, ...]) -> Iterator[Resolved]:
    """The settings of one service for all tests of a module: requests leave nothing that others see."""
    with pytest.MonkeyPatch.context() as patch:
        yield only_tiny(tmp_path_factory.mktemp("home"), patch, classifier=allowed)


@pytest.fixture(scope="module")
def client(resolved: Resolved) -> Iterator[TestClient]:
    """A client of that service."""
    with served(resolved) as one:
        yield one
