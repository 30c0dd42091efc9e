"""Inputs that may show a minor: no reader of records names them again."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from clipmod_cli.errors import UsageError
from clipmod_cli.output.reading.withheld import change_withheld, read_withheld, withheld_path
from clipmod_cli.output.resuming.gone import gone_path
from tests.end_to_end.command import Command
from tests.reading.conftest import ODD_NAMES, line_of
from tests.results import plain_failure, plain_verdict


def facts_of(line: bytes) -> dict[str, str | None]:
    record = json.loads(line)
    return {key: record[key] for key in ("sha256", "source", "source_b64", "member", "member_b64")}


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """An output of three contents; one, withheld, has a copy, and another one has no hash."""
    path = tmp_path / "records.jsonl"
    hidden, error = line_of(plain_verdict(1, source="marked.jpg")), line_of(plain_failure(2))
    copy = hidden.replace(b"marked.jpg", b"marked-copy.jpg")
    path.write_bytes(line_of(plain_verdict(0, source="seen.jpg")) + hidden + copy + error)
    change_withheld(path, add=[facts_of(hidden), facts_of(error)])
    return path


@pytest.mark.parametrize("compress", [False, True])
def test_no_command_over_records_names_it(clipmod: Command, marked: Path, compress: bool) -> None:
    if compress:
        marked.write_bytes(gzip.compress(marked.read_bytes()))
    folder = marked.parent
    listed = clipmod("list", marked, "--gone", "--nsfw", "--error")
    assert listed.stdout == b"seen.jpg\n"
    assert "3 are withheld" in listed.stderr
    for name in ("table.csv", "copy.jsonl", "table.parquet", "sheet.html"):
        command = "report" if name.endswith("html") else "export"
        made = clipmod(command, marked, "-o", folder / name)
        assert made.code == 0
        assert "withheld" in made.stderr
        content = (folder / name).read_bytes()
        assert b"seen.jpg" in content
        assert b"marked" not in content
        assert b"photos/2.jpg" not in content
    counted = clipmod("stats", marked, "--sql", "SELECT count(*) AS n FROM records")
    assert json.loads(counted.stdout) == {"n": 1}


def test_what_prune_dropped_names_it_no_more_than_the_output(clipmod: Command, marked: Path) -> None:
    dropped = gone_path(marked)
    dropped.write_bytes(marked.read_bytes())
    copy = marked.parent / "dropped.jsonl"
    assert "3 are withheld" in clipmod("export", dropped, "-o", copy).stderr
    assert [json.loads(line)["source"] for line in copy.read_bytes().splitlines()] == ["seen.jpg"]


def test_the_records_stay(clipmod: Command, marked: Path) -> None:
    before = marked.read_bytes()
    clipmod("list", marked)
    assert marked.read_bytes() == before


def test_what_is_no_longer_withheld_is_listed_again(clipmod: Command, marked: Path) -> None:
    change_withheld(marked, remove=[facts_of(line) for line in marked.read_bytes().splitlines()])
    assert not withheld_path(marked).exists()
    assert clipmod("list", marked, "--gone").stdout.count(b"\n") == 4


def test_a_damaged_list_stops_every_reader(clipmod: Command, marked: Path) -> None:
    """Nothing is shown rather than too much."""
    with withheld_path(marked).open("ab") as file:
        file.write(b'{"schema":')
    told = clipmod("list", marked)
    assert (told.code, told.stdout) == (2, b"")
    assert "line 3 is damaged" in told.stderr
    with pytest.raises(UsageError):
        change_withheld(marked, add=[])


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_of_any_bytes_are_known_again(tmp_path: Path, name: str) -> None:
    line = line_of(plain_verdict(0, source=name)).replace(b'"sha256":"' + b"0" * 64 + b'"', b'"sha256":null')
    change_withheld(tmp_path / "o.jsonl", add=[facts_of(line)])
    assert read_withheld(tmp_path / "o.jsonl").covers_line(line)
    assert not read_withheld(tmp_path / "o.jsonl").covers_line(line_of(plain_verdict(1)))
