"""`scan -o` with every ending that is not plain JSON Lines, as a user meets it."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import duckdb
import pytest
from PIL import Image

from tests.end_to_end.command import Command
from tests.end_to_end.killing import ALONE, make_pictures, started, wait_until


def sources_of(clipmod: Command, records: Path) -> list[str]:
    """Return the sources in an output, as an export of it has them."""
    lines = records.with_name("exported.jsonl")
    run = clipmod("export", records, "-o", lines, "--overwrite")
    assert run.code == 0, run.stderr
    return [json.loads(line)["source"] for line in lines.read_bytes().splitlines()]


def records_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.records.parquet") if output.suffix == ".csv" else output


@pytest.mark.parametrize("ending", ["jsonl.gz", "jsonl.zst", "parquet", "csv"])
def test_the_same_command_goes_on(clipmod: Command, folder: Path, tmp_path: Path, ending: str) -> None:
    paths = make_pictures(folder, 4)
    out = folder / f"out.{ending}"  # an output is no input, even where its content is an archive's
    words = ("scan", folder, "-o", out, *ALONE)
    assert clipmod(*words, "--limit", "2").code == 0
    Path(paths[1]).write_bytes(b"no picture")
    assert clipmod(*words).code == 3
    assert sources_of(clipmod, records_of(out)) == [paths[0], paths[1], *paths[2:]]
    Image.new("RGB", (64, 48)).save(paths[1])
    again = clipmod(*words)
    assert (again.code, again.stdout) == (0, b"")
    assert "3 done, 1 to retry" in again.stderr
    before = records_of(out).read_bytes()
    again = clipmod(*words)
    assert (again.code, "4 done, 0 to retry" in again.stderr) == (0, True)
    assert records_of(out).read_bytes() == before
    assert sorted(sources_of(clipmod, records_of(out))) == paths


def test_what_a_killed_run_has_judged_is_kept(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    paths = make_pictures(folder, 30)
    out = tmp_path / "out.parquet"
    part = tmp_path / "out.parquet.jsonl.part"
    words = ("scan", folder, "-o", out, *ALONE)
    with started(clipmod, *words) as process:
        wait_until(lambda: part.exists() and part.read_bytes().count(b"\n") > 3, process)
        process.kill()
    assert not out.exists()
    judged = part.read_bytes().count(b"\n")
    assert "a run has not finished" not in (listed := clipmod("list", part, "--safe")).stderr
    assert listed.code == 0
    refused = clipmod("apply", out, "--safe", "--move", tmp_path / "safe")
    assert (refused.code, f"has not ended; its records are in {part}" in refused.stderr) == (2, True)
    run = clipmod(*words)
    assert (run.code, f"resuming {out}: " in run.stderr) == (0, True)
    assert not part.exists()
    found = duckdb.read_parquet(str(out)).project("source, final_decision, policy").fetchall()
    assert [row[0] for row in found] == paths
    assert judged < len(paths)
    report = clipmod("report", out, "-o", tmp_path / "sheet.html")
    assert report.code == 0, report.stderr


def test_a_full_disk_at_the_end(
    clipmod: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_pictures(folder, 2)
    out = tmp_path / "out.parquet"
    words = ("scan", folder, "-o", out, *ALONE)

    def full(*_words: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("clipmod_cli.output.table_sink.convert_lines", full)
        run = clipmod(*words)
    assert (run.code, out.exists()) == (5, False)
    assert f"cannot write {out}: No space left on device. All records are in {out}.jsonl.part" in run.stderr
    run = clipmod(*words)
    assert (run.code, "2 done, 0 to retry" in run.stderr) == (0, True)
    assert sources_of(clipmod, out) == paths
