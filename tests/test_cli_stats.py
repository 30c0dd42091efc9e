"""`clipmod stats` and `clipmod schema`, as a person and as a program call them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from typer.testing import CliRunner, Result

from clipmod_cli.cli.commands import schema, stats
from clipmod_cli.cli.terminal.stats_tables import bar, show, show_answer, sparkline
from clipmod_cli.errors import UsageError
from clipmod_cli.output.history.rows import RunInfo
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore, QueryResult
from clipmod_cli.records import to_line, to_record
from tests.results import RUN, plain_animation, plain_failure, plain_verdict
from tests.sinks.serve import hosted, keep_files, left, request

app = typer.Typer()
app.add_typer(stats.app, name="stats")
app.command()(schema.schema)


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the settings and the store of whoever runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith("CLIPMOD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("CLIPMOD_DB", str(tmp_path / "clipmod.duckdb"))
    return tmp_path


@pytest.fixture
def store(at_home: Path) -> HistoryStore:
    """Return a store with one run: NSFW and safe stills, an animation, two errors."""
    store = HistoryStore(at_home / "clipmod.duckdb")
    started = datetime.now(UTC) - timedelta(seconds=10)
    run = HistoryRun(
        store, RunInfo(facts=RUN, command="clipmod scan photos", models=("ensemble",), started_at=started)
    )
    run.add(to_line(to_record(plain_verdict(0, unsafe=0.9), RUN)))
    run.add(
        to_line(
            to_record(
                replace(plain_verdict(1, unsafe=0.2), review_reasons=("truncated",), total_ms=100.0), RUN
            )
        )
    )
    run.add(to_line(to_record(plain_animation(2), RUN)))
    run.add(to_line(to_record(plain_failure(3), RUN)))
    run.add(to_line(to_record(plain_failure(4, "timeout"), RUN)))
    run.finish({"inputs": 5}, 3)
    return store


def call(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_an_empty_store_is_fine(at_home: Path) -> None:
    assert "clipmod scan" in call("stats").stdout
    found = json.loads(call("stats", "--json").stdout)
    assert found["totals"]["inputs"] == 0
    assert found["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    assert found["cost_ms"] == {"decode": None, "inference": None}
    assert not (at_home / "clipmod.duckdb").exists()


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


def test_a_person_sees_it_as_tables(store: HistoryStore) -> None:
    said = call("stats").stdout
    assert "\x1b" not in said
    for word in (
        "5 inputs",
        "1 run",
        "NSFW",
        "female_present",
        "decode_error",
        "ViT-L-14",
        "exit code 3",
        "40.0%",
    ):
        assert word in said


def test_the_flag_wins_over_the_environment(store: HistoryStore, at_home: Path) -> None:
    other = str(at_home / "other.duckdb")
    assert json.loads(call("stats", "--db", other, "--json").stdout)["db"] == other
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


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--source", "photos/1.jpg"], 1),
        (["--source", "photos"], 0),
        (["--sha256", f"{2:064X}"], 1),
        (["--before", "2999-01-01"], 5),
        (["--before", "2001-01-01T10:00:00"], 0),
    ],
)
def test_forgetting(store: HistoryStore, words: list[str], count: int) -> None:
    result = call("stats", "forget", *words, "--yes")
    assert f"Erased {count} records" in result.stderr
    assert store.stats()["totals"]["inputs"] == 5 - count


def serve_once(store: HistoryStore, data: Path) -> None:
    """Have a request refused, one answered, and its picture hosted below a folder."""
    store = HistoryStore(store.path, data_folder=data)
    started = datetime.now(UTC)
    facts = replace(RUN, run_id="serve-run")
    run = HistoryRun(
        store, RunInfo(facts=facts, command="clipmod serve", models=("ensemble",), started_at=started)
    )
    run.add_request(request(0, endpoint="/predict/multi", images=3, time_ms=1234.5, concurrent=7))
    run.add_request(request(1, status=400, images=0, judged_by=None))
    run.add_hosted(hosted("picture-one-1", name="photos/9.jpg"))
    keep_files(data, hosted("picture-one-1", name="photos/9.jpg"))
    run.finish({}, 0)


def test_a_person_sees_what_was_served(store: HistoryStore, at_home: Path) -> None:
    assert "clipmod serve" not in call("stats").stdout
    serve_once(store, at_home / "hosting")
    said = call("stats").stdout
    for word in (
        "Requests to clipmod serve", "/predict/multi", "/predict/single", "1,234.5",
        "2 requests with 3 images, 50.0% errors, 95% took at most 1,23", "at most 7 at once",
        "1 image hosted now",
    ):  # fmt: skip
        assert word in said


def test_the_object_says_what_was_served(store: HistoryStore, at_home: Path) -> None:
    assert json.loads(call("stats", "--json").stdout)["serve"]["total_requests"] == 0
    serve_once(store, at_home / "hosting")
    found = json.loads(call("stats", "--json").stdout)["serve"]
    assert (found["total_requests"], found["error_rate"], found["max_concurrent_requests"]) == (2, 0.5, 7)
    assert [(one["endpoint"], one["errors"]) for one in found["endpoints"]] == [
        ("/predict/multi", 0),
        ("/predict/single", 1),
    ]


@pytest.mark.parametrize("folder", ["hosting", "data/clipmod"])
def test_forgetting_takes_hosted_pictures_along(store: HistoryStore, at_home: Path, folder: str) -> None:
    serve_once(store, at_home / folder)
    said = call("stats", "forget", "--source", "photos/9.jpg", "-y").stderr
    assert "Erased 0 records and 1 hosted picture from" in said
    assert left(at_home / folder) == set()
    assert "Erased 0 records from" in call("stats", "forget", "--source", "photos/9.jpg", "-y").stderr


def test_pictures_of_a_server_without_a_store_are_erased_where_the_settings_say(
    at_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMOD_DATA_DIR", str(at_home / "hosting"))
    keep_files(at_home / "hosting", hosted("picture-one-1", name="photos/9.jpg"))
    assert "1 hosted picture" in call("stats", "forget", "--source", "photos/9.jpg", "-y").stderr
    assert left(at_home / "hosting") == set()


def test_forgetting_in_the_store_that_was_named(store: HistoryStore, at_home: Path) -> None:
    other = str(at_home / "other.duckdb")
    for words in (["--db", other, "forget"], ["forget", "--db", other]):
        assert "Erased 0" in call("stats", *words, "--source", "photos/1.jpg", "-y").stderr
    assert store.stats()["totals"]["inputs"] == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "one of --source"),
        (["--source", "a", "--sha256", "0" * 64], "one of --source"),
        (["--sha256", "abc"], "64 hexadecimal"),
        (["--source", "a"], "--yes"),
    ],
)
def test_nothing_is_erased_by_mistake(store: HistoryStore, words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call("stats", "forget", *words)
    assert store.stats()["totals"]["inputs"] == 5


def test_names_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    show_answer(QueryResult(columns=("source",), rows=[("[red]\x1b[2J\r.jpg",), (None,), (7,)]))
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\r" not in said
    assert "[red]" in said


def test_many_columns_are_shown_row_by_row(capsys: pytest.CaptureFixture[str]) -> None:
    columns = tuple(f"column_{number}" for number in range(40))
    show_answer(QueryResult(columns=columns, rows=[tuple(range(40))]))
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["column_39", "39"] in said


def test_a_bar_is_there_for_whatever_is_there() -> None:
    assert bar(0, 10) == bar(0, 0) == ""
    assert len(bar(1, 1_000_000)) == 1
    assert len(bar(5, 10)) * 2 == len(bar(10, 10))
    assert bar(10, 10, blocks=False).strip("#") == ""


def test_a_line_of_days() -> None:
    assert sparkline([]) == ""
    assert sparkline([0, 1, 4, 8]) == " ▂▅█"
    assert sparkline([1, 1_000_000])[0] == "▁"


def test_what_is_not_known_is_left_out(store: HistoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    found = store.stats()
    unknown: dict[str, Any] = {"started_at": None, "models": None, "inputs_per_s": None, "command": None}
    ends = ("running", "killed", "rebuilt")
    found["runs"] = [{**found["runs"][0], **unknown, "ended": ended} for ended in ends]
    show(found)
    said = capsys.readouterr().out
    assert "None" not in said
    for word in ("still runs", "killed", "rebuilt from its output"):
        assert word in said


def test_a_locale_without_blocks_still_gets_an_answer(store: HistoryStore) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = "from clipmod_cli.cli.commands.stats import app; app()"
    done = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, check=True)
    said = done.stdout.decode("ascii")
    assert "####" in said


def read_all(terminal: int) -> bytes:
    said = b""
    try:
        while piece := os.read(terminal, 1000):
            said += piece
    except OSError:  # Linux: nobody has the other end any more
        pass
    finally:
        os.close(terminal)
    return said


def test_a_terminal_gets_a_table(store: HistoryStore) -> None:
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    command = "from clipmod_cli.cli.commands.stats import app; app()"
    query = ["--sql", 'SELECT source FROM items WHERE "index" = 0']
    with subprocess.Popen([sys.executable, "-c", command, *query], stdout=follower):
        os.close(follower)
        said = read_all(leader)
    assert b"source" in said
    assert b"{" not in said


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


def one_output(at_home: Path, *, torn: bool = False) -> Path:
    """Return an output with a hit, an input to review and an error."""
    unsure = replace(plain_verdict(1, unsafe=0.2), review_reasons=("truncated",))
    lines = [to_line(to_record(one, RUN)) for one in (plain_verdict(0), unsure, plain_failure(2, "timeout"))]
    path = at_home / "results.jsonl"
    path.write_bytes(b"".join(lines) + (lines[0][:99] if torn else b""))
    return path


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
    assert "No records in" in call("stats", str(at_home / "none.jsonl")).stdout


@pytest.mark.parametrize("width", [80, 100])
def test_tables_fit_the_terminal(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    found = store.stats()
    long = {"policy": "a-policy-of-a-company", "category": "hateful_and_offensive_symbols"}
    found["categories"] = [{**found["categories"][0], **long}] * 2
    found["runs"] = [{**found["runs"][0], "command": "clipmod scan " + "photos/of/2026 " * 20}]
    monkeypatch.setattr("clipmod_cli.cli.terminal.tables.PIPE_COLUMNS", width)
    show(found)
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width
    for whole in (*long.values(), "ViT-L-14", "exit code 3", "inputs", "review", "retryable"):
        assert whole in said  # no word is broken


def test_a_closed_pipe_ends_it_as_other_programs(store: HistoryStore) -> None:
    words = [sys.executable, "-m", "clipmod_cli", "stats"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 141
