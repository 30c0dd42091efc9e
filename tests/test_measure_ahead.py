"""With `Options.infer_ahead` models look at the next batch while the last one's results are used."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.pipeline import Options, infer, run
from clipmod_cli.results import Result
from clipmod_cli.types import Frame, Item, Verdict
from tests.colour_models import POLICY, RedEmbedder
from tests.decode.pictures import BLUE, RED, encode, quarters
from tests.test_flow import PLENTY_S, feeders, wait_for_end

BATCH, COUNT = 4, 40


def items() -> Iterator[Item]:
    for index in range(COUNT):
        colour = RED if index % 3 else BLUE
        yield Item(source=f"{index}.png", index=index, data=encode(quarters([colour] * 4), "PNG"))


def judge(
    model: RedEmbedder, *, infer_ahead: bool, of: Iterator[Item] | None = None
) -> Generator[Result, None, None]:
    ensemble = Ensemble([Member(model, 1.0)], batch_size=BATCH)
    criteria = prepare(ensemble, POLICY, threshold=0.5)
    return run(of or items(), ensemble, criteria, Options(workers=2, infer_ahead=infer_ahead))


def test_models_go_on_while_a_result_is_used() -> None:
    again = threading.Event()

    def note(_frames: Sequence[Frame]) -> None:
        if len(model.calls) > 1:
            again.set()

    model = RedEmbedder(before=note)
    results = judge(model, infer_ahead=True)
    first = next(results)
    assert again.wait(PLENTY_S), "the second batch waits for whoever uses the first"
    assert [first.item.index, *(one.item.index for one in results)] == list(range(COUNT))


def test_the_verdicts_are_the_same() -> None:
    def told(*, infer_ahead: bool) -> list[tuple[str, str | None]]:
        results = list(judge(RedEmbedder(), infer_ahead=infer_ahead))
        return [(one.item.source, one.decision) for one in results if isinstance(one, Verdict)]

    assert told(infer_ahead=True) == told(infer_ahead=False)
    assert len(told(infer_ahead=True)) == COUNT


def test_who_leaves_early_leaves_no_thread_behind() -> None:
    before = feeders()
    with closing(judge(RedEmbedder(), infer_ahead=True)) as results:
        next(results)
    wait_for_end(feeders() - before)


@pytest.mark.parametrize("way", ["ahead", "in turn", "look"])
def test_who_leaves_does_not_wait_for_an_input_that_says_nothing(way: str) -> None:
    """As a producer behind a pipe, or a person at a terminal, who keeps the input open."""
    go_on = threading.Event()

    def silent() -> Iterator[Item]:
        yield from itertools.islice(items(), 2)
        go_on.wait()

    before = feeders()
    ensemble = Ensemble([Member(RedEmbedder(), 1.0)], batch_size=BATCH)
    results: Any = (
        infer(silent(), ensemble, Options(workers=2))
        if way == "look"
        else judge(RedEmbedder(), infer_ahead=way == "ahead", of=silent())
    )
    assert [next(results).item.index for _ in range(2)] == [0, 1]
    leaving = threading.Thread(target=results.close, daemon=True)
    leaving.start()
    try:
        leaving.join(PLENTY_S)
        assert not leaving.is_alive(), "it waits for the input"
    finally:
        go_on.set()
    wait_for_end(feeders() - before)
