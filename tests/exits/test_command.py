"""`--early-exit calibrated` through the command: its risk, its corrections, and kills."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clipmod_cli.judge.exits.sample import Sample
from clipmod_cli.models import registry
from tests.end_to_end.command import Command, read_records
from tests.exits.toys import BACKENDS, MODELS, POLICY, draw

RISK = ("--early-exit", "calibrated", "--risk", "0.05")
NEEDED = Sample(stages=("sees-red",), screens=0, risk=0.05).needed
"""Pictures that calibrate at this risk without a screen."""


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, backend in BACKENDS.items():
        monkeypatch.setitem(registry.BACKENDS, name, backend)
    seeds = SimpleNamespace(token_hex=lambda _size: "1")  # with another one a date may be too late, seldom
    monkeypatch.setattr("clipmod_cli.judge.exits.rule.secrets", seeds)


@pytest.fixture
def words(tmp_path: Path) -> tuple[str | Path, ...]:
    (tmp_path / "colours.toml").write_text(POLICY)
    return (
        "scan", tmp_path / "pictures", "--policy", tmp_path / "colours.toml", "--models", MODELS,
        "--no-isolate", "--no-db", "--no-cache", "-o", tmp_path / "out.jsonl",
    )  # fmt: skip


def colours(count: int) -> list[str]:
    return ["red" if number % 20 == 0 else "green" for number in range(count)]


def records_of(path: Path) -> list[dict[str, Any]]:
    return read_records(path.read_bytes())


def state_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_name(f"{path.name}.early-exit.json").read_bytes())
    return found


def test_safe_pictures_exit_early_once_it_is_calibrated(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...]
) -> None:
    draw(tmp_path / "pictures", colours(NEEDED + 140))
    done = clipmod(*words, *RISK)
    assert done.code == 0
    records = records_of(tmp_path / "out.jsonl")
    assert [one["final_decision"] for one in records] == [
        "NSFW" if colour == "red" else "Safe" for colour in colours(NEEDED + 140)
    ]
    gone = [one for one in records if one["decided_at"]]
    assert 40 < len(gone) < 140
    for one in gone:
        assert one["final_decision"] == "Safe"
        assert (one["decided_at"], one["models_used"]) == ("sees-red", ["sees-red"])
        assert one["models_skipped"] == ["sees-red-and-blue"]
        low, high = one["unsafe_score_bounds"]
        assert low <= one["unsafe_score"] <= high
        assert high == pytest.approx(low + 0.7, abs=1e-5)
        assert one["exit_audit"] is not None
    assert all(one["exit_audit"] is None for one in records if not one["decided_at"])
    said = " ".join(done.stderr.split())
    assert re.search(
        rf"early exit {len(gone)} of {NEEDED + 140} exited early \({len(gone)} after sees-red\); "
        r"all models checked \d+: 0 should not have exited early \(",
        said,
    )


def test_a_small_run_asks_all_models_and_says_so(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...]
) -> None:
    draw(tmp_path / "pictures", colours(30))
    done = clipmod(*words, *RISK)
    said = " ".join(done.stderr.split())
    assert f"0 of 30 exited early: 30 of the {NEEDED} that calibrate it are judged" in said
    assert not any(one["models_skipped"] for one in records_of(tmp_path / "out.jsonl"))


def test_it_goes_on_where_it_stopped(clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...]) -> None:
    draw(tmp_path / "pictures", colours(NEEDED - 10))
    clipmod(*words, *RISK)
    before = state_of(tmp_path / "out.jsonl")
    assert before["count"] == NEEDED - 10
    draw(tmp_path / "pictures", ["green"] * 150, start=NEEDED - 10)
    clipmod(*words, *RISK)
    after = state_of(tmp_path / "out.jsonl")
    assert after["seed"] == before["seed"]
    assert after["highest"] is not None
    records = records_of(tmp_path / "out.jsonl")
    assert len(records) == NEEDED + 140
    assert sum(one["decided_at"] is not None for one in records) > 40


@pytest.mark.parametrize("form", ["full", "compact"])
def test_another_kind_of_pictures_is_noticed_and_what_exited_early_gets_review(
    clipmod: Command,
    tmp_path: Path,
    words: tuple[str | Path, ...],
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first model does not see blue, of which none was in the sample."""
    monkeypatch.setattr("clipmod_cli.judge.exits.rule.AUDITED", 0.1)
    draw(tmp_path / "pictures", [*colours(NEEDED + 140), *["blue"] * 200])
    done = clipmod(*words, *RISK, "--record", form)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    blue = [one for one in lines if one["index"] >= NEEDED + 140]
    wrong = [one for one in blue if one["final_decision"] == "Safe"]
    assert 0 < len(wrong) < 180
    assert all(one["needs_review"] and "early_exit" in one["review_reasons"] for one in wrong)
    assert all(one["final_decision"] == "NSFW" for one in blue[-20:])
    assert "early exit was switched off" in done.stderr
    said = " ".join(done.stderr.split())
    assert "; switched off" in said
    reviewed = sum("early_exit" in one["review_reasons"] for one in lines)
    assert f"early_exit {reviewed}" in said
    assert len(lines) == len({one["source"] for one in lines}) == NEEDED + 340
    assert "clipmod stats" not in said  # there are none
    before = (tmp_path / "out.jsonl").read_bytes()
    draw(tmp_path / "pictures", ["green"] * 5, start=NEEDED + 340)
    clipmod(*words, *RISK, "--record", form)
    after = (tmp_path / "out.jsonl").read_bytes()
    assert after.startswith(before)
    assert not any(json.loads(line)["decided_at"] for line in after[len(before) :].splitlines())


def test_a_kill_after_it_was_switched_off_leaves_the_review_to_the_next_run(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmod_cli.judge.exits.rule.AUDITED", 0.1)
    draw(tmp_path / "pictures", [*colours(NEEDED + 40), *["blue"] * 200])
    with monkeypatch.context() as patched:
        patched.setattr("clipmod_cli.output.resuming.exits.ExitReview.mark", lambda *_arguments: None)
        clipmod(*words, *RISK)
    assert state_of(tmp_path / "out.jsonl")["audit"]["broken"]
    assert not any("early_exit" in one["review_reasons"] for one in records_of(tmp_path / "out.jsonl"))
    clipmod(*words, *RISK)
    wrong = [
        one for one in records_of(tmp_path / "out.jsonl")[NEEDED + 40 :] if one["final_decision"] == "Safe"
    ]
    assert wrong
    assert all("early_exit" in one["review_reasons"] for one in wrong)


def test_pictures_exit_after_a_screen_before_the_ensemble(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...]
) -> None:
    draw(tmp_path / "pictures", colours(NEEDED + 140))
    alone = ("sees-red-and-blue" if word == MODELS else word for word in words)
    done = clipmod(*alone, *RISK, "--screen", "sees-red")
    records = records_of(tmp_path / "out.jsonl")
    gone = [one for one in records if one["decided_at"] == "sees-red"]
    assert len(gone) > 40, done.stderr
    for one in gone:
        assert one["models_used"] == ["sees-red"]
        assert one["models_skipped"] == ["sees-red-and-blue"]
        assert one["unsafe_score_bounds"] == [0.0, 1.0]
    asked = [one for one in records if not one["decided_at"]]
    assert all(one["models_used"] == ["sees-red-and-blue"] for one in asked)
    assert all(one["final_decision"] == "NSFW" for one in records if one["index"] % 20 == 0)


def test_settings_of_it_are_told_apart(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...]
) -> None:
    draw(tmp_path / "pictures", colours(5))
    assert clipmod(*words, *RISK).code == 0
    other = clipmod(*words, "--early-exit", "calibrated", "--risk", "0.02")
    assert other.code == 2
    assert "risk" in other.stderr


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--early-exit", "calibrated", "--risk", "0.5"), "--risk is 0.5; it must be from 1e-05 to 0.1"),
        (("--risk", "0.01"), "--early-exit calibrated"),
        (("--screen", "open_nsfw"), "--early-exit calibrated"),
        (("--early-exit", "calibrated", "--stop-on-hit"), "--stop-on-hit"),
        (("--early-exit", "calibrated", "--evidence", "ev"), "--evidence"),
    ],
)
def test_what_cannot_be_is_refused(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...], extra: tuple[str, ...], message: str
) -> None:
    draw(tmp_path / "pictures", colours(2))
    done = clipmod(*words, *extra)
    assert done.code == 2
    assert message in done.stderr


def test_it_needs_a_file(clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...]) -> None:
    draw(tmp_path / "pictures", colours(2))
    done = clipmod(*words[:-2], "--early-exit", "calibrated")
    assert done.code == 2
    assert "-o FILE" in done.stderr
