"""`apply` where others write to the folder: links, files that are swapped, no rights, no room."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clipmod_cli.review.applying import folders, transfer
from clipmod_cli.review.applying.carry_out import MoveOutcome, carry_out
from clipmod_cli.review.applying.folders import Place, place_below, place_of
from clipmod_cli.review.applying.manifest import Manifest
from clipmod_cli.review.applying.plan import ChosenInput, MovePlan, plan_moves
from clipmod_cli.review.applying.undo import moves_to_undo, undo_moves
from tests.applying.conftest import Apply, Judged
from tests.applying.trees import files_in, judge, make_tree, other_device, snapshot
from tests.end_to_end.command import Command
from tests.full_disk import files_no_longer_than

Attack = Callable[[], object]


def plan_of(judged: Judged, kept: Path) -> tuple[MovePlan, Manifest]:
    """Return a plan to move all files, and its open manifest."""
    kept.mkdir(exist_ok=True)
    manifest = Manifest.read(kept / "manifest.jsonl")
    chosen = [
        ChosenInput(
            source=str(path),
            directory="/",
            folders=((str(judged.tree), str(judged.tree)),),
            sha256=transfer_digest(path),
            bytes=path.stat().st_size,
            mtime_ns=path.stat().st_mtime_ns,
        )
        for path in judged.paths
    ]
    plan = plan_moves("move", str(kept), manifest, chosen)
    assert not plan.left
    manifest.open()
    return plan, manifest


def transfer_digest(path: Path) -> str:
    with place_of(str(path)) as place, transfer.opened(place) as file:
        return transfer.digest_of(file)


def carried_out(plan: MovePlan, manifest: Manifest) -> dict[str, str]:
    """Carry it out; return why each file was left, by its destination."""
    outcomes: list[MoveOutcome] = list(carry_out(plan, manifest))
    manifest.close()
    return {outcome.move.destination: outcome.why for outcome in outcomes}


def test_a_link_is_left_and_named(apply: Apply, judged: Judged, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    judged.paths[0].rename(outside)
    judged.paths[0].symlink_to(outside)
    run = apply()
    assert run.code == 3
    assert f"Left: 1 is a link\n  {judged.paths[0]}\n" in run.stdout.decode()
    assert outside.exists()
    assert judged.paths[0].is_symlink()
    assert len(files_in(judged.kept)) == 4


@pytest.mark.parametrize("is_inside", [False, True])
def test_a_folder_that_became_a_link_is_not_followed(
    apply: Apply, judged: Judged, tmp_path: Path, is_inside: bool
) -> None:
    twin = judged.tree / "twin" if is_inside else tmp_path / "twin"
    (judged.tree / "sub").rename(twin)
    (judged.tree / "sub").symlink_to(twin)
    run = apply()
    assert run.code == 3
    assert "Left: 2 are behind links" in run.stdout.decode()
    assert len(files_in(twin)) == 2


def test_a_folder_that_becomes_a_link_meanwhile(judged: Judged, tmp_path: Path) -> None:
    plan, manifest = plan_of(judged, judged.kept)
    twin = tmp_path / "twin"
    shutil.copytree(judged.tree / "sub", twin)
    shutil.rmtree(judged.tree / "sub")
    (judged.tree / "sub").symlink_to(twin)
    before = snapshot(twin)
    left = carried_out(plan, manifest)
    assert "link" in left["sub/b.jpg"]
    assert not left["a.jpg"]
    assert snapshot(twin) == before


def test_a_link_in_the_destination_is_not_followed(judged: Judged, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    judged.kept.mkdir()
    (judged.kept / "sub").symlink_to(outside)
    left = carried_out(*plan_of(judged, judged.kept))
    assert "link" in left["sub/b.jpg"]
    assert files_in(outside) == []
    assert (judged.tree / "sub" / "b.jpg").exists()


def test_a_file_that_comes_to_the_destination_meanwhile(judged: Judged) -> None:
    plan, manifest = plan_of(judged, judged.kept)
    (judged.kept / "a.jpg").write_bytes(b"of another")
    assert carried_out(plan, manifest)["a.jpg"] == "there is a file of its name already"
    assert (judged.kept / "a.jpg").read_bytes() == b"of another"
    assert snapshot(judged.tree)["a.jpg"] == judged.before["a.jpg"]


def replace_file(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(b"a new upload")
    new.replace(path)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize("attack", [replace_file, append, Path.unlink])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["rename", "other device"])
def test_a_file_that_is_swapped_after_it_was_hashed(
    judged: Judged, monkeypatch: pytest.MonkeyPatch, attack: Callable[[Path], None], elsewhere: bool
) -> None:
    """What was not judged is never moved, and nothing is lost."""
    path, honest = judged.paths[0], transfer.digest_of

    def digest(file: int) -> str:
        found = honest(file)
        monkeypatch.setattr(transfer, "digest_of", honest)
        attack(path)
        return found

    with other_device(judged.tree) as target:
        kept = target / "kept" if elsewhere else judged.kept
        plan, manifest = plan_of(judged, kept)
        monkeypatch.setattr(transfer, "digest_of", digest)
        left = carried_out(plan, manifest)
        after = path.read_bytes() if path.exists() else None
        moved = (kept / "a.jpg").read_bytes() if (kept / "a.jpg").exists() else None
        assert not list(kept.rglob("*.part"))
    if attack is Path.unlink:
        assert after is None
        assert left["a.jpg"] or moved == judged.before["a.jpg"][4]
    else:
        expected = b"a new upload" if attack is replace_file else judged.before["a.jpg"][4] + b"more"
        assert after == expected
        assert moved in (None, judged.before["a.jpg"][4])
        assert bool(left["a.jpg"]) == (moved is None)
    assert set(left.values()) - {left["a.jpg"]} <= {""}


@pytest.mark.parametrize("source", ["a\0b/c.jpg", "half \ud800/c.jpg", "half \ud800", "..", "sub/"])
def test_names_that_no_file_has(judged: Judged, source: str) -> None:
    manifest = Manifest.read(judged.manifest)
    chosen = ChosenInput(source=source, directory=str(judged.tree), sha256="0" * 64)
    plan = plan_moves("move", str(judged.kept), manifest, [chosen])
    assert plan.moves == []
    assert [one.reason for one in plan.left] in (["no file"], ["unreadable"])


def test_a_pipe_in_the_place_of_a_file_does_not_block(judged: Judged) -> None:
    plan, manifest = plan_of(judged, judged.kept)
    judged.paths[0].unlink()
    os.mkfifo(judged.paths[0])
    assert carried_out(plan, manifest)["a.jpg"] == "it is not a regular file"


@pytest.mark.parametrize("has_call", [True, False], ids=["system call", "links"])
def test_a_rename_never_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_call: bool) -> None:
    if not has_call:
        monkeypatch.setattr(folders, "_calls", list)
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    with place_of(str(tmp_path / "a")) as one, place_of(str(tmp_path / "b")) as other:
        with pytest.raises(FileExistsError):
            folders.rename(one, other)
        assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"a", b"b"]
        folders.rename(one, other.beside("c"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"b": b"b", "c": b"a"}


def test_a_file_system_without_the_call_moves_by_links(
    apply: Apply, undo: Apply, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_calls", list)
    assert apply().code == 0
    assert undo().code == 0
    assert snapshot(judged.tree) == judged.before


def test_places_below_a_folder(tmp_path: Path) -> None:
    with place_of(str(tmp_path / "any")) as top:
        with pytest.raises(FileNotFoundError), place_below(top.folder, "a/b/c", make=False):
            pass
        with place_below(top.folder, "a/b/c", make=True) as place:
            assert isinstance(place, Place)
            assert place.lstat() is None
    assert (tmp_path / "a" / "b").is_dir()


@contextmanager
def open_to_all() -> Iterator[Path]:
    """Give a folder that every user may enter and write."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_without_rights_a_file_is_left_and_named() -> None:
    with open_to_all() as top:
        tree, output = top / "tree", top / "out.jsonl"
        judged = Judged(tree, make_tree(tree), output, {}, top / "kept")
        (tree / "sub").chmod(0o555)
        judged.paths[4].chmod(0)
        before = snapshot(tree)
        judged.kept.mkdir()
        judged.kept.chmod(0o777)
        tree.chmod(0o777)
        plan, manifest = plan_of(judged, judged.kept)
        with _rights_of_nobody(tree, judged.paths[:2]):
            left = carried_out(plan, manifest)
        assert left["sub/b.jpg"] == "Permission denied"
        assert left["c.mp4"] == "Permission denied"
        assert not left["a.jpg"]
        manifest.open()
        outcomes = list(undo_moves(manifest, moves_to_undo(manifest)))
        manifest.close()
        assert not any(outcome.why for outcome in outcomes)
        (tree / "sub").chmod(0o555)
        assert snapshot(tree) == before


@contextmanager
def _rights_of_nobody(tree: Path, readable: list[Path]) -> Iterator[None]:
    """Give up the rights of root, which no permission stops."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_full_disk_stops_and_the_next_run_goes_on(clipmod: Command, tmp_path: Path) -> None:
    tree, output = tmp_path / "tree", tmp_path / "out.jsonl"
    paths = make_tree(tree)
    big = tree / "big.jpg"
    big.write_bytes(os.urandom(300_000))
    judge(output, [paths[0], big, paths[1]], tree)
    before = snapshot(tree)
    with other_device(tmp_path) as target:
        words = ("apply", output, "--nsfw", "--move", target / "kept", "--yes")
        with files_no_longer_than(100_000):
            run = clipmod(*words)
        assert run.code == 5
        assert f"no room for {big}: {os.strerror(errno.EFBIG)}" in run.stderr
        assert "1 file moved" in run.stdout.decode()
        assert "stopped before 2 files" in run.stderr
        assert snapshot(tree)["big.jpg"] == before["big.jpg"]
        assert files_in(target / "kept") == ["a.jpg"]
        assert clipmod(*words).code == 0
        assert "big.jpg" in files_in(target / "kept")
        assert clipmod("apply", "undo", target / "kept").code == 0
    assert snapshot(tree) == before


def test_a_manifest_that_cannot_be_written_moves_nothing(apply: Apply, judged: Judged) -> None:
    with files_no_longer_than(900):
        run = apply()
    assert run.code == 5
    assert str(judged.manifest) in run.stderr
    assert judged.manifest.read_bytes() == b""
    assert snapshot(judged.tree) == judged.before
    assert apply().code == 0
