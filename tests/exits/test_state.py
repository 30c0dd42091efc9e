"""The state beside an output: what of it is used again, and what is told where it cannot be."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command import Command, read_records
from tests.exits.test_command import NEEDED, RISK, colours, records_of, state_of, toys, words
from tests.exits.toys import draw

__all__ = ["toys", "words"]

CALIBRATED_AGAIN = "calibration starts again"


def test_a_new_output_learns_nothing_from_the_one_before(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...]
) -> None:
    draw(tmp_path / "pictures", colours(NEEDED + 5))
    clipmod(*words, *RISK)
    before = state_of(tmp_path / "out.jsonl")
    assert before["highest"]
    (tmp_path / "out.jsonl").unlink()
    (tmp_path / "out.jsonl.run.json").unlink()
    for path in sorted((tmp_path / "pictures").iterdir())[10:]:
        path.unlink()
    done = clipmod(*words, *RISK)
    after = state_of(tmp_path / "out.jsonl")
    assert (after["count"], after["highest"]) == (10, None)
    assert CALIBRATED_AGAIN not in done.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"run_key": "another"},
        {"risk": 0.01},
        {"highest": {"sees-red": 0.99}},
        {"count": 1},
    ],
    ids=lambda change: str(next(iter(change))),
)
def test_a_state_that_was_edited_is_told_and_none_exits(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...], change: dict[str, Any]
) -> None:
    _check_calibrates_again(clipmod, tmp_path, words, lambda state: json.dumps(state | change))


@pytest.mark.parametrize("text", ["", '{"run_key": "', "[]", "null"])
def test_a_torn_state_is_told_and_none_exits(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...], text: str
) -> None:
    _check_calibrates_again(clipmod, tmp_path, words, lambda _state: text)


def _check_calibrates_again(clipmod: Command, tmp_path: Path, words: Any, change: Any) -> None:
    draw(tmp_path / "pictures", colours(NEEDED + 3))
    clipmod(*words, *RISK)
    state = tmp_path / "out.jsonl.early-exit.json"
    state.write_text(change(json.loads(state.read_bytes())))
    draw(tmp_path / "pictures", ["green"] * 12, start=NEEDED + 3)
    done = clipmod(*words, *RISK)
    assert done.code == 0
    assert CALIBRATED_AGAIN in done.stderr
    records = records_of(tmp_path / "out.jsonl")
    assert len(records) == NEEDED + 15
    assert not any(record["decided_at"] for record in records[NEEDED + 3 :])
    assert state_of(tmp_path / "out.jsonl")["count"] == 12


def test_scores_are_kept_only_until_there_is_a_rule(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...]
) -> None:
    draw(tmp_path / "pictures", colours(NEEDED))
    clipmod(*words, *RISK)
    state = state_of(tmp_path / "out.jsonl")
    assert state["highest"]
    assert (state["count"], state["scale"], state["flagged"]) == (NEEDED, [], [])


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_it_needs_a_regular_file(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...], kind: str
) -> None:
    """There would be a file beside /dev/null, and nothing that could be corrected."""
    draw(tmp_path / "pictures", colours(2))
    output = Path("/dev/null") if kind == "device" else tmp_path / "pipe"
    if kind == "pipe":
        os.mkfifo(output)
    done = clipmod(*words[:-1], output, *RISK)
    assert done.code == 2
    assert "-o FILE, a regular file" in done.stderr
    assert not output.with_name(f"{output.name}.early-exit.json").exists()


def test_a_state_that_cannot_be_written_ends_the_run_and_loses_no_record(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...]
) -> None:
    draw(tmp_path / "pictures", colours(9))
    state = tmp_path / "out.jsonl.early-exit.json"
    state.mkdir()
    done = clipmod(*words, *RISK)
    assert done.code == 5
    assert f"cannot write {state}" in done.stderr
    state.rmdir()
    assert clipmod(*words, *RISK).code == 0
    assert len({one["source"] for one in records_of(tmp_path / "out.jsonl")}) == 9


def test_a_run_without_exits_tells_no_empty_row(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...]
) -> None:
    draw(tmp_path / "pictures", colours(3))
    assert "reasons" not in clipmod(*words, *RISK).stderr


def test_statistics_that_are_older_than_the_review_are_told(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmod_cli.judge.exits.rule.AUDITED", 0.1)
    draw(tmp_path / "pictures", [*colours(NEEDED + 40), *["blue"] * 200])
    with_db = [word for word in words if word != "--no-db"] + ["--db", tmp_path / "stats.duckdb"]
    done = clipmod(*with_db, *RISK)
    reviewed = sum(one["needs_review"] for one in records_of(tmp_path / "out.jsonl"))
    assert reviewed
    assert "the output counts: clipmod stats" in " ".join(done.stderr.split())
    told = json.loads(clipmod("stats", tmp_path / "out.jsonl", "--json").stdout)
    assert told["totals"]["review"] == reviewed
    assert "the output counts" not in " ".join(clipmod(*with_db, *RISK).stderr.split())


def test_records_of_earlier_nights_are_told_as_new_and_files_that_are_gone_do_not_count(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The review makes lines longer, and `--prune` drops the lines of files that are gone after it."""
    monkeypatch.setattr("clipmod_cli.judge.exits.rule.AUDITED", 0.1)
    output = tmp_path / "out.jsonl"
    draw(tmp_path / "pictures", colours(NEEDED + 60))
    clipmod(*words, *RISK)
    draw(tmp_path / "pictures", ["green"] * 30, start=NEEDED + 60)
    clipmod(*words, *RISK)
    first = {one["source"]: one for one in records_of(output)}
    early = [one for one in first.values() if one["decided_at"]]
    lost = [*early[::9], *[one for one in first.values() if not one["decided_at"]][::9]]
    for one in lost:
        Path(one["source"]).unlink()
    draw(tmp_path / "pictures", ["blue"] * 200, start=NEEDED + 90)
    done = clipmod(*words, *RISK, "--prune")
    assert done.code == 0, done.stderr
    assert "switched off" in done.stderr
    records = {one["source"]: one for one in records_of(output)}
    dropped = read_records((tmp_path / "out.jsonl.gone.jsonl").read_bytes())
    assert {one["source"] for one in dropped} == {one["source"] for one in lost}
    assert len(records) == NEEDED + 290 - len(lost)
    wrong = [
        one
        for one in records.values()
        if int(Path(one["source"]).stem) >= NEEDED + 90 and one["final_decision"] == "Safe"
    ]
    assert wrong
    reviewed = {one["source"] for one in records.values() if one["needs_review"]}
    assert {one["source"] for one in wrong} <= reviewed
    told = clipmod("list", output, "--review", "--new")
    listed = told.stdout.decode().split()
    assert told.code == 0, told.stderr
    assert set(listed) == reviewed
    assert f"needs review {len(reviewed)} " in " ".join(done.stderr.split())
    renewed = reviewed & set(first)
    assert renewed
    assert f"new {200 + len(renewed)} " in " ".join(done.stderr.split())
