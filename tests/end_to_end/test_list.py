"""`clipmod list`: paths for other programs, of full and compact records."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from pathlib import Path

import jsonschema
import pytest

from clipmod_cli.output.compact import FIELDS, compact_json_schema
from tests.end_to_end.command import SHAPE_OPTIONS, Command
from tests.end_to_end.killing import records_in
from tests.tiny.shapes import draw_clear

SHAPES = (*SHAPE_OPTIONS, "--no-isolate", "--no-db")


def draw(path: Path, colour: str = "red") -> str:
    draw_clear(colour, "circle" if colour == "red" else "square").save(path)
    return str(path)


@pytest.mark.parametrize("form", ["full", "compact"])
def test_the_kinds_of_an_output(clipmod: Command, folder: Path, out: Path, form: str) -> None:
    red, blue, bad = draw(folder / "a.png"), draw(folder / "b.png", "blue"), str(folder / "c.png")
    Path(bad).write_bytes(b"")
    assert clipmod("scan", folder, "-o", out, *SHAPES, "--record", form).code == 3
    for words, paths in {
        ("--nsfw",): [red],
        ("--safe",): [blue],
        ("--error",): [bad],
        ("--nsfw", "--error"): [red, bad],
        (): [red, blue, bad],
        ("--nsfw", "--new"): [red],
        ("--review",): [],
    }.items():
        assert clipmod("list", out, *words).stdout == b"".join(f"{path}\n".encode() for path in paths)
    Path(red).unlink()
    run = clipmod("list", out, "--nsfw")
    assert (run.code, run.stdout) == (0, b"")
    assert "1 left out" in run.stderr
    assert clipmod("list", out, "--nsfw", "--gone").stdout == f"{red}\n".encode()


def test_a_name_with_a_newline_needs_nul(clipmod: Command, folder: Path, out: Path) -> None:
    """Else `xargs` would act on two names, one of which a stranger chose."""
    plain, sly = draw(folder / "a.png"), draw(folder / "b\nc.png")
    odd = os.fsencode(folder) + b"/\xff.png"
    Path(os.fsdecode(odd)).write_bytes(Path(plain).read_bytes())
    assert clipmod("scan", folder, "-o", out, *SHAPES).code == 0
    run = clipmod("list", out, "--nsfw")
    assert (run.code, run.stdout) == (2, plain.encode() + b"\n" + odd + b"\n")
    assert "-0" in run.stderr
    run = clipmod("list", out, "--nsfw", "-0")
    assert (run.code, run.stdout) == (0, b"\0".join([plain.encode(), sly.encode(), odd, b""]))


def test_an_archive_is_printed_once(clipmod: Command, folder: Path, out: Path) -> None:
    path = folder / "a.zip"
    picture = Path(draw(folder / "a.png")).read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("1.png", "2.png"):
            archive.writestr(name, picture)
    assert clipmod("scan", path, folder, "-o", out, *SHAPES).code == 0
    assert clipmod("list", out, "--nsfw").stdout.decode().splitlines() == [str(path), str(folder / "a.png")]


def test_records_from_a_pipe_and_compressed_ones(clipmod: Command, folder: Path, out: Path) -> None:
    path = draw(folder / "a.png")
    assert clipmod("scan", folder, "-o", out, *SHAPES).code == 0
    torn = out.read_bytes() + b'{"schema":"clipmod/1","sou'
    run = clipmod.process("list", "-", "--nsfw", stdin=torn)
    assert (run.code, run.stdout.decode()) == (0, f"{path}\n")
    assert "torn" in run.stderr
    packed = out.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(out.read_bytes()))
    assert clipmod("list", packed, "--nsfw").stdout.decode() == f"{path}\n"
    for name in ("-", packed):
        run = clipmod.process("list", name, "--new", stdin=torn)
        assert (run.code, run.stdout) == (2, b"")
        assert "run card" in run.stderr


@pytest.mark.parametrize("content", [b"my notes\n", b'{"schema":"clipmod/1","source":"a"}\n'])
def test_what_is_no_output_is_refused(clipmod: Command, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_bytes(content)
    run = clipmod("list", path)
    assert (run.code, run.stdout) == (2, b"")
    assert "line 1 is not a clipmod record" in run.stderr
    assert clipmod("list", tmp_path / "nothing.jsonl").code == 2


def test_compact_records_hold_what_resuming_needs(clipmod: Command, folder: Path, out: Path) -> None:
    draw(folder / "a.png")
    (folder / "b.png").write_bytes(b"")
    words = ("scan", folder, "-o", out, *SHAPES)
    assert clipmod(*words, "--limit", "1").code == 0
    (full,) = records_in(out)
    assert clipmod(*words, "--overwrite", "--record", "compact").code == 3
    validator = jsonschema.Draft202012Validator(json.loads(clipmod("schema", "--record", "compact").stdout))
    records = [json.loads(line) for line in out.read_bytes().splitlines()]
    for record in records:
        validator.validate(record)
        assert set(record) == {"schema", *FIELDS}
    of_the_run = {"schema", "run_id"}
    assert {name: full[name] for name in FIELDS if name not in of_the_run} == {
        name: value for name, value in records[0].items() if name not in of_the_run
    }
    assert max(map(len, out.read_bytes().splitlines())) < 600 + len(str(folder))
    before = out.read_bytes()
    run = clipmod(*words, "--record", "compact", "--fail-on", "nsfw")
    assert (run.code, out.read_bytes()) == (1, before)
    draw(folder / "c.png", "blue")
    assert clipmod(*words).code == 3
    assert out.read_bytes().startswith(before)
    assert json.loads(out.read_bytes().splitlines()[-1])["schema"] == "clipmod/1", (
        "both forms may stand in a file"
    )
    (folder / "b.png").unlink()
    draw(folder / "b.png", "blue")
    assert clipmod(*words, "--record", "compact").code == 0
    assert len(out.read_bytes().splitlines()) == 3


def test_the_schema_of_compact_records_is_one_of_their_own() -> None:
    schema = compact_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == "urn:clipmod:1-compact"
    assert set(schema["required"]) == {"schema", *FIELDS}
    assert schema["properties"]["schema"]["const"] == "clipmod/1-compact"


def test_rebuilding_says_that_compact_records_are_left_out(clipmod: Command, folder: Path, out: Path) -> None:
    draw(folder / "a.png")
    assert clipmod("scan", folder, "-o", out, *SHAPES, "--record", "compact").code == 0
    run = clipmod("stats", "--rebuild", out, "--json")
    assert run.code == 0
    assert "0 records added" in run.stderr
    assert "1 compact records are left out" in run.stderr
    assert "not records" not in run.stderr
