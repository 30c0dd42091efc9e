"""`clipmod apply undo`: bit for bit, or with the reason why not, and never over another file."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from clipmod_cli.review.applying.manifest import Manifest
from tests.applying.conftest import Apply, Judged
from tests.applying.trees import NAMES, files_in, judge, make_tree, snapshot
from tests.end_to_end.command import Command


def test_permissions_and_times_are_those_of_before(apply: Apply, undo: Apply, judged: Judged) -> None:
    apply()
    moved = judged.kept / "sub" / "b.jpg"
    moved.chmod(0o664)
    os.utime(moved)
    run = undo()
    assert (run.code, run.stdout) == (0, b"5 files given back\n")
    assert snapshot(judged.tree) == judged.before
    run = undo()
    assert (run.code, run.stdout) == (0, b"0 files given back\n")


def test_the_folder_of_the_manifest_may_be_moved(apply: Apply, clipmod: Command, judged: Judged) -> None:
    apply()
    away = judged.kept.rename(judged.kept.with_name("away"))
    assert clipmod("apply", "undo", away / "manifest.jsonl").code == 0
    assert snapshot(judged.tree) == judged.before


def test_what_cannot_be_given_back_is_named_one_by_one(apply: Apply, undo: Apply, judged: Judged) -> None:
    apply()
    judged.paths[0].write_bytes(b"a new upload")
    shutil.rmtree(judged.tree / "sub")
    (judged.kept / "line\nbreak.jpg").write_bytes(b"edited")
    (judged.kept / "c.mp4").unlink()
    run = undo()
    text = run.stdout.decode()
    assert run.code == 3
    assert "0 files given back" in text
    for name, why in {
        "a.jpg": "there is a file of its name again, which is not replaced",
        "sub/b.jpg": "is gone: make it, and undo again",
        "line\\nbreak.jpg": "it has changed since it was moved, and is left there",
        "c.mp4": "it is neither where it was nor where it was moved to",
    }.items():
        assert re.search(rf"{re.escape(why)}\n  {re.escape(str(judged.tree))}/{re.escape(name)}\n", text)
    assert judged.paths[0].read_bytes() == b"a new upload"
    assert (judged.kept / "line\nbreak.jpg").read_bytes() == b"edited"
    judged.paths[0].unlink()
    (judged.tree / "sub" / "deep").mkdir(parents=True)
    run = undo()
    assert run.code == 3
    assert "3 files given back" in run.stdout.decode()


def test_some_of_it(apply: Apply, undo: Apply, judged: Judged) -> None:
    apply()
    assert undo(judged.tree / "sub").stdout == b"2 files given back\n"
    assert files_in(judged.tree) == sorted(NAMES[1:3])
    assert undo(judged.kept / "c.mp4").stdout == b"1 file given back\n"
    run = undo(judged.tree / "nothing.jpg")
    assert (run.code, "nothing to undo" in run.stderr) == (2, True)
    assert json.loads(undo("--json", judged.paths[0]).stdout)["state"] == "undone"


def test_the_last_run_only(apply: Apply, undo: Apply, judged: Judged) -> None:
    apply()
    judge(judged.output, make_tree(judged.tree, ("new.jpg",)), judged.tree, run="second")
    apply()
    assert undo("--last").stdout == b"1 file given back\n"
    assert files_in(judged.tree) == ["new.jpg"]


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"notes\n",
        b'{"schema":"clipmod/1"}\n',
        b'{"schema":"clipmod-apply/1","number":1,"state":"lost"}\n',
    ],
)
def test_what_is_no_manifest(undo: Apply, judged: Judged, content: bytes | None) -> None:
    if content is not None:
        judged.kept.mkdir()
        judged.manifest.write_bytes(content)
    run = undo()
    assert run.code == 2
    assert "manifest" in run.stderr


@pytest.mark.parametrize("destination", ["../a.jpg", "/etc/passwd", "sub/../../a.jpg", ""])
def test_a_manifest_that_leads_out_of_its_folder_is_refused(
    apply: Apply, undo: Apply, judged: Judged, destination: str
) -> None:
    apply()
    lines = judged.manifest.read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | {"destination": destination})
    judged.manifest.write_text("\n".join(lines) + "\n")
    run = undo()
    assert run.code == 2
    assert "line 1 is not one of a manifest" in run.stderr


@pytest.mark.parametrize(
    "facts",
    [
        {"mode": "-1"},
        {"mode": "10644"},
        {"mtime_ns": 10**40},
        {"mtime_ns": float("inf")},
        {"sha256": "x/../../../../away"},
        {"sha256": None},
        {"source": None},
        {"at": "long ago"},
    ],
    ids=str,
)
def test_a_manifest_with_facts_that_no_file_has_is_refused(
    apply: Apply, undo: Apply, judged: Judged, facts: dict[str, object]
) -> None:
    """Its folder may come from another user, and what it says is done with the rights of the user."""
    apply()
    moved = snapshot(judged.kept)
    lines = judged.manifest.read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | facts)
    judged.manifest.write_text("\n".join(lines) + "\n")
    run = undo()
    assert run.code == 2
    assert "line 1 is not one of a manifest" in run.stderr
    assert files_in(judged.tree) == []
    assert {name: entry for name, entry in snapshot(judged.kept).items() if name in NAMES} == {
        name: entry for name, entry in moved.items() if name in NAMES
    }


def test_a_torn_last_line_is_mended(apply: Apply, undo: Apply, judged: Judged) -> None:
    apply()
    with judged.manifest.open("ab") as file:
        file.write(b'{"schema": "clipmod-apply/1", "num')
    assert undo().code == 0
    assert snapshot(judged.tree) == judged.before
    assert len(Manifest.read(judged.manifest).in_state("undone")) == len(NAMES)


def grow_old(manifest: Path, days: int) -> None:
    """Set back the times of a manifest."""
    text = re.sub(r'"at": "\d{4}-\d\d-\d\d', f'"at": "{_date_before(days)}', manifest.read_text())
    manifest.write_text(text)


def _date_before(days: int) -> str:
    from datetime import UTC, datetime, timedelta

    return (datetime.now(UTC) - timedelta(days=days)).date().isoformat()


def test_deleted_files_are_kept_for_a_month(clipmod: Command, judged: Judged) -> None:
    words = ("apply", judged.output, "--nsfw", "--delete")
    kept = judged.output.with_name(".out.jsonl.deleted")
    assert "Would delete, and keep in" in clipmod(*words).stdout.decode()
    assert clipmod(*words, "--yes").code == 0
    assert files_in(judged.tree) == []
    assert files_in(kept) == sorted(NAMES)
    assert clipmod("apply", "undo", kept).code == 0
    assert snapshot(judged.tree) == judged.before

    assert clipmod(*words, "--yes").code == 0
    grow_old(kept / "manifest.jsonl", 29)
    clipmod(*words, "--yes")
    assert files_in(kept) == sorted(NAMES)
    grow_old(kept / "manifest.jsonl", 31)
    (kept / "of-another.txt").write_text("not deleted by clipmod")
    assert "Would purge 5 files" in clipmod(*words).stdout.decode()
    assert len(files_in(kept)) == 6
    assert "5 files deleted more than 30 days ago purged" in clipmod(*words, "--yes").stdout.decode()
    assert files_in(kept) == ["of-another.txt"]
    run = clipmod("apply", "undo", kept)
    assert run.code == 3
    assert "Not given back: 5 files: it was deleted for good" in run.stdout.decode()


def test_the_month_begins_when_a_file_is_deleted_not_when_it_was_planned(
    clipmod: Command, judged: Judged
) -> None:
    """A killed run may be continued much later."""
    words = ("apply", judged.output, "--nsfw", "--delete", "--yes")
    kept = judged.output.with_name(".out.jsonl.deleted")
    clipmod(*words)
    clipmod("apply", "undo", kept)
    manifest = kept / "manifest.jsonl"
    planned = [line for line in manifest.read_bytes().splitlines(keepends=True) if b'"state"' not in line]
    manifest.write_bytes(b"".join(planned))
    grow_old(manifest, 31)
    clipmod(*words)
    assert files_in(kept) == sorted(NAMES)
    assert clipmod("apply", "undo", kept).code == 0
    assert snapshot(judged.tree) == judged.before


def test_another_file_in_the_place_of_a_deleted_one_is_not_purged(clipmod: Command, judged: Judged) -> None:
    words = ("apply", judged.output, "--nsfw", "--delete", "--yes")
    kept = judged.output.with_name(".out.jsonl.deleted")
    clipmod(*words)
    grow_old(kept / "manifest.jsonl", 31)
    (kept / NAMES[0]).write_bytes(b"put here by somebody")
    run = clipmod(*words)
    assert "4 files deleted more than 30 days ago purged" in run.stdout.decode()
    assert files_in(kept) == [NAMES[0]]


def test_records_in_the_scanned_folder(clipmod: Command, judged: Judged) -> None:
    """Its folder of deleted files has a hidden name, which a scan leaves out."""
    output = judged.tree / "out.jsonl"
    judge(output, judged.paths, judged.tree)
    assert clipmod("apply", output, "--nsfw", "--delete", "--yes").code == 0
    assert all(name.startswith((".out.jsonl.deleted/", "out.jsonl")) for name in files_in(judged.tree))
    assert clipmod("apply", "undo", judged.tree / ".out.jsonl.deleted").code == 0
    assert {name: snapshot(judged.tree)[name] for name in NAMES} == {
        name: judged.before[name] for name in NAMES
    }
