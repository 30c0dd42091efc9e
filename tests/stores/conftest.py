"""The servers, and the command in front of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import clipmod, out
from tests.stores.servers import FakeGs, FakeS3, serving_gs, serving_s3

__all__ = ["clipmod", "gs", "out", "s3"]


@pytest.fixture
def s3() -> Iterator[FakeS3]:
    """An S3 server with an empty bucket."""
    with serving_s3() as server:
        yield server


@pytest.fixture
def gs() -> Iterator[FakeGs]:
    """A server of Google's store with an empty bucket."""
    with serving_gs() as server:
        yield server
