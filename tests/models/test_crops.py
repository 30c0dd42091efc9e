"""Batches are stacked once for all models with the same view, and never mistaken for another one."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.models.device.crops import CropBatches
from clipmod_cli.models.tower.model import embeddings_of
from clipmod_cli.types import Failure, Frame
from tests.colour_models import LARGE, SMALL, RedEmbedder, frame_of
from tests.measuring import infer


def frames(*reds: float) -> list[Frame]:
    return [frame_of(red, index) for index, red in enumerate(reds)]


def test_a_batch_is_stacked_once_for_each_view() -> None:
    batches, batch = CropBatches(), frames(0.0, 0.5, 1.0)
    taken = batches.take(batch, SMALL)
    assert batches.take(list(batch), SMALL) is taken
    assert batches.take(batch, LARGE).shape == (3, 4, 4, 3)
    assert taken.dtype == torch.uint8
    for crop, frame in zip(taken, batch, strict=True):
        assert np.array_equal(crop.numpy(), frame.inputs[SMALL])


def test_another_order_and_a_part_are_other_batches() -> None:
    batches, batch = CropBatches(), frames(0.0, 0.5, 1.0)
    whole = batches.take(batch, SMALL)
    assert torch.equal(batches.take(batch[::-1], SMALL), whole.flip(0))
    assert torch.equal(batches.take(batch[1:], SMALL), whole[1:])


def test_frames_that_come_and_go_are_never_taken_for_others() -> None:
    batches = CropBatches()
    for number in range(300):  # an object that ended leaves its address, which is its identity, to the next
        red = number % 256
        taken = batches.take([frame_of(red / 255)], SMALL)
        assert taken[0, 0, 0, 0] == red


def test_it_keeps_a_few_batches_and_no_more() -> None:
    batches = CropBatches()
    many = [frames(0.1, 0.2) for _ in range(20)]
    first = [batches.take(batch, SMALL) for batch in many]
    assert batches.take(many[-1], SMALL) is first[-1]
    assert batches.take(many[0], SMALL) is not first[0]


def test_threads_share_it() -> None:
    batches = CropBatches()
    many = [frames(number / 20, 1.0) for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda batch: batches.take(batch, SMALL), many * 5))
    for crops, batch in zip(taken, many * 5, strict=True):
        assert np.array_equal(crops[0].numpy(), batch[0].inputs[SMALL])


def test_crops_of_different_sizes_are_refused() -> None:
    (small, odd) = frames(0.0, 1.0)
    odd = replace(odd, inputs={SMALL: np.zeros((3, 2, 3), np.uint8)})
    with pytest.raises(ValueError, match="shape"):
        CropBatches().take([small, odd], SMALL)


@pytest.mark.parametrize("length", [0.0, 0.5, 2.0, math.nan, math.inf])
def test_an_embedding_that_has_no_unit_length_is_not_finite(length: float) -> None:
    vectors = torch.tensor([[1.0, 0.0], [length, 0.0], [0.6, 0.8]])
    seen = embeddings_of(vectors)
    assert [bool(np.isfinite(one.vector).all()) for one in seen] == [True, False, True]
    assert np.array_equal(seen[2].vector, np.array([0.6, 0.8], np.float32))


def test_a_tower_that_gives_only_zeros_judges_nothing() -> None:
    class Blank(RedEmbedder):
        def infer(self, frames):  # type: ignore[no-untyped-def]
            return embeddings_of(torch.zeros(len(frames), 2))

    results = list(infer(Ensemble([Member(Blank(), 1.0)]), [frames(0.0, 1.0)]))
    assert [result.code for result in results if isinstance(result, Failure)] == ["non_finite_score"] * 2
