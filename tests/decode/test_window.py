"""While a model looks at one batch, three more are decoded and wait, and a window behind them: no more."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

import pytest

from clipmod_cli.decode.limits import DecodeLimits, DecodeOptions
from clipmod_cli.decode.stage import AHEAD_PER_WORKER
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.pipeline import Options, infer
from clipmod_cli.results import Settled
from clipmod_cli.types import Evidence, Frame, Item
from tests.colour_models import RedEmbedder
from tests.decode.pictures import CENTRE, RED, encode, quarters

PLENTY_S = 60.0
"""Longer than anything here takes; only a hang reaches it."""

BATCH, WORKERS = 5, 2
AHEAD = 3 * BATCH - 1
"""One that is put together, and the frames of two more; the last one of them is still in the window."""
WINDOW = AHEAD_PER_WORKER * WORKERS
"""Items that are pulled and not yet in a batch to come: they keep the workers busy."""


class Watched:
    """Items that tell how many of them were asked for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pulled = 0
        self.changed = threading.Condition()

    def __iter__(self) -> Iterator[Item]:
        data = encode(quarters([RED] * 4), "PNG")
        for index in range(self.count):
            with self.changed:
                self.pulled += 1
                self.changed.notify_all()
            yield Item(source=str(index), index=index, data=data)

    def wait_for(self, count: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.pulled >= count, PLENTY_S)


class Paused:
    """Stops a model in the midst of its first batch until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, _: Sequence[Frame]) -> None:
        self.reached.set()
        assert self.go_on.wait(PLENTY_S)


def seen_by(
    model: RedEmbedder, items: Iterable[Item], options: Options, into: list[Evidence | Settled]
) -> None:
    into.extend(infer(items, Ensemble([Member(model, 1.0)], batch_size=BATCH), options))


@pytest.mark.parametrize("isolate", [False, True], ids=["threads", "processes"])
@pytest.mark.parametrize("budget", [DecodeLimits().pixels_in_flight, 1], ids=["all at once", "one by one"])
def test_two_batches_are_decoded_while_a_model_looks_at_one(isolate: bool, budget: int) -> None:
    paused, items = Paused(), Watched(100)
    model = RedEmbedder(before=paused)
    options = Options(
        decode=DecodeOptions(coverage=CENTRE, limits=DecodeLimits(pixels_in_flight=budget)),
        workers=WORKERS,
        isolate=isolate,
    )
    seen: list[Evidence | Settled] = []
    run = threading.Thread(target=seen_by, args=(model, items, options, seen))
    run.start()
    try:
        assert paused.reached.wait(PLENTY_S)
        (measured,) = model.calls  # the first batch may close early, for nothing came for a while
        assert items.wait_for(measured + AHEAD + WINDOW), "decoding stood still while the model looked"
    finally:
        paused.go_on.set()
        run.join(PLENTY_S)
    assert not run.is_alive()
    assert [one.item.index for one in seen] == list(range(100))
    assert model.calls[1:3] == [BATCH, BATCH], "what was decoded meanwhile was there in whole batches"


def test_no_more_than_the_window_is_decoded_ahead() -> None:
    paused, items = Paused(), Watched(100)
    model = RedEmbedder(before=paused)
    seen: list[Evidence | Settled] = []
    run = threading.Thread(target=seen_by, args=(model, items, Options(workers=WORKERS), seen))
    run.start()
    try:
        assert paused.reached.wait(PLENTY_S)
        full = model.calls[0] + AHEAD + WINDOW
        assert items.wait_for(full)
        with items.changed:
            assert not items.changed.wait_for(lambda: items.pulled > full, 0.5), "the window has no end"
    finally:
        paused.go_on.set()
        run.join(PLENTY_S)
    assert len(seen) == 100
