"""Comparisons, advice and pictures of `clipmod bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipmod_cli.bench import memory, pictures
from clipmod_cli.bench.advice import find_bound, find_oddities
from clipmod_cli.bench.clock import stage_of
from clipmod_cli.bench.compare import compare
from clipmod_cli.bench.report import EndToEnd, Forward, Machine, Memory, Report, Setup, Verdict
from clipmod_cli.bench.wishes import read_size
from clipmod_cli.errors import UsageError

STAGES = ("read", "decode", "view", "decoding", "forward", "judge", "write")
TIMES = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=5)


def end(rate: float = 10.0, busy: float = 0.5, **more: Any) -> EndToEnd:
    rates = {"images_per_s": rate, "low_images_per_s": rate * 0.99, "high_images_per_s": rate * 1.01}
    usual: dict[str, Any] = {"images": 8, "runs": 3, "share_of_peak": None, "errors": 0, "busy_share": busy}
    return EndToEnd(**{**usual, **rates, **more})


def setup(**more: Any) -> Setup:
    usual: dict[str, Any] = {
        "models": ["open_clip:x/y"], "random_weights": True, "device": "cpu", "dtype": "float32",
        "batch_size": 8, "forward_batch": 8, "workers": 2, "isolate": True, "decode": "fast",
        "compiled": False, "pictures": "1280x853", "repeats": 3,
    }  # fmt: skip
    return Setup(**{**usual, **more})


def report(factor: float = 1.0, **more: Any) -> Report:
    """Return a report in which everything takes so many times as long."""
    stages = {name: stage_of([9.9 * factor, 10 * factor, 10.1 * factor]) for name in STAGES}
    machine = Machine(
        cpu="x", cores=2, instructions=[], device="x", devices=1, torch="2", python="3", system="Linux",
        peak_tflops=0.2,
    )  # fmt: skip
    usual: dict[str, Any] = {
        "version": "1", "machine": machine, "setup": setup(), "stages": stages,
        "forward": {"x": Forward(ms=10 * factor, ms_alone=10, gflop=1, share_of_peak=0.5)},
        "end_to_end": end(100 / factor),
        "memory": Memory(idle_mb=1, loaded_mb=2, peak_mb=3, device_peak_mb=None),
        "bound": Verdict(by="forward", says="x"), "warnings": [], "seconds": 1.0,
    }  # fmt: skip
    return Report(**{**usual, **more})


@pytest.mark.parametrize(("factor", "says"), [(0.5, "faster"), (2.0, "slower"), (1.0, "the same")])
def test_a_change_is_told_in_one_word(factor: float, says: str) -> None:
    found = compare(report(factor), report(), Path("before.json"))
    assert set(found.changes) == {*STAGES, "forward x", "end to end"}
    for change in found.changes.values():
        assert change.says == says
        assert change.ratio == pytest.approx(1 / factor)
    assert not found.differences


def test_spreads_that_overlap_are_the_same() -> None:
    wide = {name: stage_of([5, 10, 15]) for name in STAGES}
    found = compare(report(1.3), report(stages=wide), Path("x"))
    assert {found.changes[name].says for name in STAGES} == {"the same"}


def test_what_else_differs_is_named() -> None:
    found = compare(report(setup=setup(dtype="bfloat16"), version="2"), report(), Path("x"))
    assert found.differences == ["setup: dtype was float32, now bfloat16", "clipmod was 1, now 2"]


@given(TIMES)
def test_a_stage_lies_within_its_spread(times: list[float]) -> None:
    stage = stage_of(times)
    assert stage.low_ms <= stage.ms <= stage.high_ms


@given(TIMES, TIMES)
def test_comparing_the_other_way_round_says_the_opposite(one: list[float], other: list[float]) -> None:
    left, right = (report(stages={"read": stage_of(times)}) for times in (one, other))
    there = compare(left, right, Path("x")).changes["read"]
    back = compare(right, left, Path("x")).changes["read"]
    assert there.ratio * back.ratio == pytest.approx(1)
    opposite = {"faster": "slower", "slower": "faster", "the same": "the same"}
    # exactly at the limit of 3 % one side may round to it and the other not
    assert back.says == opposite[there.says] or abs(abs(there.ratio - 1) - 0.03) < 0.002


@pytest.mark.parametrize(
    ("decoding", "forward", "judge", "write", "busy", "by"),
    [
        (5.0, 100.0, 7.0, 1.0, 0.99, "forward"),
        (100.0, 5.0, 7.0, 1.0, 0.05, "decode"),
        (1.0, 5.0, 7.0, 1.0, 0.05, "judge"),
        (1.0, 5.0, 7.0, 100.0, 0.05, "write"),
        (20.0, 19.0, 7.0, 1.0, 0.95, "forward"),
    ],
)
def test_what_bounds_the_rate(  # one argument a column
    decoding: float, forward: float, judge: float, write: float, busy: float, by: str
) -> None:
    times = {"decoding": decoding, "forward": forward, "judge": judge, "write": write}
    stages = {name: stage_of([ms]) for name, ms in times.items()}
    for device in ("cpu", "cuda"):
        verdict = find_bound(stages, end(busy=busy), setup(device=device))
        assert verdict.by == by
        assert verdict.says.endswith(".")


def test_a_batch_that_is_slower_than_one_picture_is_told() -> None:
    slow = {"x": Forward(ms=148.0, ms_alone=1.0, gflop=None, share_of_peak=None)}
    told = next(iter(find_oddities(slow, end(), setup(), 0)))
    assert told.startswith("x takes 148 ms an image in batches of 8")
    fine = {"x": Forward(ms=1.4, ms_alone=1.0, gflop=None, share_of_peak=None)}
    assert not [*find_oddities(fine, end(), setup(), 0)]
    assert len([*find_oddities(fine, end(errors=2), setup(forward_batch=2), 1)]) == 3


def test_drawn_pictures_are_all_different_and_like_photographs(tmp_path: Path) -> None:
    drawn = [pictures.draw_jpeg(tmp_path, (640, 427), seed) for seed in range(2)]
    paths = pictures.write_pictures(tmp_path, drawn, 7)
    assert len({path.read_bytes() for path in paths}) == 7
    with Image.open(paths[6]) as opened:
        opened.load()
        assert (opened.format, opened.size) == ("JPEG", (640, 427))
    bits = 8 * len(drawn[0]) / (640 * 427)
    assert 0.8 < bits < 3
    again = [item.source for item in pictures.items_of(paths, 9)]
    assert again == [*map(str, paths), *map(str, paths[:2])]


@pytest.mark.parametrize("text", ["", "12", "1x", "x1", "1x2x3", "-1x2", "1.5x2", "0x9", "1 x 2"])
def test_a_size_is_two_numbers(text: str) -> None:
    with pytest.raises(UsageError):
        read_size(text)
    assert read_size("1280x853") == (1280, 853)


def test_memory_is_a_number() -> None:
    assert 0 <= memory.resident_mb() <= memory.peak_mb() + 1
