"""`clipmod policies`: what goes to stdout and stderr, and the exit codes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from clipmod_cli.cli.commands.policies import app
from clipmod_cli.errors import PolicyError
from clipmod_cli.judge.policy.reading import BUILTIN, builtin_text, load_policy

GOOD = builtin_text("nsfw")
BAD = GOOD.replace("prompts = [", "promts = [", 1)
BAD_LINE = BAD.splitlines().index("promts = [") + 1


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.toml"
    path.write_text(GOOD, encoding="utf-8")
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.toml"
    path.write_text(BAD + "\n[[categories]]\nlow = 2\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"]])
def test_a_pipe_gets_one_json_line_for_each_policy(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    assert result.stderr == ""
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["name"] for row in rows] == list(BUILTIN)
    defaults = {row["name"]: row["default_of"] for row in rows if row["default_of"]}
    assert defaults == {"nsfw": ["scan", "urls"], "female-presence": ["serve"]}
    for row in rows:
        policy = load_policy(row["name"])
        assert row["policy_hash"] == policy.hash
        assert row["unsafe"] == list(policy.unsafe)
        assert sorted(row["unsafe"] + row["safe"]) == sorted(c.name for c in policy.categories)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudo-terminal")
def test_a_terminal_gets_a_table_that_marks_the_defaults() -> None:
    ours, theirs = pty.openpty()
    code = "from clipmod_cli.cli.commands.policies import app; app(['list'])"
    environment = {**os.environ, "COLUMNS": "140", "NO_COLOR": "1", "TERM": "xterm"}
    subprocess.run([sys.executable, "-c", code], stdout=theirs, env=environment, check=True, timeout=60)
    os.close(theirs)
    text = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "nsfw (default of scan, urls)" in text
    assert "female-presence (default of serve)" in text
    assert text.count("(default of") == 2
    assert all(name in text for name in BUILTIN)
    assert "nudity, explicit" in text


@pytest.mark.parametrize("name", BUILTIN)
def test_a_policy_is_shown_as_it_is_and_can_be_checked_again(name: str, tmp_path: Path) -> None:
    result = run("show", name)
    assert result.exit_code == 0
    assert result.stdout == builtin_text(name)
    copy = tmp_path / "copy.toml"
    copy.write_text(result.stdout, encoding="utf-8")
    assert load_policy(str(copy)) == load_policy(name)


def test_a_policy_is_shown_as_json_with_its_defaults() -> None:
    table = json.loads(run("show", "female-presence-3", "--json").stdout)
    assert table["name"] == "female-presence-3"
    assert table["thresholds"] == {"low": 0.7, "medium": 0.5, "high": 0.35, "ultra": 0.2}
    assert table["video"] == {"persistence_s": 0.0, "max_gap_s": 10.0}
    assert [c["name"] for c in table["categories"]] == ["male_only", "female_present", "adult_object"]
    assert table["policy_hash"] == load_policy("female-presence-3").hash


def test_an_unknown_policy_cannot_be_shown() -> None:
    result = run("show", "nsf")
    assert isinstance(result.exception, PolicyError)
    assert 'did you mean "nsfw"?' in str(result.exception)
    assert result.stdout == ""


def test_a_good_file_is_ok(good: Path) -> None:
    result = run("check", str(good))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert f"{good}: OK (policy nsfw, 5 categories, flags nudity, explicit, hash " in result.stderr


def test_every_fault_of_every_file_is_told(good: Path, bad: Path, tmp_path: Path) -> None:
    result = run("check", str(bad), str(good), str(tmp_path / "none.toml"))
    assert result.exit_code == 2
    assert result.stdout == ""
    told = result.stderr.splitlines()
    assert told[0] == f'{bad}:{BAD_LINE}: unknown key "promts" in [[categories]] (did you mean "prompts"?)'
    assert len([line for line in told if line.startswith(f"{bad}:")]) == 5
    assert f"{good}: OK" in result.stderr
    assert "cannot read the policy" in told[-1]


def test_what_is_odd_but_no_fault_is_a_note(tmp_path: Path) -> None:
    path = tmp_path / "general.toml"
    path.write_text(builtin_text("general"), encoding="utf-8")
    result = run("check", str(path))
    assert result.exit_code == 0
    assert f"{path}: note: nudenet cannot see drugs" in result.stderr


def test_a_check_can_be_read_by_programs(good: Path, bad: Path) -> None:
    result = run("check", "--json", str(good), str(bad))
    assert result.exit_code == 2
    assert result.stderr == ""
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert (first["file"], first["ok"], first["errors"]) == (str(good), True, [])
    assert first["policy"]["policy_hash"] == load_policy("nsfw").hash
    assert (second["ok"], second["policy"]) == (False, None)
    assert second["errors"][0].startswith(f"{bad}:{BAD_LINE}: ")


def test_check_wants_a_file() -> None:
    assert run("check").exit_code == 2


def test_nothing_heavy_is_imported_for_help() -> None:
    code = (
        "import sys, clipmod_cli.cli.commands.policies\n"
        "heavy = {'pydantic', 'duckdb', 'numpy', 'torch', 'PIL', 'rich', 'clipmod_cli.judge.policy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
