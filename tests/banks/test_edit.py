"""Editing a bank: what is added or removed changes nothing else of the file."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.banks.bank import Bank, BankSpec
from clipmod_cli.banks.edit import BankTable, editing, hash_file
from clipmod_cli.errors import BankError, OutputError, UsageError
from tests.banks.making import sha

A, B, C = sha(b"a"), sha(b"b"), sha(b"c")


def add(path: Path, *hashes: str, type_: str | None = None, note: str | None = None) -> int:
    with editing(path, "allow") as table:
        return table.add(hashes, type_=type_, note=note)


def remove(path: Path, *hashes: str) -> int:
    with editing(path, "allow") as table:
        return table.remove(hashes)


def test_a_new_bank_is_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "allow.csv"
    assert add(path, A, A, B, note='two\n"lines", and more') == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    bank = Bank.read(BankSpec(kind="allow", path=path))
    found = bank.find(bytes.fromhex(A))
    assert found is not None
    assert found.note == 'two\n"lines", and more'
    assert [one.name for one in tmp_path.iterdir()] == ["allow.csv"]


def test_the_same_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "allow.csv"
    add(path, A, note="x")
    path.chmod(0o640)
    before = path.stat().st_mtime_ns, path.read_bytes()
    assert add(path, A) == 0
    assert add(path, A, note="x") == 0
    assert remove(path, B) == 0
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    assert add(path, A, note="y") == 0
    assert BankTable.read(path, "allow").entries == [{"sha256": A, "type": "", "note": "y"}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_other_columns_and_comments_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "ours.csv", tmp_path / "link.csv"
    path.write_text(f"# ours\nid,SHA256,Note\n7,{A.upper()},kept\n# more\n", encoding="utf-8")
    link.symlink_to(path)
    assert add(link, A, B, note="new") == 1
    assert link.is_symlink()
    assert (
        path.read_text(encoding="utf-8") == f"# ours\nid,SHA256,Note\n7,{A.upper()},new\n# more\n,{B},new\n"
    )
    assert remove(path, A) == 1
    assert path.read_text(encoding="utf-8") == f"# ours\nid,SHA256,Note\n# more\n,{B},new\n"
    with pytest.raises(UsageError, match="no column type"):
        add(path, C, type_="x")
    assert C not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content",
    [f"{A}\n", "[]", f"indicator,type\n{A},HASH_SHA256\n", f"sha256\n{A}\n12\n", 'sha256\n"open', ""],
)
def test_what_is_no_whole_table_is_left_alone(content: str, tmp_path: Path) -> None:
    path = tmp_path / "bank"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BankError):
        add(path, B)
    assert path.read_text(encoding="utf-8") == content


def test_a_folder_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        add(tmp_path / "none" / "allow.csv", A)
    assert not (tmp_path / "none").exists()


def test_only_what_is_judged_as_a_whole_is_hashed(tmp_path: Path) -> None:
    picture, archive, empty = tmp_path / "a.jpg", tmp_path / "a.zip", tmp_path / "e.jpg"
    picture.write_bytes(b"any bytes")
    empty.touch()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("a.jpg", b"x")
    assert hash_file(str(picture)) == sha(b"any bytes")
    for path, message in ((archive, "is an archive"), (empty, "is empty"), (tmp_path, "folder")):
        with pytest.raises(UsageError, match=message):
            hash_file(str(path))


steps = st.lists(st.tuples(st.booleans(), st.sets(st.sampled_from([A, B, C]), min_size=1)), max_size=5)


@given(steps=steps)
def test_law_a_bank_holds_what_was_added_and_not_removed(
    steps: list[tuple[bool, set[str]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("bank") / "allow.csv"
    held: set[str] = set()
    for is_added, hashes in steps:
        if is_added:
            assert add(path, *hashes) == len(hashes - held)
            held |= hashes
        else:
            assert remove(path, *hashes) == len(hashes & held)
            held -= hashes
    assert {entry["sha256"] for entry in BankTable.read(path, "allow").entries} == held
