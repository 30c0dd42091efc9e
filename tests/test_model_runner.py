"""Running one model: a batch that does not fit in memory is halved, and the size that fits is remembered."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.ensemble.forward import ModelRunner, is_out_of_memory
from clipmod_cli.types import Frame, LabelScores, Seen
from tests.colour_models import RedClassifier, frame_of


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


class Held:
    """What a failed forward pass leaves in memory as long as its exception lives."""


@dataclass
class SmallRoom(RedClassifier):
    """Has room for `room` frames; `held` are what its failures left behind, while anything holds them."""

    room: int = 3
    held: list[weakref.ref[Held]] = field(default_factory=list)
    prepared: list[int] = field(default_factory=list)

    def infer(self, frames: Sequence[Frame]) -> Sequence[Seen]:
        assert not [one for one in self.held if one() is not None], (
            "the failure before still fills the memory"
        )
        if len(frames) > self.room:
            activations = Held()
            self.held.append(weakref.ref(activations))
            raise OutOfMemoryError(f"{len(frames)} frames do not fit beside {activations}")
        return RedClassifier.infer(self, frames)

    def prepare(self, frames: Sequence[Frame]) -> None:
        """Note how many frames come together."""
        self.prepared.append(len(frames))


def frames(count: int) -> list[Frame]:
    return [frame_of(index / 20, index) for index in range(count)]


@given(count=st.integers(1, 20), room=st.integers(1, 20))
def test_every_frame_gets_its_own_answer(count: int, room: int) -> None:
    gc.disable()  # nothing but the end of the exception may free what it holds
    try:
        told = ModelRunner().run(SmallRoom(room=room), frames(count))
    finally:
        gc.enable()
    assert [one.seen for one in told] == RedClassifier().infer(frames(count))
    assert all(one.forward_ms > 0.0 for one in told)


def test_what_fitted_is_remembered_for_this_model_alone() -> None:
    runner, small, large = ModelRunner(), SmallRoom(name="small", room=3), RedClassifier(name="large")
    for _ in range(3):
        runner.run(small, frames(8))
        runner.run(large, frames(8))
    assert len(small.held) == 2  # 8, then 4
    assert small.calls == [2, 2, 2, 2] * 3
    assert large.calls == [8, 8, 8]


def test_what_is_prepared_is_what_will_be_asked() -> None:
    runner, model = ModelRunner(), SmallRoom(room=3)
    runner.prepare(model, frames(8))
    runner.run(model, frames(8))
    runner.prepare(model, frames(8))
    assert model.prepared == [8, 2, 2, 2, 2]
    runner.prepare(model, [])
    runner.prepare(RedClassifier(), frames(2))  # has nothing to prepare


def test_one_frame_that_does_not_fit_is_told() -> None:
    with pytest.raises(OutOfMemoryError):
        ModelRunner().run(SmallRoom(room=0), frames(1))


def test_another_error_is_not_a_matter_of_size() -> None:
    def fail(_: object) -> None:
        raise ValueError("no matter how many")

    model = RedClassifier(before=fail)
    with pytest.raises(ValueError, match="no matter"):
        ModelRunner().run(model, frames(8))
    assert model.calls == [8]


def test_one_answer_too_few_is_told_and_given_to_nobody() -> None:
    cut: Callable[[list[Seen]], Sequence[Seen]] = lambda seen: seen[:-1]  # noqa: E731
    with pytest.raises(ValueError, match="gave 2 results for 3 pictures"):
        ModelRunner().run(RedClassifier(after=cut), frames(3))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory is what the picture shows"), False),
    ],
)
def test_what_says_that_memory_is_out(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_label_score_is_what_the_model_said() -> None:
    (told,) = ModelRunner().run(RedClassifier(), [frame_of(1.0)])
    assert told.seen == LabelScores(scores={"other": 0.0, "red": 1.0})
