"""`clipmod stats RECORDS`: outputs are read directly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipmod_cli.errors import UsageError
from tests.stats.kit import call, one_output


def test_an_output_is_read_directly(at_home: Path) -> None:
    output = one_output(at_home, torn=True)
    result = call("stats", str(output), "--json")
    assert "line 4 is torn" in result.stderr
    found = json.loads(result.stdout)
    assert (found["schema"], found["records"]) == ("clipmod-stats/1", [str(output)])
    assert {key: found["totals"][key] for key in ("inputs", "nsfw", "safe", "review", "errors", "runs")} == {
        "inputs": 3, "nsfw": 1, "safe": 1, "review": 1, "errors": 1, "runs": 1
    }  # fmt: skip
    assert found["errors"] == [{"code": "timeout", "inputs": 1, "retryable": True}]
    assert found["review_reasons"] == [{"reason": "truncated", "inputs": 1}]
    assert not (at_home / "clipmod.duckdb").exists()


def test_an_output_is_shown_as_tables(at_home: Path) -> None:
    said = call("stats", str(one_output(at_home))).stdout
    for word in (
        "3 inputs in 1 run",
        "female_present",
        "timeout",
        "Latency",
        "queueing included",
        "forward passes 84 ms",
    ):
        assert word in said
    assert "Last runs" not in said


def test_a_query_over_an_output(at_home: Path) -> None:
    query = "SELECT source FROM records WHERE final_decision = 'NSFW'"
    words = ("stats", "--sql", query, str(one_output(at_home)))
    assert json.loads(call(*words).stdout) == {"source": "photos/0.jpg"}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY records TO '{}/x.csv'",
        "SET enable_external_access = true",
    ],
)
def test_a_query_over_an_output_reaches_nothing_else(at_home: Path, query: str) -> None:
    with pytest.raises(UsageError):
        call("stats", str(one_output(at_home)), "--sql", query.format(at_home))
    assert not (at_home / "x.csv").exists()


def test_an_output_and_a_database_are_not_mixed(at_home: Path) -> None:
    with pytest.raises(UsageError, match="no effect"):
        call("stats", str(one_output(at_home)), "--db", "x.duckdb")


def test_an_output_without_records_is_said_to_be_empty(at_home: Path) -> None:
    (at_home / "none.jsonl").touch()
    assert "No records and no decisions in" in call("stats", str(at_home / "none.jsonl")).stdout
