"""`clipmod stats` for a person: tables, bars, and the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.cli.terminal.stats_tables import bar, show, show_answer, sparkline
from clipmod_cli.output.history.store import HistoryStore, QueryResult
from tests.stats.kit import call, read_all, serve_once


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
