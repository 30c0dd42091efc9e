"""Which lines of a file are taken for records, and what is said of the others."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from clipmod_cli.errors import UsageError
from clipmod_cli.output.reading.files import check_file
from clipmod_cli.output.reading.records import open_records
from tests.reading.conftest import all_lines

LINES = all_lines()
WHOLE = b"".join(LINES)


def compact(line: bytes) -> bytes:
    """Return a compact record as `scan --record compact` writes it."""
    fields = json.loads(line)
    kept = ("source", "status", "final_decision", "unsafe_score", "run_id", "index")
    chosen = {"schema": "clipmod/1-compact", **{name: fields[name] for name in kept}}
    return json.dumps(chosen, separators=(",", ":")).encode() + b"\n"


def sources_in(path: Path) -> tuple[list[str], list[str]]:
    """Return the sources that are read from a file, and what is said of it."""
    with open_records([str(path)]) as reader:
        found = [row["source"] for row in reader.rows("SELECT source FROM records")]
        assert reader.count == len(found)
        return found, reader.notes


SOURCES = [json.loads(line)["source"] for line in LINES]
PACK: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "zstd in frames": lambda data: b"".join(map(zstd.compress, data.splitlines(keepends=True))),
    "gzip in members": lambda data: b"".join(map(gzip.compress, data.splitlines(keepends=True))),
}


@pytest.mark.parametrize("form", PACK)
def test_every_form_of_a_file_is_read(form: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(PACK[form](WHOLE))
    assert sources_in(path) == (SOURCES, [])


@pytest.mark.parametrize(
    "data",
    [
        WHOLE.removesuffix(b"\n"),
        b"\n" + WHOLE.replace(b"\n", b"\n\n"),
        WHOLE.replace(b"\n", b"\r\n"),
        b"".join(json.dumps(json.loads(line)).encode() + b"\n" for line in LINES),
        b"".join(json.dumps(dict(reversed(json.loads(line).items()))).encode() + b"\n" for line in LINES),
    ],
    ids=["no last newline", "empty lines", "CRLF", "spaces", "another order"],
)
def test_what_other_programs_make_of_records_is_read(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(data)
    assert sources_in(path) == (SOURCES, [])


def test_compact_records_are_read_beside_full_ones(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(LINES[0] + compact(LINES[1]))
    with open_records([str(path)]) as reader:
        full, short = reader.rows("SELECT source, unsafe_score, policy FROM records")
    assert (full["policy"], short["policy"]) == ("female-presence", None)
    assert (full["unsafe_score"], short["unsafe_score"]) == (0.92, 0.9)


@pytest.mark.parametrize("form", ["plain", "gzip", "zstd"])
def test_a_torn_last_line_is_left_out_and_told(form: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(PACK[form](WHOLE + LINES[0][:200]))
    found, notes = sources_in(path)
    assert found == SOURCES
    assert notes == [f"{path}: line {len(LINES) + 1} is torn, as after a kill, and is left out"]


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_of_a_compressed_file_that_ends_early_all_whole_lines_are_taken(form: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(PACK[form](WHOLE) + PACK[form](LINES[0])[:-9])
    found, (note,) = sources_in(path)
    assert found[: len(SOURCES)] == SOURCES
    assert "early" in note or "torn" in note


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"source,decision\na.jpg,NSFW\n", "line 1 is not a clipmod record"),
        (b'{"schema":"other/1"}\n', "line 1 is not a clipmod record"),
        (b"{\n", "one JSON object a line"),
        (b"\x00\x01\x02", "line 1 is not a clipmod record"),
        (LINES[0] + LINES[1][:300] + b"\n" + LINES[2], "line 2 is not a clipmod record"),
        (LINES[0] + LINES[1][:300] + LINES[2], "line 2 is not valid JSON"),
        (LINES[0] + b"\n" + LINES[1].replace(b'"index":1', b'"index":"x"'), "a record cannot be read"),
        (gzip.compress(WHOLE, mtime=0)[:40] + b"\xff" * 40, "damaged"),
    ],
    ids=["CSV", "JSON", "indented", "bytes", "torn within", "two in one", "a wrong type", "damaged"],
)
def test_what_is_not_a_record_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=said), open_records([str(path)]) as reader:
        reader.rows("SELECT * FROM records")


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for name, said in ((tmp_path / "none", "No such file"), (tmp_path, "is a folder")):
        with pytest.raises(UsageError, match=said):
            check_file(str(name), tmp_path)


def test_a_file_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(WHOLE)
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    with pytest.raises(UsageError, match="twice"), open_records([str(path), str(link)]):
        pass


def test_a_pipe_with_a_name_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(WHOLE,))
    writer.start()
    assert sources_in(pipe)[0] == SOURCES
    writer.join()


def test_names_with_characters_of_patterns_are_paths(tmp_path: Path) -> None:
    path = tmp_path / "o*t [1]'.jsonl"
    path.write_bytes(WHOLE)
    (tmp_path / "out [1]'.jsonl").write_bytes(LINES[0])
    assert sources_in(path)[0] == SOURCES


def test_no_temporary_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    path = tmp_path / "out"
    path.write_bytes(gzip.compress(WHOLE))
    assert sources_in(path)[0] == SOURCES
    assert not list((tmp_path / "tmp").iterdir())
