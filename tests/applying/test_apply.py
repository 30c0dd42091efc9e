"""`clipmod apply`: what it moves, where to, what it leaves and what it says."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.output.lock import OutputLock
from clipmod_cli.output.reading.withheld import change_withheld
from clipmod_cli.records import to_line, to_record, write_name
from clipmod_cli.results import Result
from clipmod_cli.review.decisions import MachineJudgement
from tests.applying.conftest import Apply, Judged
from tests.applying.trees import NAMES, files_in, judge, make_tree, other_device, snapshot
from tests.end_to_end.command import Command, Outcome
from tests.results import RUN, plain_failure, plain_verdict
from tests.review.decisions import decided


def objects(run: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_a_dry_run_changes_nothing_and_names_all(clipmod: Command, judged: Judged, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    words = ("apply", judged.output, "--nsfw", "--move", judged.kept)
    run = clipmod(*words)
    assert run.code == 0
    assert "5 files" in run.stdout.decode()
    assert "a.jpg -> a.jpg  (NSFW, female_present 0.90)" in run.stdout.decode()
    assert "--yes" in run.stderr
    planned = objects(clipmod(*words, "--json"))
    assert [one["state"] for one in planned] == ["planned"] * 5
    assert {Path(one["destination"]).name for one in planned} >= {"a.jpg", "line\nbreak.jpg"}
    assert snapshot(tmp_path) == before


def test_files_keep_their_path_below_the_scanned_folder(apply: Apply, judged: Judged) -> None:
    run = apply()
    assert run.code == 0, run.stderr
    assert files_in(judged.tree) == []
    assert files_in(judged.kept) == sorted(NAMES)
    moved = snapshot(judged.kept)
    assert {name: moved[name] for name in NAMES} == {name: judged.before[name] for name in NAMES}
    assert judged.kept.stat().st_mode & 0o777 == 0o700
    assert (judged.tree / "sub" / "deep").is_dir(), "folders stay"
    assert "apply undo" in run.stderr
    assert not judged.kept.joinpath(".manifest.jsonl.lock").exists()


@pytest.mark.parametrize(
    ("names", "scanned", "expected"),
    [
        (["tree/a.jpg"], ["tree"], "a.jpg"),
        (["tree//sub/b.jpg"], ["tree//"], "sub/b.jpg"),
        (["./tree/sub/b.jpg"], ["."], "tree/sub/b.jpg"),
        (["tree/sub/b.jpg"], ["tree/sub", "tree/sub/deep"], "b.jpg"),
        (["tree/sub/b.jpg"], ["tree/sub", "other"], "tree/sub/b.jpg"),
        (["tree/sub/b.jpg"], [], "tree/sub/b.jpg"),
        (["link/b.jpg"], ["link"], "b.jpg"),
    ],
)
def test_where_files_go(
    clipmod: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    scanned: list[str],
    expected: str,
) -> None:
    home = tmp_path / "home"
    make_tree(home / "tree")
    (home / "other").mkdir()
    (home / "link").symlink_to("tree/sub")
    monkeypatch.chdir(home)
    judge(tmp_path / "out.jsonl", [_raw(name) for name in names], *scanned)
    run = clipmod("apply", tmp_path / "out.jsonl", "--nsfw", "--move", tmp_path / "kept", "--yes")
    assert run.code == 0, run.stdout + run.stderr.encode()
    assert files_in(tmp_path / "kept") == [expected]


def _raw(name: str) -> Path:
    """Return a path that keeps its spelling."""

    class Raw(type(Path())):  # type: ignore[misc]
        def __str__(self) -> str:
            return name

    return Raw(name)


def test_of_a_list_absolute_paths_keep_all(clipmod: Command, judged: Judged, tmp_path: Path) -> None:
    listed = tmp_path / "listed.jsonl"
    judge(listed, judged.paths[:1])
    assert clipmod("apply", listed, "--nsfw", "--move", judged.kept, "--yes").code == 0
    assert files_in(judged.kept) == [str(judged.paths[0]).lstrip("/")]


def test_an_existing_file_is_never_replaced(apply: Apply, judged: Judged, undo: Apply) -> None:
    judged.kept.mkdir()
    (judged.kept / "a.jpg").write_bytes(b"of another")
    assert apply().code == 0
    assert (judged.kept / "a.jpg").read_bytes() == b"of another"
    assert (judged.kept / "a.2.jpg").read_bytes() == judged.before["a.jpg"][4]
    make_tree(judged.tree, ("a.jpg",))
    judged.paths[0].write_bytes(b"the next one")
    judge(judged.output, judged.paths[:1], judged.tree, run="second")
    assert apply().code == 0
    assert (judged.kept / "a.3.jpg").read_bytes() == b"the next one"
    assert undo("--last").code == 0
    assert judged.paths[0].read_bytes() == b"the next one"


@pytest.mark.parametrize("is_touched", [False, True])
def test_a_changed_file_is_left_and_named(apply: Apply, judged: Judged, is_touched: bool) -> None:
    """Also one of the same size and time: the hash decides."""
    path = judged.paths[0]
    info = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(0, 1 if is_touched else info.st_mtime_ns))
    changed = snapshot(judged.tree)["a.jpg"]
    run = apply()
    assert run.code == 3
    assert "has changed since it was judged" in run.stdout.decode()
    assert str(path) in run.stdout.decode()
    assert snapshot(judged.tree)["a.jpg"] == changed
    assert len(files_in(judged.kept)) == 4


def test_a_touched_file_of_the_same_bytes_is_moved(apply: Apply, judged: Judged, undo: Apply) -> None:
    os.utime(judged.paths[0], ns=(0, 1))
    before = snapshot(judged.tree)
    assert apply().code == 0
    assert undo().code == 0
    assert snapshot(judged.tree) == before


def test_what_cannot_be_moved_is_named_with_counts(clipmod: Command, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    stills = [
        plain_verdict(0, source="https://example.org/a.jpg"),
        plain_verdict(1, source="s3://bucket/a.jpg"),
        plain_verdict(2, source="nowhere.jpg"),
    ]
    members = [
        replace(one, item=replace(one.item, source="a.zip", member=f"{number}.jpg"))
        for number, one in enumerate([plain_verdict(3), plain_verdict(4)])
    ]
    results: list[Result] = [*stills, *members, plain_failure(5)]
    output.write_bytes(b"".join(to_line(to_record(one, RUN)) for one in results))
    run = clipmod("apply", output, "--nsfw", "--error", "--move", tmp_path / "kept", "--yes")
    text = run.stdout.decode()
    assert run.code == 3
    for line in (
        "Left: 2 are in archives: the archives are left\n  a.zip > 0.jpg\n  a.zip > 1.jpg\n",
        "Left: 1 is a URL\n",
        "Left: 1 is in an object store\n",
        "Left: 1 is gone\n",
        "Left: 1 could not be read whole",
    ):
        assert line in text
    assert files_in(tmp_path / "kept") == []


@pytest.mark.parametrize("kind", ["--nsfw", "--safe", "--review", "--error"])
def test_kinds(clipmod: Command, judged: Judged, tmp_path: Path, kind: str) -> None:
    output = tmp_path / "kinds.jsonl"
    judge(output, judged.paths[:2], judged.tree)
    judge(output, judged.paths[2:4], judged.tree, unsafe=0.1)
    run = clipmod("apply", output, kind, "--move", judged.kept, "--json")
    expected = {"--nsfw": judged.paths[:2], "--safe": judged.paths[2:4]}.get(kind, [])
    assert len(objects(run)) == len(expected)


def test_twice_and_new_ones(apply: Apply, judged: Judged) -> None:
    assert apply().code == 0
    run = apply()
    assert run.code == 0
    assert "0 files moved" in run.stdout.decode()
    assert "Left: 5 were moved or copied there before" in run.stdout.decode()
    judge(judged.output, make_tree(judged.tree, ("new.jpg",)), judged.tree, run="second")
    run = apply("--new")
    assert "1 file moved" in run.stdout.decode()
    assert "before" not in run.stdout.decode()


def test_copies_are_made_once(clipmod: Command, judged: Judged) -> None:
    words = ("apply", judged.output, "--nsfw", "--copy", judged.kept, "--yes")
    assert clipmod(*words).code == 0
    assert snapshot(judged.tree) == judged.before
    copied = snapshot(judged.kept)
    assert {name: copied[name] for name in NAMES} == {name: judged.before[name] for name in NAMES}
    assert clipmod(*words).code == 0
    assert files_in(judged.kept) == sorted(NAMES)
    assert clipmod("apply", "undo", judged.kept).code == 0
    assert files_in(judged.kept) == []
    assert snapshot(judged.tree) == judged.before


def test_to_another_device_and_back(clipmod: Command, judged: Judged) -> None:
    with other_device(judged.tree) as target:
        words = ("apply", judged.output, "--nsfw", "--move", target, "--yes")
        assert clipmod(*words).code == 0
        assert files_in(judged.tree) == []
        there = snapshot(target)
        assert {name: there[name] for name in NAMES} == {name: judged.before[name] for name in NAMES}
        assert clipmod("apply", "undo", target / "manifest.jsonl").code == 0
        assert snapshot(judged.tree) == judged.before
        assert files_in(target) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--move", "KEPT"), "say which files"),
        (("--nsfw",), "--move DIR, --copy DIR and --delete"),
        (("--nsfw", "--move", "KEPT", "--delete"), "give one of"),
        (("--label", "unsafe", "--move", "KEPT"), "file of decisions"),
        (("--nsfw", "--move", "TREE"), "lie in each other"),
        (("--nsfw", "--move", "TREE/sub/kept"), "lie in each other"),
        (("--nsfw", "--copy", "TREE/.."), "lie in each other"),
        (("--nsfw", "--move", "KEPT/deeper"), "there is no folder"),
        (("--nsfw", "--move", "OUT"), "is not a folder"),
    ],
)
def test_wrong_calls(clipmod: Command, judged: Judged, words: tuple[str, ...], told: str) -> None:
    names = {"KEPT": str(judged.kept), "TREE": str(judged.tree), "OUT": str(judged.output)}
    for short, name in names.items():
        words = tuple(word.replace(short, name) for word in words)
    run = clipmod("apply", judged.output, *words, "--yes")
    assert (run.code, run.stdout) == (2, b"")
    assert told in run.stderr
    assert snapshot(judged.tree) == judged.before
    assert not judged.kept.exists()


def test_without_records(clipmod: Command) -> None:
    run = clipmod("apply")
    assert (run.code, "name outputs of `clipmod scan`" in run.stderr) == (2, True)


def test_a_file_in_the_place_of_the_manifest_is_left_alone(apply: Apply, judged: Judged) -> None:
    judged.kept.mkdir()
    judged.manifest.write_text('{"name": "my package"}\n')
    run = apply()
    assert run.code == 2
    assert "is not one of a manifest" in run.stderr
    assert judged.manifest.read_text() == '{"name": "my package"}\n'
    assert snapshot(judged.tree) == judged.before


@pytest.mark.parametrize("locked", ["manifest", "output"])
def test_two_at_once_are_locked_out(apply: Apply, judged: Judged, locked: str) -> None:
    judged.kept.mkdir()
    path = judged.manifest if locked == "manifest" else Path(f"{judged.output}.moved.jsonl")
    with OutputLock(path):
        run = apply()
    assert run.code == 5
    assert "another clipmod" in run.stderr
    assert snapshot(judged.tree) == judged.before
    assert apply().code == 0


def test_what_may_show_a_minor_is_never_touched(clipmod: Command, judged: Judged) -> None:
    record = json.loads(judged.output.read_bytes().splitlines()[0])
    change_withheld(judged.output, add=[record])
    run = clipmod("apply", judged.output, "--nsfw", "--move", judged.kept, "--yes")
    assert "withheld" in run.stderr
    assert files_in(judged.tree) == ["a.jpg"]
    assert "a.jpg" not in judged.manifest.read_text()


def decide(judged: Judged, number: int, label: Any, path: Path) -> None:
    """Add a decision on a file of the folder."""
    record = json.loads(judged.output.read_bytes().splitlines()[number])
    facts = {key: record[key] for key in ("sha256", "bytes", "mtime_ns")}
    said = MachineJudgement(run_id=record["run_id"])
    name = record["source"] if record["source_b64"] is None else str(judged.paths[number])
    names = dict(zip(("path", "path_b64"), write_name(str(judged.paths[number])), strict=True))
    line = decided(name, label, judged=said, **facts).model_copy(update=names).to_line()
    with path.open("ab") as file:
        file.write(line)


@pytest.mark.parametrize("with_output", [True, False])
def test_decisions_of_people(clipmod: Command, judged: Judged, tmp_path: Path, with_output: bool) -> None:
    decisions = tmp_path / "decisions.jsonl"
    for number, label in enumerate(["unsafe", "minor", "safe", "unsafe"]):
        decide(judged, number, label, decisions)
    decide(judged, 3, "undo", decisions)
    names = [decisions, judged.output] if with_output else [decisions]
    run = clipmod("apply", *names, "--label", "unsafe", "--move", judged.kept, "--yes")
    assert run.code == 0, run.stderr
    assert "1 file moved" in run.stdout.decode()
    assert "1 may show a minor: clipmod neither moves nor copies it" in run.stdout.decode()
    assert "b.jpg" not in run.stdout.decode()
    assert len(files_in(judged.tree)) == 4
    assert "unsafe by ana" in judged.manifest.read_text()
    assert files_in(judged.kept) == ["a.jpg" if with_output else str(judged.paths[0]).lstrip("/")]
    assert clipmod("apply", "undo", judged.kept).code == 0
    assert snapshot(judged.tree) == judged.before
    run = clipmod("apply", decisions, "--nsfw", "--move", judged.kept)
    assert (run.code, "--label" in run.stderr) == (2, True)


def test_what_one_file_withholds_no_other_one_gives(clipmod: Command, judged: Judged, tmp_path: Path) -> None:
    """A minor is one whatever is said elsewhere: in a list beside the output, or in further decisions."""
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    for number in range(3):
        decide(judged, number, "unsafe", first)
    decide(judged, 0, "minor", second)
    change_withheld(judged.output, add=[json.loads(judged.output.read_bytes().splitlines()[1])])
    words = ("--label", "unsafe", "--move", judged.kept)
    run = clipmod("apply", first, second, judged.output, *words)
    assert "1 file, " in run.stdout.decode()
    assert "may show a minor" in run.stdout.decode() or "may show minors" in run.stdout.decode()
    assert "a.jpg" not in run.stdout.decode()
    assert "sub/b.jpg" not in run.stdout.decode()
    run = clipmod("apply", judged.output, second, first, "--nsfw", "--move", judged.kept)
    assert "3 files, " in run.stdout.decode()


def test_decisions_of_a_scan_of_here(
    clipmod: Command, judged: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their paths are written out; the run card tells the folder all the same."""
    monkeypatch.chdir(judged.tree)
    output, decisions = tmp_path / "here.jsonl", tmp_path / "decisions.jsonl"
    judge(output, [_raw("./sub/b.jpg")], ".", run="here")
    record = json.loads(output.read_bytes())
    line = decided("./sub/b.jpg", sha256=record["sha256"], judged=MachineJudgement(run_id="here"))
    decisions.write_bytes(line.model_copy(update={"path": str(judged.tree / "sub" / "b.jpg")}).to_line())
    monkeypatch.chdir("/")
    run = clipmod("apply", decisions, output, "--label", "unsafe", "--move", judged.kept, "--yes")
    assert run.code == 0, run.stderr
    assert files_in(judged.kept) == ["sub/b.jpg"]
    assert Path(f"{output}.moved.jsonl").exists()


@pytest.mark.parametrize("name", ["tree/a.jpg", "./tree/../tree/a.jpg"])
def test_decisions_on_relative_paths(
    clipmod: Command, judged: Judged, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are relative to the folder of the scan, wherever `apply` runs."""
    monkeypatch.chdir("/")
    record = json.loads(judged.output.read_bytes().splitlines()[0])
    line = decided(name, "unsafe", sha256=record["sha256"]).model_copy(
        update={"path": str(judged.paths[0]) if ".." in name else f"{tmp_path}/{name}"}
    )
    decisions = tmp_path / "decisions.jsonl"
    decisions.write_bytes(line.to_line())
    assert clipmod("apply", decisions, "--label", "unsafe", "--move", judged.kept, "--yes").code == 0
    assert files_in(judged.kept) == ["tree/a.jpg" if ".." not in name else str(judged.paths[0]).lstrip("/")]


def test_what_people_decided_safe_is_left_whatever_was_judged(
    clipmod: Command, judged: Judged, tmp_path: Path
) -> None:
    decisions = tmp_path / "decisions.jsonl"
    decide(judged, 0, "safe", decisions)
    decide(judged, 1, "minor", decisions)
    run = clipmod("apply", judged.output, decisions, "--nsfw", "--move", judged.kept, "--yes")
    assert run.code == 0, run.stderr
    assert "1 was decided safe by a person" in run.stdout.decode()
    assert files_in(judged.tree) == ["a.jpg", "sub/b.jpg"]


def test_records_from_a_pipe(clipmod: Command, judged: Judged) -> None:
    content = judged.output.read_bytes()
    run = clipmod.process("apply", "-", "--nsfw", "--delete", "--yes", stdin=content)
    assert (run.code, "stdin has no place" in run.stderr) == (2, True)
    run = clipmod.process("apply", "-", "--nsfw", "--move", judged.kept, "--yes", stdin=content)
    assert run.code == 0, run.stderr
    assert files_in(judged.tree) == []


def test_a_removed_folder_is_told(apply: Apply, judged: Judged) -> None:
    shutil.rmtree(judged.tree / "sub")
    run = apply()
    assert run.code == 0
    assert "Left: 2 are gone" in run.stdout.decode()
