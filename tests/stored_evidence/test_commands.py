"""`scan --evidence` and `rescore`, as a user runs them."""

from __future__ import annotations

import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.evidence import folder
from tests.end_to_end.command import SHAPE_OPTIONS, SHAPES, TINY, Command, read_records

RUN_FIELDS = ("run_id", "total_time_ms", "decode_time_ms", "inference_time_ms")


def _facts(path: Path) -> dict[str, Any]:
    """Return the records of an output by source, without the times of the run."""
    found = {}
    for record in read_records(path.read_bytes()):
        kept = {name: value for name, value in record.items() if name not in RUN_FIELDS}
        for prediction in (kept["per_model_predictions"] or {}).values():
            prediction.pop("inference_time_ms")
        found[record["source"]] = kept
    return found


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    shutil.copytree(TINY / "pictures", folder)
    (folder / "broken.jpg").write_bytes((folder / "red-circle.jpg").read_bytes()[:200])
    return folder


@pytest.fixture
def stored(clipmod: Command, pictures: Path, tmp_path: Path) -> Path:
    """The evidence of the pictures; their records are in `out.jsonl` beside it."""
    run = clipmod(
        "scan", pictures, *SHAPE_OPTIONS, "-o", tmp_path / "out.jsonl", "--evidence", tmp_path / "EV"
    )
    assert run.code == 3, run.stderr
    return tmp_path / "EV"


def test_rescored_records_are_those_of_the_scan(clipmod: Command, stored: Path, tmp_path: Path) -> None:
    run = clipmod("rescore", stored, "--policy", SHAPES, "-o", tmp_path / "new.jsonl")
    assert run.code == 3, run.stderr
    assert _facts(tmp_path / "new.jsonl") == _facts(tmp_path / "out.jsonl")


def test_a_scan_goes_on_with_rescored_records(
    clipmod: Command, stored: Path, pictures: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.jsonl"
    assert clipmod("rescore", stored, "--policy", SHAPES, "--threshold", "0.9", "-o", new).code == 3
    run = clipmod("scan", pictures, *SHAPE_OPTIONS, "--threshold", "0.9", "-o", new)
    assert "11 done, 0 to retry" in run.stderr
    assert len(read_records(new.read_bytes())) == 11


def test_another_threshold_is_compared_with_the_records(
    clipmod: Command, stored: Path, tmp_path: Path
) -> None:
    old = tmp_path / "out.jsonl"
    run = clipmod("rescore", stored, "--policy", SHAPES, "--threshold", "1", "--against", old, "--show", "2")
    assert run.code == 3, run.stderr
    found = json.loads(run.stdout)
    hits = sum(record["final_decision"] == "NSFW" for record in _facts(old).values())
    assert sum(count for before, _, count in found["counts"] if before.startswith("NSFW")) == hits > 0
    assert len(found["changes"]) == 2
    assert found["only_before"] == found["only_after"] == 0


def test_inputs_whose_evidence_was_lost_are_judged_again(
    clipmod: Command, stored: Path, pictures: Path, tmp_path: Path
) -> None:
    for path in stored.glob("part-*"):  # as if the run had been killed before it sealed them
        path.unlink()
    out = tmp_path / "out.jsonl"
    run = clipmod("scan", pictures, *SHAPE_OPTIONS, "-o", out, "--evidence", stored)
    assert "0 done, 11 to retry" in run.stderr
    assert clipmod("rescore", stored, "--policy", SHAPES, "-o", tmp_path / "new.jsonl").code == 3
    assert len(read_records(out.read_bytes())) == 11
    assert _facts(tmp_path / "new.jsonl").keys() == _facts(out).keys()


def test_newer_evidence_replaces_that_of_a_file_that_changed(
    clipmod: Command, stored: Path, pictures: Path, tmp_path: Path
) -> None:
    shutil.copyfile(pictures / "red-circle.jpg", pictures / "broken.jpg")
    (pictures / "nothing.png").unlink()
    out, new = tmp_path / "out.jsonl", tmp_path / "new.jsonl"
    assert clipmod("scan", pictures, *SHAPE_OPTIONS, "-o", out, "--evidence", stored).code == 0
    assert clipmod("rescore", stored, "--policy", SHAPES, "-o", new).code == 0
    records = read_records(new.read_bytes())
    assert len(records) == len({record["source"] for record in records}) == 11
    assert _facts(new)[str(pictures / "broken.jpg")]["final_decision"] == "NSFW"


def test_evidence_of_another_output_is_left_alone(
    clipmod: Command, stored: Path, pictures: Path, tmp_path: Path
) -> None:
    before = sorted((path.name, path.stat().st_size) for path in stored.iterdir())
    other = clipmod("scan", pictures, *SHAPE_OPTIONS, "-o", tmp_path / "b.jsonl", "--evidence", stored)
    assert other.code == 2
    assert "holds the evidence of another output" in other.stderr
    models = clipmod(
        "scan", pictures, "--models", "nudenet", "-o", tmp_path / "c.jsonl", "--evidence", stored
    )
    assert models.code == 2
    assert "holds evidence of models" in models.stderr
    assert sorted((path.name, path.stat().st_size) for path in stored.iterdir()) == before
    again = clipmod(
        "scan", pictures, *SHAPE_OPTIONS, "-o", tmp_path / "b.jsonl", "--evidence", stored, "--overwrite"
    )
    assert again.code == 3, again.stderr


@pytest.mark.parametrize("flags", [["--early-exit", "exact"], ["--stop-on-hit"]])
def test_evidence_that_would_be_incomplete_is_refused(
    clipmod: Command, pictures: Path, tmp_path: Path, flags: list[str]
) -> None:
    run = clipmod("scan", pictures, *SHAPE_OPTIONS, "--evidence", tmp_path / "EV", *flags)
    assert run.code == 2
    assert "incomplete" in run.stderr


def test_a_damaged_folder_is_told(clipmod: Command, stored: Path, tmp_path: Path) -> None:
    missing = clipmod("rescore", tmp_path / "nowhere", "--policy", SHAPES)
    assert missing.code == 2
    assert "holds no evidence" in missing.stderr
    next(stored.glob("part-*.safetensors")).unlink()
    torn = clipmod("rescore", stored, "--policy", SHAPES, "-o", tmp_path / "new.jsonl")
    assert torn.code == 2
    assert "missing or damaged" in torn.stderr
    (stored / "evidence.json").write_text("{}")
    assert clipmod("rescore", stored, "--policy", SHAPES).code == 2


def test_a_policy_that_a_model_cannot_see_is_refused(
    clipmod: Command, pictures: Path, tmp_path: Path
) -> None:
    nude = ("--policy", "nsfw", "--models", "nudenet")
    assert clipmod("scan", pictures / "nothing.png", *nude, "--evidence", tmp_path / "EV").code == 0
    run = clipmod("rescore", tmp_path / "EV", "--policy", "general")
    assert run.code == 2
    assert "cannot see" in run.stderr
    (record,) = clipmod("rescore", tmp_path / "EV", "--policy", "nsfw").records
    assert record["models_used"] == ["nudenet"]


@pytest.mark.parametrize("how", ["--source", "--sha256", "--before"])
def test_erased_inputs_leave_no_evidence(clipmod: Command, stored: Path, tmp_path: Path, how: str) -> None:
    records = _facts(tmp_path / "out.jsonl")
    source = next(name for name in records if name.endswith("red-circle.jpg"))
    what = {"--source": source, "--sha256": records[source]["sha256"], "--before": "2999-01-01"}[how]
    run = clipmod("stats", "forget", how, what, "--evidence", stored, "--yes")
    assert run.code == 0, run.stderr
    left = {} if how == "--before" else {name: one for name, one in records.items() if name != source}
    assert f"evidence of {len(records) - len(left)} inputs" in run.stderr
    assert clipmod("rescore", stored, "--policy", SHAPES, "-o", tmp_path / "new.jsonl").code in (0, 3)
    assert _facts(tmp_path / "new.jsonl") == left
    assert not any(source.encode() in path.read_bytes() for path in stored.glob("part-*"))


def test_policies_are_compared_on_stored_evidence(clipmod: Command, stored: Path, tmp_path: Path) -> None:
    strict = tmp_path / "strict.toml"
    text, replaced = re.subn(r"(?m)^(low|medium|high|ultra) = .*", r"\1 = 0.01", SHAPES.read_text())
    assert replaced == 4
    strict.write_text(text)
    run = clipmod("policies", "diff", SHAPES, strict, "--evidence", stored, "--show", "2")
    assert run.code == 0, run.stderr
    found = json.loads(run.stdout)
    told = clipmod("rescore", stored, "--policy", strict, "--against", tmp_path / "out.jsonl", "--show", "2")
    by_records = json.loads(told.stdout)
    assert sorted(found["counts"]) == sorted(by_records["counts"]) != []
    assert found["same"] == by_records["same"]
    assert {change["after"] for change in found["changes"]} <= {"NSFW (review)", "NSFW", "Safe (review)"}
    assert clipmod("policies", "diff", SHAPES, "nsfw", "--evidence", tmp_path / "none").code == 2


def test_evidence_that_cannot_be_written_costs_no_record(
    clipmod: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, failed, stored = tmp_path / "out.jsonl", tmp_path / "failed.txt", tmp_path / "EV"
    words = ("scan", pictures, *SHAPE_OPTIONS, "-o", out, "--errors-to", failed, "--evidence", stored)
    with monkeypatch.context() as full:
        full.setattr(folder, "_write_rows", _no_space)
        run = clipmod(*words)
    assert run.code == 5
    assert "cannot write evidence" in run.stderr
    assert len(read_records(out.read_bytes())) == 11
    assert failed.read_text() == f"{pictures / 'broken.jpg'}\n"
    again = clipmod(*words)
    assert "0 done, 11 to retry" in again.stderr
    assert clipmod("rescore", stored, "--policy", SHAPES, "-o", tmp_path / "new.jsonl").code == 3
    assert _facts(tmp_path / "new.jsonl").keys() == _facts(out).keys()


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
