"""What a run says of itself on stderr: how far it is, and how much it has downloaded."""

from __future__ import annotations

import json

import pytest

from clipmod_cli.cli.terminal.progress import PlainLines, ProgressBar, amount, choose_progress
from clipmod_cli.cli.terminal.summary import print_summary
from clipmod_cli.runs.tally import Tally
from clipmod_cli.sources.base import Skipped


@pytest.mark.parametrize(
    ("size", "seconds", "said"),
    [
        (0, 0.0, "0.0 MB, 0.0 MB/s"),
        (412_000_000, 100.0, "412.0 MB, 4.1 MB/s"),
        (50_000, 1.0, "0.1 MB, 0.1 MB/s"),
    ],
)
def test_an_amount(size: int, seconds: float, said: str) -> None:
    assert amount(size, seconds) == said


def test_lines_tell_what_was_downloaded(capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainLines(2, as_json=True, every_s=0, received=lambda: 3_000_000)
    progress.set_total(10)
    progress.advance(1, 0)
    facts = json.loads(capsys.readouterr().err)["progress"]
    assert (facts["done"], facts["total"], facts["received_bytes"]) == (3, 10, 3_000_000)
    assert facts["received_bytes_per_second"] > 0
    PlainLines(0, as_json=False, every_s=0, received=lambda: 3_000_000).advance(0, 0)
    assert ", 3.0 MB, " in capsys.readouterr().err


def test_nothing_is_said_of_downloads_where_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    PlainLines(0, as_json=False, every_s=0).advance(0, 0)
    PlainLines(0, as_json=True, every_s=0).advance(0, 0)
    said = capsys.readouterr().err
    assert "MB" not in said
    assert "received" not in said


def test_the_bar_tells_what_was_downloaded(capsys: pytest.CaptureFixture[str]) -> None:
    size = 0
    bar = ProgressBar(0, lambda: size)
    size = 7_000_000
    bar.advance(1, 2)
    bar.close()
    assert "nsfw=1, errors=2, 7.0 MB, " in capsys.readouterr().err


def test_the_style_that_is_chosen_knows_of_downloads(capsys: pytest.CaptureFixture[str]) -> None:
    progress = choose_progress("json", quiet=False, done=0, received=lambda: 5)
    assert isinstance(progress, PlainLines)
    assert json.loads(progress._line(1e9, 0, 0))["progress"]["received_bytes"] == 5


def test_the_summary_tells_what_was_downloaded(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(total=4, ok=4, judged=4, pictures=4)
    print_summary(tally, Skipped(), 2.0, done=0, received=8_000_000)
    assert (
        "4 inputs (4 pictures scored) in 2.0 s, 2.0/s; downloaded 8.0 MB, 4.0 MB/s" in capsys.readouterr().err
    )
    print_summary(tally, Skipped(), 2.0, done=0)
    assert "downloaded" not in capsys.readouterr().err
