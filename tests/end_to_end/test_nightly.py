"""The same scan each night: what is new, known or gone, under whatever name its folder was given."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pillow_heif
import pytest

from clipmod_cli.decode import formats
from tests.end_to_end.command import SAMPLES, SHAPE_OPTIONS, Command, Outcome
from tests.end_to_end.killing import NUDENET, make_pictures, names_in, records_in, sources
from tests.tiny.shapes import draw_clear

SHAPES = (*SHAPE_OPTIONS, "--no-isolate", "--no-db")
Scan = Callable[..., Outcome]


def draw(folder: Path, *names: str) -> list[str]:
    """Draw `red-N.png` (NSFW under the policy of shapes) and `blue-N.png`; return the paths."""
    for number, name in enumerate(names):
        colour = name.partition("-")[0]
        draw_clear(colour, "circle" if colour == "red" else "square", (96 + number, 96)).save(folder / name)
    return [str(folder / name) for name in names]


@pytest.fixture
def night(clipmod: Command, folder: Path, out: Path) -> Scan:
    """The nightly command; further words are added."""
    draw(folder, "blue-1.png", "blue-2.png", "blue-3.png", "blue-4.png", "red-1.png", "red-2.png")

    def scan(*words: str | Path, source: str | Path = folder) -> Outcome:
        return clipmod("scan", source, "-o", out, *SHAPES, "--fail-on", "new-nsfw", *words)

    return scan


def card_of(out: Path) -> dict[str, Any]:
    return dict(json.loads(out.with_name(f"{out.name}.run.json").read_bytes()))


def counts(out: Path) -> tuple[int, ...]:
    """Return what the last run counted: inputs, nsfw, new, new_nsfw, gone, written."""
    found = card_of(out)["runs"][-1]["counts"]
    return tuple(found[name] for name in ("inputs", "nsfw", "new", "new_nsfw", "gone", "written"))


def listed(clipmod: Command, out: Path, *words: str) -> list[str]:
    """Return the names that `clipmod list` prints."""
    run = clipmod("list", out, *words)
    assert run.code == 0, run.stderr
    return [Path(os.fsdecode(line)).name for line in run.stdout.splitlines()]


def test_a_month_of_nights(clipmod: Command, night: Scan, folder: Path, out: Path) -> None:
    assert night().code == 1
    assert counts(out) == (6, 2, 6, 2, 0, 6)
    assert night().code == 0
    assert counts(out) == (6, 2, 0, 0, 0, 0)

    (folder / "red-1.png").unlink()
    run = night()
    assert (run.code, counts(out)) == (0, (5, 1, 0, 0, 1, 0))
    assert "gone" in run.stderr
    assert len(records_in(out)) == 6, "its line stays"
    assert listed(clipmod, out, "--nsfw") == ["red-2.png"]

    draw(folder, "red-3.png")
    assert night().code == 1
    assert counts(out) == (6, 2, 1, 1, 1, 1)
    assert listed(clipmod, out, "--nsfw", "--new") == ["red-3.png"]
    assert listed(clipmod, out, "--nsfw") == ["red-2.png", "red-3.png"]

    before = records_in(out)
    away = folder.rename(folder.with_name("away"))
    run = night()
    assert (run.code, counts(out)[4]) == (6, 7), "the folder that was named is missing"
    folder.mkdir()
    run = night("--prune")
    assert (run.code, counts(out)) == (0, (0, 0, 0, 0, 7, 0))
    assert "mounted" in run.stderr
    assert records_in(out) == before
    folder.rmdir()
    away.rename(folder)
    assert night().code == 0
    assert counts(out) == (6, 2, 0, 0, 1, 0)
    assert records_in(out) == before
    assert listed(clipmod, out, "--nsfw", "--new") == []


def test_a_gone_file_no_longer_fails_the_job(clipmod: Command, night: Scan, folder: Path, out: Path) -> None:
    words = ("--fail-on", "nsfw")
    assert night(*words).code == 1
    for name in ("red-1.png", "red-2.png"):
        (folder / name).unlink()
    assert night(*words).code == 0
    (folder / "red-1.png").write_bytes(b"no picture")
    assert night(*words).code == 3


def test_a_file_that_was_only_touched_is_known(night: Scan, folder: Path, out: Path) -> None:
    night()
    os.utime(folder / "red-1.png", ns=(0, 1))
    assert night().code == 0
    assert counts(out) == (6, 2, 0, 0, 0, 1)
    draw(folder, "red-1.png")
    draw_clear("red", "circle", (150, 96)).save(folder / "red-1.png")
    assert night().code == 1, "other bytes are new"


def test_what_a_killed_run_found_is_new_to_the_next(clipmod: Command, night: Scan, out: Path) -> None:
    night()
    card = out.with_name(f"{out.name}.run.json")
    fields = card_of(out)
    fields["runs"][-1] |= {"exit_code": None, "ended_at": None, "counts": None}
    card.write_text(json.dumps(fields))
    assert night().code == 1
    assert counts(out) == (6, 2, 6, 2, 0, 0)
    assert listed(clipmod, out, "--nsfw", "--new") == ["red-1.png", "red-2.png"]
    assert night().code == 0
    assert listed(clipmod, out, "--nsfw", "--new") == []


def test_prune_drops_what_is_gone_and_keeps_it_elsewhere(night: Scan, folder: Path, out: Path) -> None:
    night()
    lines = out.read_bytes().splitlines(keepends=True)
    (folder / "red-1.png").unlink()
    run = night("--prune")
    assert run.code == 0
    gone = out.with_name(f"{out.name}.gone.jsonl")
    assert gone.read_bytes() == lines[4]
    assert out.read_bytes() == b"".join(lines[:4] + lines[5:])
    (folder / "blue-1.png").unlink()
    (folder / "blue-2.png").unlink()
    before = out.read_bytes()
    refused = night("--prune")
    assert refused.code == 2
    assert "drop 2 of the 5 records" in refused.stderr
    assert "--prune=all" in refused.stderr
    assert out.read_bytes() == before
    assert night("--prune=all").code == 0
    assert out.read_bytes() == b"".join([lines[2], lines[3], lines[5]])
    assert gone.read_bytes() == lines[4] + lines[0] + lines[1]
    assert night().code == 0
    assert counts(out) == (3, 1, 0, 0, 0, 0)


def test_prune_leaves_other_folders_alone(clipmod: Command, night: Scan, folder: Path, out: Path) -> None:
    other = folder.with_name("other")
    other.mkdir()
    draw(other, "blue-9.png", "red-9.png")
    assert night(other).code == 1
    (other / "red-9.png").unlink()
    before = out.read_bytes()
    night("--prune")
    assert counts(out)[4] == 0, "it is not under a folder that this run names"
    assert out.read_bytes() == before
    shutil.rmtree(other)
    night("--prune", other)
    other.mkdir()
    night("--prune", other)
    assert [r["source"] for r in records_in(out)] == sources(list(map(json.loads, before.splitlines())))


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/.", "./pictures", "pictures", "link", "up/pictures"])
def test_a_folder_is_the_same_by_any_name(
    night: Scan, folder: Path, out: Path, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("link").symlink_to("pictures")
    Path("up").symlink_to(".")
    assert night().code == 1
    assert night(source=spelling.format(folder)).code == 0
    assert counts(out) == (6, 2, 0, 0, 0, 0)


def test_a_relative_name_is_one_of_its_working_directory(
    night: Scan, clipmod: Command, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    night(source="pictures")
    monkeypatch.chdir(folder)
    assert night(source=".").code == 0
    assert counts(out) == (6, 2, 0, 0, 0, 0)
    assert clipmod("list", out, "--nsfw").stdout == f"{folder}/red-1.png\n{folder}/red-2.png\n".encode()
    twin = folder / "pictures"
    twin.mkdir()
    draw(twin, "red-1.png")
    assert night(source="pictures").code == 1, "another folder of the same name"
    assert counts(out) == (7, 3, 1, 1, 0, 1)


def test_a_folder_within_a_folder_is_counted_once(night: Scan, folder: Path, out: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    draw(inner, "red-5.png")
    night()
    assert night(source=inner).code == 0
    assert night().code == 0
    assert counts(out) == (7, 3, 0, 0, 0, 0)


def test_a_failed_input_of_another_folder_keeps_its_record(clipmod: Command, folder: Path, out: Path) -> None:
    """A run that does not name it cannot judge it again."""
    make_pictures(folder, 1)
    missing = folder.with_name("missing.png")
    words = ("-o", out, *NUDENET, "--no-isolate")
    assert clipmod("scan", folder, missing, *words).code == 3
    record = records_in(out)[1]
    record["error"] |= {"code": "read_error", "retryable": True}
    first = out.read_bytes().splitlines(keepends=True)[0]
    out.write_bytes(first + json.dumps(record, separators=(",", ":")).encode() + b"\n")
    assert clipmod("scan", folder, *words).code == 3
    assert len(records_in(out)) == 2
    assert clipmod("scan", missing, *words).code == 3
    assert records_in(out)[1]["error"]["code"] == "not_found"
    assert clipmod("scan", folder, *words).code == 0, (
        "the name of a file that is not there is not kept for ever"
    )


def test_a_run_that_does_not_come_to_an_input_leaves_its_record(
    clipmod: Command, folder: Path, out: Path
) -> None:
    paths = make_pictures(folder, 3)
    words = ("-o", out, *NUDENET, "--no-isolate")
    assert clipmod("scan", folder, *words).code == 0
    for path in paths:
        shutil.copyfile(SAMPLES / "cat.png", path)
    run = clipmod("scan", folder, *words, "--limit", "1")
    assert run.code == 0
    assert sorted(sources(records_in(out))) == sorted(paths)
    assert "2 records to judge again stay as they were" in run.stderr
    run = clipmod("scan", folder, *words, "--exclude", Path(paths[2]).name)
    assert sorted(sources(records_in(out))) == sorted(paths)
    assert len({record["run_id"] for record in records_in(out)}) == 3
    assert clipmod("scan", folder, *words).code == 0
    assert len({record["sha256"] for record in records_in(out)}) == 1


def test_an_extra_that_came_cures_what_it_can_read(
    clipmod: Command, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow_heif.from_pillow(draw_clear("blue", "square")).save(folder / "photo.heic")
    (folder / "broken.png").write_bytes((SAMPLES / "cat.png").read_bytes()[:40])
    words = ("scan", folder, "-o", out, *NUDENET, "--no-isolate")
    with monkeypatch.context() as patch:
        for name in {"pillow_heif", *(n for n in sys.modules if n.startswith("pillow_heif."))}:
            patch.setitem(sys.modules, name, None)
        formats.load.cache_clear()
        for _ in range(2):
            assert clipmod(*words).code == 6
            broken, photo = records_in(out)
            assert (photo["error"]["code"], broken["error"]["code"]) == ("unsupported_format", "decode_error")
    formats.load.cache_clear()
    first = broken["run_id"]
    assert photo["run_id"] == first, "nothing is tried again while nothing changed"
    run = clipmod(*words)
    assert run.code == 3
    broken, photo = records_in(out)
    assert (photo["status"], broken["run_id"]) == ("ok", first), "only what the decoder may cure"
    assert clipmod(*words, "--retry", "archive_error").code == 3
    assert records_in(out)[0]["run_id"] == first
    for wish in ("decode_error", "errors"):
        before = records_in(out)[-1]["run_id"] if wish == "errors" else first
        assert clipmod(*words, "--retry", wish).code == 3
        (again,) = (r for r in records_in(out) if r["status"] == "error")
        assert again["run_id"] not in {first, before}
        assert again["known"]


def test_the_run_card_says_how_to_repeat_the_run(clipmod: Command, folder: Path, out: Path) -> None:
    make_pictures(folder, 1)
    words = ("scan", folder, "-o", out, "--models", "open_nsfw", "--policy", "nsfw", "--threshold", "0.6")
    assert clipmod(*words).code == 0
    card = card_of(out)
    (record,) = records_in(out)
    assert card["run_key"] == record["run_key"]
    assert card["policy"]["hash"] == record["policy_hash"]
    assert card["policy"]["threshold"] == 0.6
    assert 'name = "nsfw"' in card["policy"]["text"]
    assert [m["spec"] for m in card["models"]["members"]] == ["open_nsfw"]
    assert card["models"]["members"][0]["revision"]
    assert {"onnxruntime", "pillow"} <= set(card["libraries"])
    (run,) = card["runs"]
    assert (run["run_id"], run["exit_code"]) == (record["run_id"], 0)
    assert run["started_at"] <= run["ended_at"]
    assert run["counts"]["new"] == 1
    refused = clipmod(*words[:-1], "0.7")
    assert refused.code == 2
    assert "threshold 0.6, now 0.7" in refused.stderr


def test_auto_takes_the_models_of_the_run_card(clipmod: Command, folder: Path, out: Path) -> None:
    make_pictures(folder, 2)
    words = ("scan", folder, "-o", out, "--policy", "nsfw")
    assert clipmod(*words, "--models", "open_nsfw", "--limit", "1").code == 0
    run = clipmod(*words)
    assert run.code == 0, run.stderr
    assert [r["models_used"] for r in records_in(out)] == [["open_nsfw"]] * 2
    before = out.read_bytes()
    card = out.with_name(f"{out.name}.run.json")
    card.write_text(card.read_text().replace('"spec": "open_nsfw"', '"spec": "hf:nobody/nothing"'))
    run = clipmod(*words)
    assert run.code == 2
    assert "hf:nobody/nothing" in run.stderr
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"my own notes", b"{}", b'{"schema": "clipmod-run/1", "runs": 5}', b"\xff"]
)
def test_another_file_in_the_place_of_the_run_card_is_left_alone(
    clipmod: Command, folder: Path, out: Path, content: bytes
) -> None:
    make_pictures(folder, 1)
    card = out.with_name(f"{out.name}.run.json")
    card.write_bytes(content)
    run = clipmod("scan", folder, "-o", out, *NUDENET)
    assert (run.code, card.read_bytes()) == (2, content)
    assert str(card) in run.stderr
    assert names_in(out.parent) == [card.name]
    run = clipmod("scan", folder, card, "-o", out, *NUDENET)
    assert (run.code, card.read_bytes()) == (2, content)


def test_without_its_run_card_an_output_says_what_it_takes_names_for(
    night: Scan, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert "run card" not in night(source=folder.name).stderr
    out.with_name(f"{out.name}.run.json").unlink()
    run = night(source=folder.name)
    assert (run.code, counts(out)) == (0, (6, 2, 0, 0, 0, 0))
    assert "has no run card" in run.stderr
