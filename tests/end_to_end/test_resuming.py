"""What a scan does with an output that is there already."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.command import TINY_L, Command, by_name
from tests.end_to_end.killing import NUDENET, kept, make_pictures, names_in, records_in, sources


def test_the_same_command_goes_on(clipmod: Command, folder: Path, out: Path) -> None:
    paths = make_pictures(folder, 4)
    words = ("scan", folder, "-o", out, *NUDENET)
    assert clipmod(*words, "--limit", "2").code == 0
    first = out.read_bytes()
    run = clipmod(*words)
    assert (run.code, run.stdout) == (0, b"")
    assert out.read_bytes().startswith(first)
    assert [(r["index"], r["source"]) for r in records_in(out)] == list(enumerate(paths))
    whole = out.read_bytes()
    assert clipmod(*words).code == 0
    assert out.read_bytes() == whole
    assert names_in(out.parent) == kept(out)


@pytest.mark.parametrize("left", [1, 20, 100, -1])
def test_a_torn_last_line_is_judged_again(clipmod: Command, folder: Path, out: Path, left: int) -> None:
    paths = make_pictures(folder, 2)
    words = ("scan", folder, "-o", out, *NUDENET)
    clipmod(*words)
    first, second = out.read_bytes().splitlines(keepends=True)
    for torn in (first[:left], first + second[:left]):
        out.write_bytes(torn)
        assert clipmod(*words).code == 0
        assert sources(records_in(out)) == paths
        assert out.read_bytes().startswith(first) == torn.startswith(first)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"my only copy", ()),
        (b"my only copy", ("--resume=verify",)),
        (b"my only copy", ("--no-resume",)),
        (b"my only copy\n", ()),
        (b"{}\n", ()),
        (b"[1]\n", ()),
        (b"\n", ()),
        (b'{"schema":"clipmod/1"}\n', ()),
        (b'{"schema":"clipmod/2","source":"a.png"}\n', ()),
        (bytes(100), ()),
        (b"\x89PNG\r\n\x1a\n", ()),
    ],
)
def test_a_file_of_another_program_is_left_alone(
    clipmod: Command, folder: Path, out: Path, content: bytes, words: tuple[str, ...]
) -> None:
    make_pictures(folder, 1)
    out.write_bytes(content)
    errors = out.with_name("errors.txt")
    run = clipmod("scan", folder, "-o", out, "--errors-to", errors, *NUDENET, *words)
    assert (run.code, run.stdout) == (2, b"")
    assert str(out) in run.stderr
    assert "--overwrite" in run.stderr
    assert out.read_bytes() == content
    assert names_in(out.parent) == [out.name]


@pytest.mark.parametrize(
    "words",
    [
        ("--models", "nudenet", "--policy", "female-presence"),
        (*NUDENET, "--threshold", "0.9"),
        (*NUDENET, "--sensitivity", "ultra"),
        (*NUDENET, "--decode", "exact"),
        ("--models", TINY_L, "--policy", "nsfw"),
        (*NUDENET, "--no-resume"),
    ],
)
def test_what_does_not_go_on_is_refused(
    clipmod: Command, folder: Path, out: Path, words: tuple[str, ...]
) -> None:
    make_pictures(folder, 1)
    assert clipmod("scan", folder, "-o", out, *NUDENET).code == 0
    before = out.read_bytes()
    run = clipmod("scan", folder, "-o", out, *words)
    assert (run.code, run.stdout) == (2, b"")
    assert "--overwrite" in run.stderr
    assert out.read_bytes() == before


def test_overwrite_begins_anew(clipmod: Command, folder: Path, out: Path) -> None:
    paths = make_pictures(folder, 2)
    out.write_bytes(b"not ours\n" * 1000)
    assert clipmod("scan", folder, "-o", out, "--overwrite", *NUDENET).code == 0
    assert sources(records_in(out)) == paths


def test_nothing_is_overwritten_before_the_models_are_there(clipmod: Command, out: Path) -> None:
    out.write_bytes(b"precious\n")
    run = clipmod("scan", "x.png", "-o", out, "--overwrite", "--models", "ensemble", "--offline")
    assert run.code == 4
    assert out.read_bytes() == b"precious\n"


def test_a_changed_file_is_judged_anew(clipmod: Command, folder: Path, out: Path) -> None:
    paths = make_pictures(folder, 3)
    words = ("scan", folder, "-o", out, *NUDENET)
    clipmod(*words)
    before = by_name(records_in(out))
    Image.new("RGB", (30, 20)).save(paths[1])
    run = clipmod(*words)
    assert run.code == 0
    after = by_name(records_in(out))
    assert sorted(sources(list(after.values()))) == paths
    assert (after["0001.png"]["width"], after["0001.png"]["index"]) == (30, 1)
    assert after["0001.png"]["sha256"] != before["0001.png"]["sha256"]
    assert after["0000.png"] == before["0000.png"]
    assert after["0002.png"] == before["0002.png"]


def test_verify_sees_what_size_and_time_do_not(clipmod: Command, folder: Path, out: Path) -> None:
    picture = folder / "a.bmp"
    Image.new("RGB", (64, 48), "red").save(picture)
    info = picture.stat()
    words = ("scan", folder, "-o", out, *NUDENET)
    clipmod(*words)
    (before,) = records_in(out)
    Image.new("RGB", (64, 48), "blue").save(picture)
    os.utime(picture, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert picture.stat().st_size == info.st_size
    assert clipmod(*words).code == 0
    assert records_in(out) == [before]
    assert clipmod(*words, "--resume=verify").code == 0
    (after,) = records_in(out)
    assert after["sha256"] != before["sha256"]


def test_a_path_listed_twice_has_two_records(clipmod: Command, folder: Path, out: Path) -> None:
    one, two = make_pictures(folder, 2)
    listed = (one, two, one)
    for limit in ("1", "2", "3"):
        assert clipmod("scan", *listed, "-o", out, "--limit", limit, *NUDENET).code == 0
        assert sources(records_in(out)) == list(listed[: int(limit)])
    Image.new("RGB", (30, 20)).save(one)
    assert clipmod("scan", *listed, "-o", out, *NUDENET).code == 0
    assert sorted(sources(records_in(out))) == [one, one, two]


def test_the_exit_code_counts_the_whole_output(clipmod: Command, folder: Path, out: Path) -> None:
    make_pictures(folder, 2)
    bad, errors = folder / "bad.png", out.with_name("errors.txt")
    bad.write_bytes(b"")
    words = ("scan", folder, "-o", out, "--errors-to", errors, *NUDENET)
    for _ in range(2):
        run = clipmod(*words)
        assert run.code == 3
        assert len(records_in(out)) == 3
        assert errors.read_text() == f"{bad}\n"
    assert "known" in run.stderr
    Image.new("RGB", (64, 48)).save(bad)
    assert clipmod(*words).code == 0
    assert by_name(records_in(out))["bad.png"]["status"] == "ok"
    assert errors.read_text() == ""
    assert names_in(out.parent) == [errors.name, *kept(out)]


def test_an_input_that_appeared_is_judged(clipmod: Command, folder: Path, out: Path) -> None:
    (path,) = make_pictures(folder, 1)
    gone = folder / "later.png"
    words = ("scan", path, gone, "-o", out, *NUDENET)
    assert clipmod(*words).code == 3
    assert json.loads(out.read_bytes().splitlines()[1])["error"]["code"] == "not_found"
    Image.new("RGB", (64, 48)).save(gone)
    assert clipmod(*words).code == 0
    assert {r["status"] for r in records_in(out)} == {"ok"}
