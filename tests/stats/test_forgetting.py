"""`clipmod stats forget`: what is erased, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipmod_cli.errors import UsageError
from clipmod_cli.output.history.store import HistoryStore
from tests.sinks.serve import hosted, keep_files, left
from tests.stats.kit import call, one_output, serve_once


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


@pytest.mark.parametrize("first", [["--db", "other.duckdb", "forget"], ["forget", "--db", "other.duckdb"]])
def test_forgetting_in_the_database_that_was_named(
    store: HistoryStore, at_home: Path, monkeypatch: pytest.MonkeyPatch, first: list[str]
) -> None:
    monkeypatch.chdir(at_home)
    words = ("stats", *first, "--source", "photos/0.jpg", "-y")
    with pytest.raises(UsageError, match=r"there is no statistics database .*other\.duckdb"):
        call(*words)
    call("stats", "--rebuild", str(one_output(at_home)), "--db", "other.duckdb")
    assert "Erased 1 records" in call(*words).stderr
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
