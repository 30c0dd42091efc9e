"""A device that fails ends the run: what follows is left to the next one, and not written down as lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.errors import DeviceLostError
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.pipeline import Options, run
from clipmod_cli.results import Result
from clipmod_cli.server.device_thread import Caller, DeviceThread, SharedEnsemble
from clipmod_cli.types import Failure, Frame, Item
from tests.colour_models import POLICY, RedEmbedder, frame_of
from tests.decode.pictures import RED, encode, quarters
from tests.measuring import infer

BATCH = 4


def losing_after(calls: int) -> RedEmbedder:
    """Return a model whose device fails for good after so many batches, as CUDA does."""

    def fail(_frames: Sequence[Frame]) -> None:
        if len(model.calls) > calls:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    model = RedEmbedder(before=fail)
    return model


@pytest.mark.parametrize("infer_ahead", [False, True])
def test_what_came_before_is_told_and_nothing_after_is_a_failure(*, infer_ahead: bool) -> None:
    model = losing_after(2)
    ensemble = Ensemble([Member(model, 1.0)], batch_size=BATCH)
    criteria = prepare(ensemble, POLICY, threshold=0.5)
    picture = encode(quarters([RED] * 4), "PNG")
    items = [Item(source=f"{index}.png", index=index, data=picture) for index in range(5 * BATCH)]
    told: list[Result] = []
    with pytest.raises(DeviceLostError, match="start the same command again"):
        told.extend(run(items, ensemble, criteria, Options(workers=1, infer_ahead=infer_ahead)))
    assert len(model.calls) == 3, "a device that is lost is not asked again"
    # a batch closes before it is full where decoding is slow
    assert [one.item.index for one in told] == list(range(sum(model.calls[:2])))
    assert not [one for one in told if isinstance(one, Failure)]


def test_no_memory_is_no_lost_device() -> None:
    def fail(frames: Sequence[Frame]) -> None:
        if len(frames) > 1:
            raise torch.AcceleratorError("CUDA error: out of memory")

    results = list(
        infer(Ensemble([Member(RedEmbedder(before=fail), 1.0)]), [[frame_of(0.5, i) for i in range(BATCH)]])
    )
    assert not [one for one in results if isinstance(one, Failure)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_service_answers_who_waits_and_is_no_longer_ready() -> None:
    ensemble = Ensemble([Member(losing_after(0), 1.0)], batch_size=BATCH)
    thread = DeviceThread()
    thread.start()
    (failure,) = infer(SharedEnsemble(thread, Caller(ensemble)), [[frame_of(0.5)]])
    thread.close()
    assert isinstance(failure, Failure)
    assert (failure.code, failure.retryable) == ("internal_error", True)
    assert not thread.alive
