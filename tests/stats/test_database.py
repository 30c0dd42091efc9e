"""`clipmod stats` on the statistics database, and `clipmod schema`, for people and programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from clipmod_cli.errors import UsageError
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.records import to_line, to_record
from tests.results import RUN, plain_animation, plain_verdict
from tests.stats.kit import call, one_output, serve_once


def test_an_empty_store_is_fine(at_home: Path) -> None:
    assert "clipmod scan" in call("stats").stdout
    found = json.loads(call("stats", "--json").stdout)
    assert found["totals"]["inputs"] == 0
    assert found["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    assert found["cost_ms"] == {"decode": None, "inference": None}
    assert not (at_home / "clipmod.duckdb").exists()


def test_a_database_that_was_named_must_be_there(at_home: Path) -> None:
    """A misspelt name is no store without records."""
    missing = at_home / "typo.duckdb"
    for words in ([], ["--json"], ["--sql", "SELECT 1"]):
        with pytest.raises(UsageError, match=r"there is no statistics database .*typo\.duckdb.*--rebuild"):
            call("stats", "--db", str(missing), *words)
    assert list(at_home.iterdir()) == []


def test_the_object_says_what_was_judged(store: HistoryStore) -> None:
    found = json.loads(call("stats", "--json").stdout)
    assert found["schema"] == "clipmod-stats/1"
    assert found["db"] == str(store.path)
    totals = {key: value for key, value in found["totals"].items() if key not in ("since", "until")}
    assert totals == {
        "inputs": 5, "nsfw": 2, "review": 1, "errors": 2, "safe": 1, "undecided": 0, "degraded": 0, "runs": 1
    }  # fmt: skip
    assert [(row["category"], row["inputs"], row["nsfw"]) for row in found["categories"]] == [
        ("female_present", 2, 2),
        ("male_only", 1, 0),
    ]
    assert [(row["policy"], row["inputs"], row["errors"]) for row in found["policies"]] == [
        (RUN.policy, 5, 2)
    ]
    assert found["review_reasons"] == [{"reason": "truncated", "inputs": 1}]
    assert [(row["code"], row["inputs"], row["retryable"]) for row in found["errors"]] == [
        ("decode_error", 1, False),
        ("timeout", 1, True),
    ]
    assert [(row["model"], row["inputs"], row["mean_ms"]) for row in found["models"]] == [
        ("ViT-H-14", 3, pytest.approx(42.1)),
        ("ViT-L-14", 3, pytest.approx(42.1)),
    ]
    assert found["latency_ms"]["p50"] == pytest.approx(61.0)
    assert 61.0 < found["latency_ms"]["p95"] < found["latency_ms"]["p99"] <= 100.0
    today = found["totals"]["until"][:10]
    assert found["days"] == [{"day": today, "inputs": 5, "nsfw": 2}]


def test_the_object_says_how_runs_ended(store: HistoryStore) -> None:
    (run,) = json.loads(call("stats", "--json").stdout)["runs"]
    assert (run["command"], run["models"], run["policy"]) == ("clipmod scan photos", ["ensemble"], RUN.policy)
    assert (run["ended"], run["exit_code"], run["inputs"], run["errors"]) == ("finished", 3, 5, 2)
    assert 0 < run["inputs_per_s"] <= 0.5
    assert datetime.fromisoformat(run["started_at"]).tzinfo == UTC


def test_days_without_anything_are_shown_as_such(store: HistoryStore, at_home: Path) -> None:
    output = at_home / "results.jsonl"
    output.write_bytes(to_line(to_record(plain_verdict(0), replace(RUN, run_id="earlier"))))
    two_days_ago = datetime.now(UTC).timestamp() - 2 * 86_400
    os.utime(output, (two_days_ago, two_days_ago))
    found = json.loads(call("stats", "--rebuild", str(output), "--json").stdout)
    assert [day["inputs"] for day in found["days"]] == [1, 0, 5]


def test_the_flag_wins_over_the_environment(store: HistoryStore, at_home: Path) -> None:
    other = str(at_home / "other.duckdb")
    assert "3 records added" in call("stats", "--db", other, "--rebuild", str(one_output(at_home))).stderr
    assert json.loads(call("stats", "--json", "--db", other).stdout)["totals"]["inputs"] == 3
    assert json.loads(call("stats", "--json").stdout)["totals"]["inputs"] == 5


def test_a_query_gives_json_lines_where_nobody_looks(store: HistoryStore) -> None:
    query = """SELECT source, unsafe_score, error.code AS code, judged_at,
        category_ensemble_probabilities AS p FROM items WHERE "index" IN (1, 3) ORDER BY "index" """
    one, two = map(json.loads, call("stats", "--sql", query).stdout.splitlines())
    assert (one["source"], one["unsafe_score"], one["code"]) == ("photos/1.jpg", 0.2, None)
    assert one["p"] == {"no_person": 0.0, "male_only": 0.8, "female_present": 0.2}
    assert (two["code"], two["p"]) == ("decode_error", None)
    assert datetime.fromisoformat(two["judged_at"]) <= datetime.now(UTC).replace(tzinfo=None)


def test_a_query_can_answer_anything_and_stays_json(store: HistoryStore) -> None:
    query = """SELECT 1 AS a, 2 AS a, 'nan'::DOUBLE AS b, 1.5::DECIMAL(3, 1) AS c, [1, NULL] AS d,
        MAP {1: 'x'} AS e, INTERVAL 1 DAY AS f, DATE '2026-01-02' AS g, 'h\u00e9' AS h, true AS i"""
    (row,) = map(json.loads, call("stats", "--sql", query).stdout.splitlines())
    assert row == {
        "a": 1, "a_2": 2, "b": None, "c": "1.5", "d": [1, None], "e": {"1": "x"}, "f": "1 day, 0:00:00",
        "g": "2026-01-02", "h": "h\u00e9", "i": True,
    }  # fmt: skip


def test_a_wrong_query_is_the_callers_mistake(store: HistoryStore) -> None:
    with pytest.raises(UsageError, match="no_such_table"):
        call("stats", "--sql", "SELECT * FROM no_such_table")


def test_rebuilding_says_what_became_of_the_lines(store: HistoryStore, at_home: Path) -> None:
    output = at_home / "results.jsonl"
    line = to_line(to_record(plain_verdict(0), replace(RUN, run_id="another")))
    output.write_bytes(line + to_line(to_record(plain_verdict(0), RUN)) + line[:50])
    result = call("stats", "--rebuild", str(output), "--json")
    assert "1 records added, 1 were there already; 1 lines are not records" in result.stderr
    assert json.loads(result.stdout)["totals"]["inputs"] == 6


def test_the_object_says_what_was_served(store: HistoryStore, at_home: Path) -> None:
    assert json.loads(call("stats", "--json").stdout)["serve"]["total_requests"] == 0
    serve_once(store, at_home / "hosting")
    found = json.loads(call("stats", "--json").stdout)["serve"]
    assert (found["total_requests"], found["error_rate"], found["max_concurrent_requests"]) == (2, 0.5, 7)
    assert [(one["endpoint"], one["errors"]) for one in found["endpoints"]] == [
        ("/predict/multi", 0),
        ("/predict/single", 1),
    ]


def test_the_schema_is_printed(store: HistoryStore) -> None:
    printed = json.loads(call("schema").stdout)
    validator = jsonschema.Draft202012Validator(printed)
    validator.check_schema(printed)
    validator.validate(json.loads(to_line(to_record(plain_animation(), RUN, frames_detail=True))))


def test_both_commands_are_light_to_import() -> None:
    heavy = ["duckdb", "numpy", "pydantic", "rich.console", "torch", "filelock", "jsonschema"]
    code = "import sys; from clipmod_cli.cli.commands import schema, stats; "
    code += f"print(set({heavy}).intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_closed_pipe_ends_it_as_other_programs(store: HistoryStore) -> None:
    words = [sys.executable, "-m", "clipmod_cli", "stats"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 141
