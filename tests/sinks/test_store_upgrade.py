"""A store that an earlier clipmod made goes on being one, with all that is in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from clipmod_cli.errors import UsageError
from clipmod_cli.output.history.file import open_for_reading, open_for_writing
from clipmod_cli.output.history.schema import SCHEMA_VERSION
from clipmod_cli.output.history.store import HistoryStore
from tests.results import RUN
from tests.sinks.rows import ending, fill, info, lines, numbers
from tests.sinks.serve import REQUEST, serving

VERSION_1 = Path(__file__).with_name("store_v1.sql").read_text()
COLUMNS = """
    SELECT table_name, column_name, data_type FROM duckdb_columns()
    WHERE NOT internal ORDER BY table_name, column_index
"""
KEYS = """
    SELECT table_name, constraint_type, constraint_column_names FROM duckdb_constraints()
    WHERE constraint_type = 'PRIMARY KEY' ORDER BY ALL
"""


@pytest.fixture
def old(store: HistoryStore) -> HistoryStore:
    """Return a store of version 1 with three items of one run, and something forgotten of a living one."""
    store.path.parent.mkdir()
    with duckdb.connect(str(store.path)) as connection:
        connection.execute(VERSION_1)
        connection.execute(
            "INSERT INTO runs (run_id, ended, command) VALUES (?, 'finished', 'x')", [RUN.run_id]
        )
        for index in range(3):
            connection.execute(
                'INSERT INTO items (run_id, "index", source, status, judged_at) '
                "VALUES (?, ?, ?, 'ok', now())",
                [RUN.run_id, index, f"photos/{index}.jpg"],
            )
        connection.execute(
            "INSERT INTO forgotten VALUES ('living', 'source', sha256('photos/1.jpg')), ('z', 'sha256', 'y')"
        )
    return store


def version(store: HistoryStore) -> int:
    with open_for_reading(store.path) as connection:
        found = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
    assert found
    return int(found[0])


def test_looking_changes_nothing_and_is_answered(old: HistoryStore) -> None:
    before = old.path.read_bytes()
    assert numbers(old) == [0, 1, 2]
    assert old.stats()["totals"]["inputs"] == 3
    assert old.serve_stats()["total_requests"] == 0
    assert old.query("SELECT * FROM requests").rows == old.query("SELECT * FROM hosted").rows == []
    assert old.path.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="permissions of another kind")
def test_a_file_that_cannot_be_written_is_answered_too(old: HistoryStore) -> None:
    old.path.chmod(0o400)
    assert old.stats()["totals"]["inputs"] == 3


def test_the_next_rows_make_it_a_store_of_this_version(old: HistoryStore) -> None:
    run = serving(old)
    run.add_request(REQUEST)
    run.finish({}, 0)
    assert version(old) == SCHEMA_VERSION == 2
    assert numbers(old) == [0, 1, 2]
    assert ending(old) == ("finished", None)
    assert old.serve_stats()["total_requests"] == 1
    assert len(old.query("SELECT * FROM forgotten").rows) == 2
    fill(old, 2, "later")
    assert numbers(old, "later") == [0, 1]


def test_an_upgraded_store_is_made_as_a_new_one(old: HistoryStore, tmp_path: Path) -> None:
    new = HistoryStore(tmp_path / "new.duckdb")
    for store in (old, new):
        fill(store, 1, "some")
    for query in (COLUMNS, KEYS):
        assert old.query(query) == new.query(query)


def test_what_was_forgotten_of_a_living_run_stays_so(old: HistoryStore) -> None:
    run = old.open_run(info("living"))
    for line in lines(3, "living"):
        run.add(line)
    run.finish({}, 0)
    assert numbers(old, "living") == [0, 2]


def test_it_can_be_erased_from(old: HistoryStore) -> None:
    assert old.forget(source="photos/1.jpg").records == 1
    assert numbers(old) == [0, 2]
    assert version(old) == SCHEMA_VERSION


def test_a_process_that_dies_amidst_leaves_it_as_it_was_or_whole(old: HistoryStore) -> None:
    code = """
import os, sys
from pathlib import Path
from clipmod_cli.output.history import schema
from clipmod_cli.output.history.file import open_for_writing
class Statements(tuple):
    def __iter__(self):
        for number, statement in enumerate(tuple.__iter__(self)):
            if number == int(sys.argv[2]):
                os.kill(os.getpid(), 9)
            yield statement
schema.TO_VERSION_2 = Statements(schema.TO_VERSION_2)
open_for_writing(Path(sys.argv[1]), Path(sys.argv[1] + ".spool"))
os.kill(os.getpid(), 9)
"""
    for survived in (1, 3, 99):
        subprocess.run([sys.executable, "-c", code, str(old.path), str(survived)], check=False)
        assert old.stats()["totals"]["inputs"] == 3
        assert version(old) == (1 if survived < 99 else 2)
    fill(old, 1, "later")
    assert numbers(old, "later") == [0]


def test_a_store_of_a_later_version_is_not_touched(old: HistoryStore) -> None:
    with open_for_writing(old.path, old.spool) as connection:
        connection.execute("UPDATE meta SET value = '3' WHERE name = 'schema_version'")
    before = old.path.read_bytes()
    for question in (old.stats, old.serve_stats, lambda: old.forget(source="x")):
        with pytest.raises(UsageError, match="later clipmod"):
            question()
    assert old.path.read_bytes() == before
