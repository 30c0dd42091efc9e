"""`clipmod policies test`: the pictures of a policy's tests, by the real models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command import SHAPES, TINY, TINY_ENSEMBLE, TINY_L, Command, Outcome

PICTURES = TINY / "pictures"


def policy(folder: Path, tests: str, *, circle: str = "") -> Path:
    """Write the shapes' policy with these tests, beside its pictures."""
    shutil.copytree(PICTURES, folder / "p", dirs_exist_ok=True)
    text = SHAPES.read_text(encoding="utf-8").replace('name = "red_circle"', f'name = "red_circle"\n{circle}')
    path = folder / "mine.toml"
    path.write_text(f"{text}\n{tests}", encoding="utf-8")
    return path


def entry(picture: str, **expected: Any) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"picture": picture, **expected}.items()]
    return "\n".join(["[[tests]]", *lines, ""])


def rows(outcome: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in outcome.stdout.splitlines()]


GOOD = entry("p/red-circle.jpg", decision="NSFW", category="red_circle", score_at_least=0.9)
FILM = entry("p/red-circle-in-one-frame.gif", decision=["NSFW", "review"])
SAFE = entry("p/blue-square.png", decision="Safe", score_at_most=0.1)
WRONG = entry("p/blue-square.png", decision="NSFW")
GONE = entry("p/gone.png", decision="Safe")


def test_tests_that_pass_are_counted_and_exit_with_0(clipmod: Command, tmp_path: Path) -> None:
    path = policy(tmp_path, GOOD + FILM + SAFE)
    run = clipmod("policies", "test", path, "--models", TINY_ENSEMBLE)
    assert run.code == 0, run.stderr
    *lines, count = run.stdout.decode().splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["pass", "NSFW", "red_circle"],
        ["pass", "NSFW", "red_circle"],
        ["pass", "Safe", "other_shape"],
    ]
    assert lines[0].endswith(str(tmp_path / "p" / "red-circle.jpg"))
    assert count == "3 of 3 tests passed"


def test_one_that_fails_says_what_it_was_and_where_it_stands(clipmod: Command, tmp_path: Path) -> None:
    path = policy(tmp_path, GOOD + WRONG)
    run = clipmod("policies", "test", path, "--models", TINY_L)
    assert run.code == 1, run.stderr
    passed, failed, count = run.stdout.decode().splitlines()
    assert passed.startswith("pass  NSFW")
    line = path.read_text(encoding="utf-8").splitlines().index('picture = "p/blue-square.png"')
    assert failed.startswith("FAIL  Safe    other_shape")
    assert failed.endswith(f"{path}:{line}: must be NSFW")
    assert count == "1 of 2 tests passed"
    quiet = clipmod("policies", "test", path, "--models", TINY_L, "--quiet")
    assert (quiet.code, quiet.stdout.decode()) == (1, failed + "\n")


def test_what_cannot_be_judged_fails_with_its_code(clipmod: Command, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes((PICTURES / "blue-square.png").read_bytes()[:60])
    tests = GONE + entry("torn.png", decision="Safe") + entry("p", decision="Safe") + SAFE
    run = clipmod("policies", "test", policy(tmp_path, tests), "--models", TINY_L, "--json")
    assert run.code == 1, run.stderr
    gone, torn, folder, safe = rows(run)
    assert [one["error"]["code"] for one in (gone, torn, folder)] == [
        "not_found", "decode_error", "not_a_regular_file",
    ]  # fmt: skip
    assert gone["faults"] == ["not_found: no such file"]
    assert gone["outcome"] is gone["unsafe_score"] is gone["category"] is None
    assert (safe["passed"], safe["outcome"], safe["error"]) == (True, "Safe", None)


def test_options_choose_threshold_and_models_as_for_scan(clipmod: Command, tmp_path: Path) -> None:
    path = policy(tmp_path, GOOD)
    strict = clipmod("policies", "test", path, "--models", TINY_L, "--threshold", "1", "--json")
    assert (strict.code, rows(strict)[0]["outcome"]) == (1, "review")
    scan = clipmod("scan", tmp_path / "p" / "red-circle.jpg", "--policy", path, "--models", TINY_L, "--json")
    (record,) = scan.records
    (row,) = rows(clipmod("policies", "test", path, "--models", TINY_L, "--json"))
    assert (row["passed"], row["unsafe_score"]) == (True, record["unsafe_score"])
    blind = clipmod("policies", "test", path, "--models", "nudenet")
    assert blind.code == 2
    assert "red_circle" in blind.stderr


def test_matched_categories_are_tested(clipmod: Command, tmp_path: Path) -> None:
    tests = entry("p/red-circle.jpg", matched=["red_circle"]) + entry("p/blue-square.png", matched=[])
    path = policy(tmp_path, tests, circle="threshold = 0.4")
    run = clipmod("policies", "test", path, "--models", TINY_L, "--json")
    assert run.code == 0, run.stdout
    assert [one["matched_categories"] for one in rows(run)] == [["red_circle"], []]


def test_scan_takes_no_notice_of_tests(clipmod: Command, tmp_path: Path) -> None:
    picture = PICTURES / "red-circle.jpg"
    outcomes = []
    for name in (SHAPES, policy(tmp_path, GONE)):
        (record,) = clipmod("scan", picture, "--policy", name, "--models", TINY_L, "--json").records
        outcomes.append((record["policy_hash"], record["run_key"], record["unsafe_score"]))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("name", ["nsfw", "plain.toml"])
def test_a_policy_without_tests_is_refused(clipmod: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "plain.toml").write_bytes(SHAPES.read_bytes())
    run = clipmod("policies", "test", name if name == "nsfw" else tmp_path / name)
    assert run.code == 2
    assert "has no [[tests]]" in run.stderr
    assert run.stdout == b""


def test_check_counts_the_tests(clipmod: Command, tmp_path: Path) -> None:
    path = policy(tmp_path, GOOD + SAFE)
    assert ", flags red_circle, 2 tests, hash " in clipmod("policies", "check", path).stderr
    (row,) = rows(clipmod("policies", "check", path, "--json"))
    assert row["policy"]["tests"] == 2
