"""With `Options.measure_ahead` models look at the next batch while the last one's results are used."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

from clipmod_cli.ensemble import Ensemble, Member
from clipmod_cli.pipeline import Options, run
from clipmod_cli.types import Frame, Item, Result, Verdict
from tests.colour_models import POLICY, RedEmbedder
from tests.decode.pictures import BLUE, RED, encode, quarters
from tests.test_flow import PLENTY_S, feeders, wait_for_end

BATCH, COUNT = 4, 40


def items() -> Iterator[Item]:
    for index in range(COUNT):
        colour = RED if index % 3 else BLUE
        yield Item(source=f"{index}.png", index=index, data=encode(quarters([colour] * 4), "PNG"))


def judge(model: RedEmbedder, *, measure_ahead: bool) -> Generator[Result, None, None]:
    ensemble = Ensemble([Member(model, 1.0)], batch_size=BATCH)
    criteria = ensemble.prepare(POLICY, threshold=0.5)
    return run(items(), ensemble, criteria, Options(workers=2, measure_ahead=measure_ahead))


def test_models_go_on_while_a_result_is_used() -> None:
    again = threading.Event()

    def note(_frames: Sequence[Frame]) -> None:
        if len(model.calls) > 1:
            again.set()

    model = RedEmbedder(before=note)
    results = judge(model, measure_ahead=True)
    first = next(results)
    assert again.wait(PLENTY_S), "the second batch waits for whoever uses the first"
    assert [first.item.index, *(one.item.index for one in results)] == list(range(COUNT))


def test_the_verdicts_are_the_same() -> None:
    def told(*, measure_ahead: bool) -> list[tuple[str, str | None]]:
        results = list(judge(RedEmbedder(), measure_ahead=measure_ahead))
        return [(one.item.source, one.decision) for one in results if isinstance(one, Verdict)]

    assert told(measure_ahead=True) == told(measure_ahead=False)
    assert len(told(measure_ahead=True)) == COUNT


def test_who_leaves_early_leaves_no_thread_behind() -> None:
    before = feeders()
    with closing(judge(RedEmbedder(), measure_ahead=True)) as results:
        next(results)
    wait_for_end(feeders() - before)
