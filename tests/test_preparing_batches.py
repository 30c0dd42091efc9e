"""The next batch is put together while a device looks at one; that it cannot be changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.pipeline import Options, run
from clipmod_cli.types import Frame, Item, Seen, Verdict
from tests.colour_models import POLICY, RedEmbedder
from tests.decode.pictures import BLUE, RED, encode, quarters
from tests.test_flow import PLENTY_S

BATCH, COUNT = 4, 24


@dataclass
class Prepared(RedEmbedder):
    """Notes which batches were prepared, by the sources of their frames."""

    batches: list[tuple[str, ...]] = field(default_factory=list)
    shown: list[tuple[str, ...]] = field(default_factory=list)
    second: threading.Event = field(default_factory=threading.Event)
    fails: bool = False

    def prepare(self, frames: Sequence[Frame]) -> None:
        """Be told of a batch before it is measured."""
        self.batches.append(tuple(frame.item.source for frame in frames))
        if len(self.batches) > 1:
            self.second.set()
        if self.fails:
            raise MemoryError("no room to put it together")

    def infer(self, frames: Sequence[Frame]) -> Sequence[Seen]:
        self.shown.append(tuple(frame.item.source for frame in frames))
        return RedEmbedder.infer(self, frames)


def items() -> list[Item]:
    pictures = [encode(quarters([colour] * 4), "PNG") for colour in (BLUE, RED)]
    return [Item(source=f"{index}.png", index=index, data=pictures[index % 2]) for index in range(COUNT)]


def decisions(model: RedEmbedder, duplicate_cache_bytes: int = 0) -> list[str | None]:
    ensemble = Ensemble([Member(model, 1.0)], batch_size=BATCH)
    criteria = prepare(ensemble, POLICY, threshold=0.5)
    results = list(
        run(items(), ensemble, criteria, Options(workers=2, duplicate_cache_bytes=duplicate_cache_bytes))
    )
    return [one.decision for one in results if isinstance(one, Verdict)]


def test_the_second_batch_is_ready_before_the_first_was_looked_at() -> None:
    def hold(_frames: Sequence[Frame]) -> None:
        assert model.second.wait(PLENTY_S), "nothing was prepared meanwhile"

    model = Prepared(before=hold)
    decisions(model)
    assert model.batches == model.shown


@pytest.mark.parametrize("fails", [False, True])
def test_the_outcome_is_the_same(*, fails: bool) -> None:
    expected = ["Safe", "NSFW"] * (COUNT // 2)
    assert decisions(RedEmbedder()) == expected
    assert decisions(Prepared(fails=fails)) == expected


def test_what_was_seen_before_is_not_prepared() -> None:
    model = Prepared()
    decisions(model, duplicate_cache_bytes=1_000_000)
    assert sum(map(len, model.shown)) == 2
    assert sum(map(len, model.batches)) < COUNT
