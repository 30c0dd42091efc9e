"""`--dry-run` as people run it: measured once, it estimates the run, and says what it cannot know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.end_to_end.command import SHAPE_OPTIONS, TINY_L, Command

SHORT = ("--pictures", "8", "--repeats", "1", "--size", "320x240", "-q")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve pictures of two shapes, and a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(12):
        Image.new("RGB", (64, 64) if index % 2 else (64, 48), (20 * index, 0, 0)).save(
            folder / f"{index}.png"
        )
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


def facts_of(clipmod: Command, *words: str | Path) -> dict[str, Any]:
    run = clipmod(*words, "--dry-run", *SHAPE_OPTIONS)
    assert run.code == 0, run.stderr
    facts: dict[str, Any] = json.loads(run.stdout)
    return facts


def test_it_estimates_what_is_left_to_do(clipmod: Command, pictures: Path, tmp_path: Path) -> None:
    before = facts_of(clipmod, "scan", pictures)
    assert before["estimate"] is None
    assert f"clipmod bench --models {TINY_L}" in before["no_estimate"]

    assert clipmod("bench", "--models", TINY_L, *SHORT).code == 0
    facts = facts_of(clipmod, "scan", pictures)
    one = facts["estimate"]
    assert (facts["to_judge"], facts["no_estimate"]) == (13, None)
    assert (one["sampled"], one["models"], one["device"]) == (13, [TINY_L], "cpu")
    assert one["views"] == 6 + 2 * 6
    assert 0 < one["low_seconds"] <= one["seconds"] <= one["high_seconds"]
    assert one["models_seconds"] > 0
    assert one["decoding_seconds"] > 0

    output = tmp_path / "out.parquet"  # from which the lines are made again
    clipmod("scan", pictures, "-o", output, "--limit", "9", *SHAPE_OPTIONS)
    kept = output.read_bytes()
    left = facts_of(clipmod, "scan", pictures, "-o", output)
    assert (left["inputs"], left["done"], left["to_judge"]) == (13, 9, 4)
    assert left["estimate"]["sampled"] == 4
    assert left["estimate"]["views"] < one["views"]
    assert output.read_bytes() == kept

    refused = clipmod("scan", pictures, "-o", output, "--dry-run", *SHAPE_OPTIONS, "--threshold", "0.9")
    assert refused.code == 2
    assert "threshold" in refused.stderr

    listed = tmp_path / "list.txt"
    listed.write_text("http://127.0.0.1:9/a.png\nhttp://127.0.0.1:9/b.png\n", encoding="utf-8")
    urls = facts_of(clipmod, "urls", listed)["estimate"]
    assert (urls["seconds"], urls["high_seconds"], urls["views"]) == (None, None, 2)
    assert "downloads nothing" in urls["notes"][0]
