"""Stages, pictures and sizes of `clipmod bench`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks import table
from clipmod_cli.bench import pictures
from clipmod_cli.bench.stages import stage_of
from clipmod_cli.cli.commands.bench import read_size
from clipmod_cli.errors import UsageError
from tests.test_estimate import report_of

TIMES = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=5)


@given(TIMES)
def test_a_stage_lies_within_its_spread(times: list[float]) -> None:
    stage = stage_of(times)
    assert stage.low_ms <= stage.ms <= stage.high_ms


def test_drawn_pictures_are_all_different_and_like_photographs(tmp_path: Path) -> None:
    drawn = [pictures.draw_jpeg((640, 427), seed) for seed in range(2)]
    paths = pictures.write_pictures(tmp_path, drawn, 7)
    views = {Image.open(path).convert("RGB").resize((224, 224)).tobytes() for path in paths}
    assert len(views) == 7, "models are shown equal pictures once, so such a picture costs nothing"
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


def test_the_limit_is_the_measured_rate_over_the_work_of_a_picture() -> None:
    report = report_of()
    assert table.limit_of(report) is None  # their operations are not known
    forward = {name: one.model_copy(update={"gflop": 100.0}) for name, one in report.forward.items()}
    machine = report.machine.model_copy(update={"peak_tflops": 2.0})
    end = report.end_to_end.model_copy(update={"views_per_image": 2.0, "images_per_s": 4.0})
    report = report.model_copy(update={"forward": forward, "machine": machine, "end_to_end": end})
    assert table.limit_of(report) == pytest.approx(2000 / (2 * 100 * 2))
    head, _, row = table.table_of([report]).splitlines()
    assert len(head.split("|")) == len(row.split("|"))
    assert "| full | 2 | 4 | 5 | 80 % |" in row
