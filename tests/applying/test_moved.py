"""What `apply` moved is told as moved, not as gone: by the next scan, and by all that reads records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.output.resuming.moved import MovedFiles, moved_path, name_manifest
from tests.applying.conftest import Apply, Judged
from tests.end_to_end.command import SHAPE_OPTIONS, Command, Outcome
from tests.end_to_end.killing import records_in
from tests.tiny.shapes import draw_clear

SHAPES = (*SHAPE_OPTIONS, "--no-isolate", "--no-db")
Night = Callable[..., Outcome]


def draw(path: Path, colour: str, size: int = 96) -> None:
    draw_clear(colour, "circle" if colour == "red" else "square", (size, 96)).save(path)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two red circles, which are NSFW, and a blue square."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, colour in enumerate(["blue", "red", "red"]):
        draw(folder / f"{number}-{colour}.png", colour, 96 + number)
    return folder


@pytest.fixture
def night(clipmod: Command, pictures: Path, out: Path) -> Night:
    """The nightly scan; what follows is the test's."""

    def scan(*words: str) -> Outcome:
        return clipmod("scan", pictures, "-o", out, *SHAPES, "--fail-on", "nsfw", *words)

    return scan


def counts(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{out}.run.json").read_bytes())["runs"][-1]["counts"]
    return {name: found[name] for name in ("inputs", "nsfw", "new", "gone", "moved", "written")}


def test_nights_with_apply(clipmod: Command, night: Night, pictures: Path, out: Path, tmp_path: Path) -> None:
    assert night().code == 1
    kept = tmp_path / "kept"
    assert clipmod("apply", out, "--nsfw", "--move", kept, "--yes").code == 0
    before = records_in(out)
    run = night()
    assert run.code == 0, "nothing NSFW is left"
    assert counts(out) == {"inputs": 1, "nsfw": 0, "new": 0, "gone": 0, "moved": 2, "written": 0}
    assert "moved" in run.stderr
    assert "gone" not in run.stderr
    assert records_in(out) == before
    listed = clipmod("list", out, "--nsfw")
    assert (listed.stdout, "2 left out, since `clipmod apply` moved the file" in listed.stderr) == (b"", True)
    assert len(clipmod("list", out, "--nsfw", "--gone").stdout.splitlines()) == 2
    stats = json.loads(clipmod("stats", out, "--json").stdout)
    assert (stats["last_runs"][0]["moved"], stats["last_runs"][0]["gone"]) == (2, 0)
    assert "2 moved by `clipmod apply`" in clipmod("stats", out).stdout.decode()
    sheet = tmp_path / "sheet.html"
    reported = clipmod("report", out, "-o", sheet)
    assert "gone" not in reported.stderr
    assert f"moved to {kept}/1-red.png" in sheet.read_text()

    assert night("--prune=all").code == 0
    assert records_in(out) == before, "what was moved is not pruned"
    draw(pictures / "1-red.png", "red", 150)
    assert night().code == 1, "a new upload of the same name"
    assert counts(out) == {"inputs": 2, "nsfw": 1, "new": 1, "gone": 0, "moved": 1, "written": 1}
    (pictures / "1-red.png").unlink()
    assert night().code == 0
    assert counts(out)["gone"] == 1, "the new one was not moved"

    assert clipmod("apply", "undo", kept).code == 0
    assert night().code == 1
    assert counts(out) == {"inputs": 3, "nsfw": 2, "new": 1, "gone": 0, "moved": 0, "written": 1}


def test_a_moved_file_that_was_given_back_and_removed_is_gone(
    clipmod: Command, night: Night, pictures: Path, out: Path
) -> None:
    night()
    assert clipmod("apply", out, "--nsfw", "--delete", "--yes").code == 0
    assert clipmod("apply", "undo", out.with_name(".out.jsonl.deleted")).code == 0
    (pictures / "1-red.png").unlink()
    night()
    assert (counts(out)["gone"], counts(out)["moved"]) == (1, 0)


def test_all_inputs_moved(clipmod: Command, night: Night, out: Path, tmp_path: Path) -> None:
    night()
    clipmod("apply", out, "--nsfw", "--safe", "--move", tmp_path / "kept", "--yes")
    run = night()
    assert (run.code, "moved: 3" in run.stderr) == (0, True)


def test_copies_are_not_moved(clipmod: Command, judged: Judged) -> None:
    clipmod("apply", judged.output, "--nsfw", "--copy", judged.kept, "--yes")
    assert not moved_path(judged.output).exists()


def test_a_manifest_that_is_gone_or_damaged_tells_nothing(
    apply: Apply, judged: Judged, caplog: pytest.LogCaptureFixture
) -> None:
    apply()
    line = json.loads(judged.manifest.read_bytes().splitlines()[0])
    assert MovedFiles.beside(judged.output).find(line["source"], line["sha256"]) == str(judged.kept / "a.jpg")
    assert MovedFiles.beside(judged.output).find(line["source"], "0" * 64) is None
    assert MovedFiles.beside(judged.output).find(line["source"], None) is None
    assert MovedFiles.beside(judged.output).find("/half a pair \ud800", "0" * 64) is None
    judged.manifest.write_bytes(b"damaged\n")
    assert MovedFiles.beside(judged.output).find(line["source"], line["sha256"]) is None
    assert "counted as gone" in caplog.text
    shutil.rmtree(judged.kept)
    assert MovedFiles.beside(judged.output).find(line["source"], line["sha256"]) is None


def test_the_list_of_manifests(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    for name in ("one", "two\udcff", "one"):
        name_manifest(output, tmp_path / name)
    with moved_path(output).open("ab") as file:
        file.write(b'{"torn')
    name_manifest(output, tmp_path / "three")
    lines = moved_path(output).read_bytes().splitlines()
    assert len(lines) == 4
    name_manifest(output, tmp_path / "three")
    assert len(moved_path(output).read_bytes().splitlines()) == 4
