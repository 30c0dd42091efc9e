"""Servers for the tests of downloading."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.urls.server import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers as it is told."""
    with serving() as made:
        yield made


@pytest.fixture
def secure() -> Iterator[Server]:
    """The same over TLS."""
    with serving(secure=True) as made:
        yield made


@pytest.fixture
def canary() -> Iterator[Server]:
    """A server that must not be asked."""
    with serving() as made:
        yield made
        assert made.asked == []
