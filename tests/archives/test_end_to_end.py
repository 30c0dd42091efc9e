"""Archives through the real command: the verdicts of the files, the records, and resuming."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.archives.making import COMPRESS, TEXT, make_tar, make_zip
from tests.end_to_end.command import SAMPLES, Command

NAMES = ("astronaut.jpg", "coffee.webp", "astronaut-pan.gif", "photographer.jpg")
FILES = [(name, (SAMPLES / name).read_bytes()) for name in NAMES]
HOW = ("--models", "nudenet", "--policy", "female-presence", "--workers", "1")
OF_THE_RUN = {
    "known",
    "source",
    "member",
    "index",
    "run_id",
    "mtime_ns",
    "total_time_ms",
    "decode_time_ms",
    "inference_time_ms",
    "per_model_predictions",
}
"""What may differ where the bytes are the same."""


def judgement(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in OF_THE_RUN}


def test_members_get_the_verdicts_of_the_files(clipmod: Command, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(make_zip([*FILES, ("notes.txt", TEXT)]))
    (tmp_path / "b").write_bytes(COMPRESS["gz"](make_tar(FILES)))
    paths = [SAMPLES / name for name in NAMES]
    run = clipmod("scan", *paths, tmp_path, *HOW)
    assert run.code == 0
    assert "other type 1" in run.stderr
    records, count = run.records, len(NAMES)
    assert [record["index"] for record in records] == list(range(3 * count))
    assert [record["member"] for record in records] == [*[None] * count, *NAMES, *NAMES]
    for number, archive in enumerate(("a.zip", "b"), 1):
        path = tmp_path / archive
        members = records[number * count : (number + 1) * count]
        assert {record["source"] for record in members} == {str(path)}
        assert {record["mtime_ns"] for record in members} == {path.stat().st_mtime_ns}
        assert list(map(judgement, members)) == list(map(judgement, records[:count]))
    assert {record["final_decision"] for record in records} == {"NSFW", "Safe"}


def test_an_archive_is_resumed_by_its_members(clipmod: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    data = make_zip([FILES[0], FILES[1], FILES[1], FILES[3]], 0)
    path.write_bytes(data.replace(FILES[3][1][-99:], b"x" * 99))
    output = tmp_path / "out.jsonl"
    words = ("scan", path, "-o", output, *HOW)
    assert clipmod(*words, "--limit", "2").code == 0
    first = output.read_bytes()
    assert clipmod(*words).code == 3
    whole = output.read_bytes()
    assert whole.startswith(first)
    records = [json.loads(line) for line in whole.splitlines()]
    assert [record["member"] for record in records] == [FILES[n][0] for n in (0, 1, 1, 3)]
    assert records[3]["error"]["code"] == "archive_error"
    run = clipmod(*words)
    assert (run.code, output.read_bytes()) == (3, whole)
    assert f"resuming {output}: 4 done, 0 to retry" in run.stderr
    os.utime(path, ns=(1, 1))
    assert "4 to retry" in clipmod(*words).stderr
    again = [json.loads(line) for line in output.read_bytes().splitlines()]
    assert {record["mtime_ns"] for record in again} == {1}
    assert list(map(judgement, again)) == list(map(judgement, records))


def test_a_cut_archive_is_told_once_and_known_again(clipmod: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(make_tar(FILES[1:2])[: 512 + 75 * 512])
    output = tmp_path / "out.jsonl"
    words = ("scan", path, "-o", output, *HOW)
    assert clipmod(*words).code == 3
    before = output.read_bytes()
    ok, failed = (json.loads(line) for line in before.splitlines())
    assert (ok["member"], ok["status"]) == ("coffee.webp", "ok")
    assert (failed["member"], failed["error"]["code"], failed["final_decision"]) == (
        None,
        "archive_error",
        None,
    )
    assert clipmod(*words).code == 3
    assert output.read_bytes() == before


@pytest.mark.parametrize("data", [make_zip([("a.txt", TEXT)]), b"7z\xbc\xaf\x27\x1c" + bytes(99)])
def test_a_named_archive_without_pictures_has_its_record(
    data: bytes, clipmod: Command, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(data)
    run = clipmod("scan", tmp_path / "x", *HOW)
    assert run.code == 6
    assert [record["status"] for record in run.records] == ["error"]


def test_a_dry_run_looks_into_archives(clipmod: Command, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(make_zip(FILES))
    (tmp_path / "b.tar").write_bytes(make_tar(FILES[:1])[:2000])
    facts = json.loads(clipmod("scan", tmp_path, "--dry-run", "--json").stdout)
    assert facts["inputs"] == len(FILES) + 1
    assert facts["formats"]["WEBP"] == {"inputs": 1, "bytes": len(FILES[1][1])}
    assert facts["formats"]["cannot be read"] == {"inputs": 1, "bytes": 0}
