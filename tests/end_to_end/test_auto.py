"""What `auto` takes, what it says and when, and the default policy of each command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.command import SAMPLES, TINY_L, Command, by_name

CAT = SAMPLES / "cat.png"
QUICK = ("--no-db", "--no-cache")

WITHOUT_NUDENET = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "nudenet" else find_spec(name, *more)
"""


def test_auto_judges_the_samples_and_flags_nothing(clipmod: Command) -> None:
    run = clipmod("scan", SAMPLES, *QUICK)
    assert run.code == 0
    records = by_name(run.records)
    assert len(records) == 10
    for name, record in records.items():
        assert (record["policy"], record["models_used"]) == ("nsfw", ["open_nsfw", "nudenet"])
        assert (record["final_decision"], record["degraded"]) == ("Safe", False)
        # the detector alone takes the chart for bare skin: the models disagree about the side
        expected = ["low_agreement"] if name == "color-chart.png" else []
        assert (record["review_reasons"], record["needs_review"]) == (expected, bool(expected))


def test_auto_says_what_it_took_once_and_again_when_it_takes_something_else(clipmod: Command) -> None:
    first = clipmod("scan", CAT, *QUICK)
    assert "auto took open_nsfw, nudenet" in first.stderr
    assert "clipmod models download ensemble" in first.stderr
    assert "auto took" not in clipmod("scan", CAT, *QUICK).stderr
    assert "auto took nudenet" in clipmod("scan", CAT, *QUICK, "--policy", "female-presence").stderr
    assert "auto took" not in clipmod("scan", CAT, *QUICK).stderr  # told of this policy before
    (notices,) = clipmod.home.rglob("said-auto.json")
    notices.write_text(json.dumps({"nsfw": "nudenet"}))  # as if a model had come since
    assert "auto took" in clipmod("scan", CAT, *QUICK).stderr
    assert "auto took" not in clipmod("scan", CAT, *QUICK).stderr
    notices.write_text("[")
    assert "auto took" in clipmod("scan", CAT, *QUICK).stderr


def test_the_notice_is_neither_lost_by_a_quiet_run_nor_kept_from_the_log(
    clipmod: Command, tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    assert "auto took" not in clipmod("scan", CAT, *QUICK, "-q").stderr
    assert "auto took" in clipmod("scan", CAT, *QUICK).stderr
    run = clipmod("scan", CAT, *QUICK, "--log-file", log)
    assert "auto took" not in run.stderr
    assert "auto took open_nsfw, nudenet" in log.read_text()
    assert "auto took" in clipmod("scan", CAT, *QUICK, "-v").stderr


def test_models_that_are_named_make_no_notice(clipmod: Command) -> None:
    assert "auto took" not in clipmod("scan", CAT, *QUICK, "--models", "open_nsfw").stderr


@pytest.mark.parametrize(("policy", "model"), [("graphic", "owen-s"), ("general", "ensemble")])
def test_where_no_model_here_sees_the_policy_both_ways_out_are_named(
    clipmod: Command, policy: str, model: str
) -> None:
    run = clipmod.process("scan", CAT, *QUICK, "--policy", policy)
    assert (run.code, run.stdout) == (4, b"")
    assert f"can judge by the policy '{policy}'" in run.stderr
    assert f"clipmod models download {model}" in run.stderr
    assert "--policy nsfw, which open_nsfw and nudenet can see" in run.stderr


@pytest.mark.parametrize("words", [("--policy", "attributes"), ("--classes", "cat, dog")])
def test_auto_takes_no_model_that_sees_nothing_of_what_is_asked(
    clipmod: Command, words: tuple[str, str]
) -> None:
    """Nothing is UNSAFE there, so no category is unseen; the light models see no category at all."""
    run = clipmod("scan", CAT, *QUICK, *words)
    assert (run.code, run.stdout) == (4, b"")
    assert "clipmod models download ensemble" in run.stderr


def test_serve_without_a_detector_says_what_to_do(clipmod: Command, tmp_path: Path) -> None:
    """Nothing but open_nsfw is there, as in the base install; it cannot see the documented categories."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_NUDENET)
    run = clipmod.process("serve", "--port", "0", "--no-db", env={"PYTHONPATH": str(tmp_path)})
    assert run.code == 4
    assert "the policy 'female-presence'" in run.stderr
    assert "nudenet" in run.stderr
    assert "--policy nsfw, which open_nsfw can see" in run.stderr
    assert "Traceback" not in run.stderr


def test_each_command_shows_its_default_policy(clipmod: Command) -> None:
    for command, policy in (("scan", "nsfw"), ("urls", "nsfw"), ("serve", "female-presence")):
        text = clipmod(command, "--help").stdout.decode()
        assert f"a built-in policy or a TOML file [{policy}]" in " ".join(text.split())
    (line,) = (
        one for one in clipmod("config", "show").stdout.decode().splitlines() if one.startswith("policy ")
    )
    assert line.split() == ["policy", "nsfw", "default", "(clipmod", "serve:", "female-presence)"]


def test_a_policy_of_environment_or_file_wins_over_both_defaults(clipmod: Command, tmp_path: Path) -> None:
    named = {"CLIPMOD_POLICY": "female-presence"}
    (record,) = clipmod("scan", CAT, *QUICK, "--models", "nudenet", env=named).records
    assert record["policy"] == "female-presence"
    run = clipmod("scan", CAT, *QUICK, "--models", TINY_L)
    assert "woman" not in run.stderr  # said by serve alone
