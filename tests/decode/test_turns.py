"""Shared decoders take items of several clients in turn."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future

import pytest

from clipmod_cli.decode.job import Compare
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.stage import Decoded, Decoders
from clipmod_cli.types import Geometry, Item
from tests.decode.pictures import RED, encode, quarters

GEOMETRY = Geometry(fit="shortest", size=(8, 8), crop=(8, 8))
PNG = encode(quarters([RED] * 4), "PNG")
PLENTY_S = 60.0


class OneWorker:
    """Decoders with one worker, which waits in its first item until it is let go."""

    def __init__(self) -> None:
        self.decoders = Decoders(1)
        self.order: list[str] = []
        self.go_on, self._begun = threading.Event(), threading.Event()
        self.first = self.submit("first")
        assert self._begun.wait(PLENTY_S)

    def submit(self, name: str, decoders: Decoders | None = None) -> Future[Decoded]:
        item = Item(source=name, index=0, data=PNG)
        return (decoders or self.decoders).submit(item, [GEOMETRY], DecodeOptions(), self._note(name))

    def _note(self, name: str) -> Compare:
        def note(_sha256: str) -> None:
            self.order.append(name)
            self._begun.set()
            assert self.go_on.wait(PLENTY_S)

        return note


def test_a_client_with_many_items_holds_up_no_other() -> None:
    one = OneWorker()
    with one.decoders:
        many, few = one.decoders.shared_by("many"), one.decoders.shared_by("few")
        results = [one.submit(f"many-{number}", many) for number in range(5)]
        results += [one.submit(f"few-{number}", few) for number in range(2)]
        results[3].cancel()
        one.go_on.set()
        for number, result in enumerate(results):
            if number != 3:
                assert result.result(PLENTY_S)
    assert one.order == ["first", "many-0", "few-0", "many-1", "few-1", "many-2", "many-4"]


def test_what_waits_is_cancelled_when_they_are_closed() -> None:
    one = OneWorker()
    waiting = one.submit("waiting", one.decoders.shared_by("another"))
    one.decoders.close()
    one.go_on.set()
    assert one.first.result(PLENTY_S)
    with pytest.raises(CancelledError):
        waiting.result(PLENTY_S)
