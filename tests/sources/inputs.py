"""What tests ask of a stream of inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from clipmod_cli.types import Failure, Item


def only_items(found: Iterable[Item | Failure]) -> Iterator[Item]:
    """Yield the items of a stream in which nothing failed, as they come."""
    for one in found:
        assert isinstance(one, Item), one
        yield one
