"""`clipmod eval` on drawn shapes: from a labelled folder to numbers, in one command or from records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import f1_score, roc_auc_score

from tests.end_to_end.command import SHAPES, TINY_ENSEMBLE, Command, Outcome, read_records
from tests.tiny import shapes

JUDGING = ("--policy", SHAPES, "--models", TINY_ENSEMBLE)
RED, OTHER = 6, 10


def draw(folder: Path) -> Path:
    """Draw red circles into NSFW, other shapes and a broken file into Safe."""
    for number in range(RED + OTHER):
        red = number < RED
        name = "red circle" if red else shapes.CLASSES[number % 4 + 4]
        path = folder / ("NSFW" if red else "Safe") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shapes.picture_of(name, seed=number).save(path)
    (folder / "Safe" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder


def numbers(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


def test_a_labelled_folder_is_scanned_and_evaluated_by_one_command(
    clipmod: Command, folder: Path, out: Path
) -> None:
    draw(folder)
    report = out.with_name("numbers.json")
    done = clipmod("eval", folder, "--labels", folder, *JUDGING, "--records", out, "--json", report)
    assert done.code == 3, done.stderr  # the broken file
    assert b"17 of 17 labels matched" in done.stdout
    assert b"recall" in done.stdout
    assert max(map(len, done.stdout.decode().splitlines())) <= 80
    found = json.loads(report.read_bytes())
    records = read_records(out.read_bytes())
    truth = ["/NSFW/" in one["source"] for one in records if one["status"] == "ok"]
    scores = [one["unsafe_score"] for one in records if one["status"] == "ok"]
    flagged = [one["final_decision"] == "NSFW" for one in records if one["status"] == "ok"]
    whole = found["quality"]["NSFW"]["ensemble"]
    assert (whole["n"], whole["positives"], whole["errors"]) == (17, 6, 1)
    assert whole["auroc"]["value"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    assert whole["f1"]["value"] == pytest.approx(f1_score(truth, flagged), abs=1e-6)
    assert whole["recall"]["value"] > 0.8
    assert found["confusion"]["Safe"]["error"] == 1
    assert set(found["quality"]["NSFW"]) == {"ensemble", "tiny-l", "tiny-h", "tiny-g"}
    assert found["cost"]["peak_memory_mb"] > 50
    assert found["cost"]["inputs_per_s"] > 0

    # the records give the same numbers
    again = clipmod("eval", out, "--labels", folder, "--policy", SHAPES, "--json", "-")
    assert again.code == 0, again.stderr
    same = numbers(again)
    for part in ("quality", "confusion", "labels", "misjudged"):
        assert same[part] == found[part]
    assert same["cost"]["wall_s"] is None


def test_without_records_kept_none_are_left(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    draw(folder)
    env = {"TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    done = clipmod.process("eval", folder, "--labels", folder, *JUDGING, "--json", "-", env=env)
    assert done.code == 3, done.stderr
    assert numbers(done)["labels"]["matched"] == 17
    assert list((tmp_path / "tmp").glob("clipmod*")) == []


def test_compact_records_are_measured_by_the_policy_of_their_run_card(
    clipmod: Command, folder: Path, out: Path
) -> None:
    draw(folder)
    for path in sorted((folder / "NSFW").iterdir()):
        path.rename(path.with_name(f"moved {path.name}"))
    (folder / "NSFW").rename(folder / "red circle")
    full = out.with_name("full.jsonl")
    for kind, output in (("compact", out), ("full", full)):
        scanned = clipmod("scan", folder, *JUDGING, "--no-db", "--record", kind, "-o", output)
        assert scanned.code == 3, scanned.stderr
    whole, short = (
        numbers(clipmod("eval", output, "--labels", folder, "--json", "-")) for output in (full, out)
    )
    assert short["policy"] == "shapes"
    assert short["threshold"] == whole["threshold"] == 0.5
    assert list(short["quality"]) == ["NSFW"]
    assert list(short["quality"]["NSFW"]) == ["ensemble"]
    assert list(whole["quality"]) == ["NSFW", "red_circle"]
    assert short["quality"]["NSFW"]["ensemble"] == whole["quality"]["NSFW"]["ensemble"]
    full.with_name("full.jsonl.run.json").unlink()
    alone = clipmod("eval", full, "--labels", folder)
    assert alone.code == 2
    assert "red circle (6)" in alone.stderr


def test_stored_evidence_is_evaluated_by_any_threshold(clipmod: Command, folder: Path, out: Path) -> None:
    draw(folder)
    evidence = out.with_name("EV")
    scanned = clipmod("scan", folder, *JUDGING, "--no-db", "-o", out, "--evidence", evidence)
    assert scanned.code == 3, scanned.stderr
    call = ("eval", evidence, "--labels", folder, "--policy", SHAPES, "--json", "-")
    plain = numbers(clipmod("eval", out, "--labels", folder, "--json", "-"))
    stored = clipmod(*call)
    assert stored.code == 3, stored.stderr
    assert numbers(stored)["quality"] == plain["quality"]
    strict = numbers(clipmod(*call, "--threshold", "0.999999"))
    assert strict["threshold"] == 0.999999
    assert strict["confusion"]["NSFW"]["NSFW"] < plain["confusion"]["NSFW"]["NSFW"]
    refused = clipmod(*call, "--models", TINY_ENSEMBLE)
    assert refused.code == 2
    assert "--models has no effect on evidence" in refused.stderr
