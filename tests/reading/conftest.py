"""The command, and an output with a record of each kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clipmod_cli.records import to_line, to_record
from clipmod_cli.results import Result
from tests.end_to_end.conftest import clipmod
from tests.results import RUN, plain_animation, plain_failure, plain_verdict

__all__ = ["clipmod"]

ODD_NAMES = ("=cmd|' /C calc'!A0", 'a\r\nb,"c;\u202ed', "caf\udce9.jpg", "-rf", "photos/5 ünï.jpg")


def line_of(result: Result) -> bytes:
    return to_line(to_record(result, RUN))


def all_lines() -> list[bytes]:
    """Return lines of all kinds: NSFW, an animation, errors, one to review, and odd names."""
    unsure = replace(plain_verdict(3, unsafe=0.3), review_reasons=("truncated", "low_agreement"))
    results: list[Result] = [
        plain_verdict(0),
        plain_animation(1),
        plain_failure(2),
        unsure,
        plain_failure(4, "timeout"),
    ]
    results += [plain_verdict(5 + number, source=name) for number, name in enumerate(ODD_NAMES)]
    return [line_of(one) for one in results]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """An output with ten records."""
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"".join(all_lines()))
    return path
