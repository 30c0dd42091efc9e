"""Records that are there already are decided again by the banks of the next run, without reading an input."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.banks.bank import Banks, BankSpec
from clipmod_cli.banks.records import RecordBanks
from clipmod_cli.output.compact import compact_line
from clipmod_cli.output.resuming.resume import DoneInputs, ResumeOptions, RunConditions, read_done
from clipmod_cli.records import Record, to_line, to_record
from clipmod_cli.results import BankVerdict, Result
from clipmod_cli.types import Failure, Item
from tests.banks.making import banks_of, write_bank
from tests.results import RUN, plain_verdict

NEXT = replace(RUN, run_id="n" * 32)
URLS = RunConditions(directory=None)


def sha_of(index: int) -> str:
    return f"{index:064x}"


def line_of(result: Result, *, compact: bool = False, known: bool = False) -> bytes:
    record = to_record(result, RUN, known=known)
    return compact_line(record) if compact else to_line(record)


def judged(index: int, unsafe: float = 0.1) -> Result:
    return plain_verdict(index, unsafe=unsafe, source=f"http://x/{index}")


def banked(index: int, banks: Banks) -> Result:
    by = banks.decide(sha_of(index))
    verdict = judged(index)
    assert by is not None
    assert verdict.media is not None
    return BankVerdict(item=verdict.item, media=verdict.media, by=by, total_ms=1.0)


def resume(
    path: Path, banks: Banks, conditions: RunConditions = URLS
) -> tuple[DoneInputs, list[dict[str, Any]]]:
    """Read an output as a run with these banks does; return what is done and the records that count."""
    told: list[dict[str, Any]] = []
    options = ResumeOptions(conditions=URLS, redecide=RecordBanks(NEXT, banks).redecide, on_done=told.append)
    return read_done(path, RUN.run_key, options), told


def records_in(path: Path) -> list[dict[str, Any]]:
    lines = path.read_bytes().splitlines()
    for line in lines:
        if b'"clipmod/1"' in line:
            Record.model_validate_json(line)
    return [json.loads(line) for line in lines]


def brief(record: dict[str, Any]) -> tuple[str | None, str | None]:
    return record["final_decision"], record["decided_by"]


@pytest.mark.parametrize("compact", [False, True])
def test_a_hash_that_came_into_a_bank_is_decided_anew(compact: bool, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    before = [line_of(judged(index), compact=compact) for index in range(3)]
    path.write_bytes(b"".join(before))
    banks = banks_of(tmp_path, deny=[sha_of(1)])
    done, told = resume(path, banks)
    assert (done.count, done.redecided_count, done.retry_count) == (3, 1, 0)
    lines = path.read_bytes().splitlines(keepends=True)
    assert (lines[0], lines[2]) == (before[0], before[2]), "others stay as they are, in their places"
    record = json.loads(lines[1])
    assert record.keys() == json.loads(before[1]).keys()
    assert brief(record) == ("NSFW", "deny")
    assert record["matches"] == [{"bank": "deny", "type": None, "note": None}]
    assert (record["source"], record["index"], record["sha256"]) == ("http://x/1", 1, sha_of(1))
    assert (record["run_id"], record["known"]) == (NEXT.run_id, False), "it is new to people"
    assert (record["unsafe_score"], record["review_reasons"]) == (None, [])
    assert [brief(one) for one in told] == [("Safe", "models"), ("NSFW", "deny"), ("Safe", "models")]
    assert not done.match(Item(source="http://x/3", index=3))
    assert done.match(Item(source="http://x/1", index=0)), "its input need not be read"
    again, _ = resume(path, banks)
    assert (again.redecided_count, again.count) == (0, 3)
    assert path.read_bytes().splitlines(keepends=True) == lines


def test_an_error_becomes_safe_by_an_allow_bank(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    verdict = judged(0)
    failed = Failure(item=verdict.item, stage="decode", code="decode_error", message="x", media=verdict.media)
    path.write_bytes(line_of(failed))
    done, _ = resume(path, banks_of(tmp_path, allow=[sha_of(0)]))
    assert (done.redecided_count, done.retry_count) == (1, 0)
    assert brief(*records_in(path)) == ("Safe", "allow")
    assert records_in(path)[0]["error"] is None


def test_the_same_outcome_by_other_means_is_known(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(line_of(judged(0, unsafe=0.9)))
    resume(path, banks_of(tmp_path, deny=[sha_of(0)]))
    (record,) = records_in(path)
    assert brief(record) == ("NSFW", "deny")
    assert record["run_id"] == RUN.run_id


def test_a_bank_whose_name_is_no_unicode_decides_once(tmp_path: Path) -> None:
    path, name = tmp_path / "out.jsonl", tmp_path / os.fsdecode(b"b\xff.txt")
    try:
        write_bank(name, sha_of(0))
    except OSError:
        pytest.skip("this file system wants names that are Unicode")
    banks = Banks.read([BankSpec(kind="deny", path=name)])
    path.write_bytes(line_of(judged(0)))
    assert [resume(path, banks)[0].redecided_count for _ in range(2)] == [1, 0]


def test_what_no_bank_holds_any_more_is_judged_again(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    old = banks_of(tmp_path, deny=[sha_of(0)], allow=[sha_of(1), sha_of(2)])
    path.write_bytes(b"".join(line_of(banked(index, old)) for index in range(3)) + line_of(judged(3)))
    done, told = resume(path, banks_of(tmp_path, allow=[sha_of(2)]))
    assert (done.count, done.retry_count, done.stale_count) == (2, 2, 0)
    assert done.undenied_count == 1
    assert [brief(one) for one in told] == [("Safe", "allow"), ("Safe", "models")]
    assert [one["index"] for one in records_in(path)] == [2, 3]
    assert [done.match(Item(source=f"http://x/{index}", index=index)) for index in range(4)] == [
        False,
        False,
        True,
        True,
    ]
    assert done.knew(Item(source="http://x/1", index=1), sha_of(1), "Safe")


def test_without_banks_all_that_banks_decided_is_judged_again(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    banks = banks_of(tmp_path, deny=[sha_of(0)])
    path.write_bytes(line_of(banked(0, banks)) + line_of(judged(1)))
    done, _ = resume(path, Banks())
    assert (done.count, done.retry_count, done.undenied_count) == (1, 1, 1)


def test_what_this_run_does_not_read_keeps_its_decision_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    banks = banks_of(tmp_path, allow=[sha_of(0)])
    path.write_bytes(line_of(banked(0, banks)))
    here = RunConditions(directory=str(tmp_path))
    options = ResumeOptions(
        conditions=here, earlier={RUN.run_id: URLS}, redecide=RecordBanks(NEXT, Banks()).redecide
    )
    done = read_done(path, RUN.run_key, options)
    assert (done.count, done.retry_count, done.stale_count) == (1, 0, 1)
    assert brief(*records_in(path)) == ("Safe", "allow")


def test_a_record_of_another_folder_keeps_its_input(tmp_path: Path) -> None:
    """Relative paths of the earlier run were relative to where it ran."""
    before, now = tmp_path / "before", tmp_path / "now"
    before.mkdir()
    now.mkdir()
    data = before / "a.jpg"
    data.write_bytes(bytes(79155))
    status = data.stat()
    verdict = plain_verdict(0, unsafe=0.1, source="a.jpg")
    media = replace(verdict.media, bytes=status.st_size, mtime_ns=status.st_mtime_ns)
    path = tmp_path / "out.jsonl"
    path.write_bytes(line_of(replace(verdict, media=media)))
    earlier = {RUN.run_id: RunConditions(directory=str(before))}
    options = ResumeOptions(
        conditions=RunConditions(directory=str(now)),
        earlier=earlier,
        redecide=RecordBanks(NEXT, banks_of(tmp_path, deny=[sha_of(0)])).redecide,
    )
    done = read_done(path, RUN.run_key, options)
    assert done.redecided_count == 1
    (record,) = records_in(path)
    assert (record["source"], record["run_id"]) == (str(data), NEXT.run_id)
    assert done.match(Item(source="../before/a.jpg", index=0))


def test_a_disk_that_is_full_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clipmod_cli.errors import OutputError
    from clipmod_cli.output.resuming import rewrite

    path = tmp_path / "out.jsonl"
    path.write_bytes(line_of(judged(0)) + line_of(judged(1)))
    whole = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rewrite, "atomic_file", full)
    with pytest.raises(OutputError, match="No space left"):
        resume(path, banks_of(tmp_path, deny=[sha_of(1)]))
    assert path.read_bytes() == whole


kinds = st.lists(st.sampled_from(["models", "deny", "allow", "error"]), max_size=8)


@given(kinds=kinds, deny=st.sets(st.integers(0, 7)), allow=st.sets(st.integers(0, 7)), compact=st.booleans())
def test_law_no_record_is_lost_or_doubled(
    kinds: Sequence[str],
    deny: set[int],
    allow: set[int],
    compact: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What stays and what is judged again are the inputs; what stays is as the banks now say."""
    folder = tmp_path_factory.mktemp("resumed")
    old = {
        kind: banks_of(folder, **{kind: [sha_of(index) for index in range(8)]}) for kind in ("deny", "allow")
    }
    banks = banks_of(folder, deny=map(sha_of, deny), allow=map(sha_of, allow))
    lines = []
    for index, kind in enumerate(kinds):
        result = judged(index) if kind in {"models", "error"} else banked(index, old[kind])
        if kind == "error":
            result = Failure(
                item=result.item, stage="decode", code="decode_error", message="x", media=result.media
            )
        lines.append(line_of(result, compact=compact))
    path = folder / "out.jsonl"
    path.write_bytes(b"".join(lines))
    done, told = resume(path, banks)
    found = records_in(path)
    assert told == found
    missing = [
        index for index in range(len(kinds)) if not done.match(Item(source=f"http://x/{index}", index=index))
    ]
    assert Counter([*missing, *(one["index"] for one in found)]) == Counter(range(len(kinds)))
    for one in found:
        index = one["index"]
        if index in deny | allow:
            expected = ("NSFW", "deny") if index in deny else ("Safe", "allow")
            assert brief(one) == expected
        else:
            assert kinds[index] in {"models", "error"}
            assert one == json.loads(lines[index])
    assert all(kinds[index] in {"deny", "allow"} and index not in deny | allow for index in missing)
