"""Evidence in a file: to the bit or not at all, within a bound, and never the end of a run."""

from __future__ import annotations

import itertools
import json
import logging
import multiprocessing
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.ensemble.cache_file import EvidenceFile, erase, pack, unpack
from clipmod_cli.errors import OutputError
from clipmod_cli.types import Detection, Detections, Embedding, LabelScores, Seen
from tests.evidence_of_all_kinds import any_evidence, is_same

PLENTY = 10_000_000
RED = LabelScores(scores={"red": 0.1 + 0.2})


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def write(path: Path, *seen: Seen, most: int = PLENTY) -> None:
    with closing(EvidenceFile(path, most)) as kept:
        for number, one in enumerate(seen):
            kept.put({key(number): one})


def read(path: Path, count: int) -> dict[bytes, Seen]:
    with closing(EvidenceFile(path, PLENTY)) as kept:
        return kept.get([key(number) for number in range(count)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "evidence.sqlite"


@pytest.fixture
def connection(path: Path) -> Callable[[str], None]:
    """Give a way to change the file behind everybody's back."""

    def execute(statement: str) -> None:
        with closing(sqlite3.connect(path)) as opened:
            opened.execute(statement)
            opened.commit()

    return execute


@given(any_evidence)
def test_what_is_packed_is_read_to_the_bit(seen: Seen) -> None:
    assert is_same(unpack(pack(seen)), seen)


@given(any_evidence, st.data())
def test_bytes_that_were_cut_are_not_read_as_less_evidence_of_json(seen: Seen, data: st.DataObject) -> None:
    packed = pack(seen)
    cut = packed[: data.draw(st.integers(0, len(packed) - 1))]
    assert isinstance(seen, Embedding) or unpack(cut) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_evidence_or_none(packed: bytes) -> None:
    assert unpack(packed) is None or is_same(unpack(pack(unpack(packed))), unpack(packed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "packed",
    [pack(Embedding(vector=np.array([np.nan], dtype=np.float32))), b'l{"red":NaN}', b'l{"red":1e999}'],
)
def test_numbers_that_are_none_are_not_read(packed: bytes) -> None:
    assert unpack(packed) is None


def test_another_run_finds_what_was_seen(path: Path) -> None:
    box = Detections(found=(Detection(label="RED", score=0.7, box=(1, 2, 3, 4)),))
    vector = Embedding(vector=np.array([0.6, 0.8], dtype=np.float32))
    seen: list[Seen] = [RED, box, vector, Detections(found=())]
    write(path, *seen)
    found = read(path, 5)
    assert list(found) == [key(number) for number in range(4)]
    for number, one in enumerate(seen):
        assert is_same(found[key(number)], one)


def test_more_keys_than_a_statement_takes(path: Path) -> None:
    with closing(EvidenceFile(path, PLENTY)) as kept:
        kept.put({key(number): RED for number in range(1, 2_000, 2)})
    assert sorted(read(path, 2_000)) == [key(number) for number in range(1, 2_000, 2)]


def test_only_the_user_can_read_it(path: Path) -> None:
    write(path, RED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_file_stays_within_its_bound_and_the_oldest_go(path: Path) -> None:
    most = 400_000
    pictures = [Embedding(vector=np.full(1000, number, dtype=np.float32)) for number in range(400)]
    write(path, *pictures, most=most)
    assert path.stat().st_size < most * 1.3
    kept = sorted(read(path, 400))
    assert 50 < len(kept) < 110
    assert kept == [key(number) for number in range(400 - len(kept), 400)]


def test_an_entry_that_was_changed_is_as_good_as_none(path: Path, connection: Callable[[str], None]) -> None:
    write(path, RED, RED, RED)
    connection("UPDATE evidence SET value = CAST(replace(value, '0.3', '0.9') AS BLOB) WHERE id = 2")
    assert list(read(path, 3)) == [key(0), key(2)]


def test_an_entry_under_anothers_key_is_as_good_as_none(
    path: Path, connection: Callable[[str], None]
) -> None:
    write(path, RED, LabelScores(scores={"red": 0.0}))
    connection("UPDATE evidence SET value = (SELECT value FROM evidence WHERE id = 2) WHERE id = 1")
    assert list(read(path, 2)) == [key(1)]


def test_a_file_that_is_no_cache_is_replaced(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    write(path, RED)
    assert "replaced by an empty cache" in caplog.text
    assert list(read(path, 1)) == [key(0)]


def test_a_file_that_breaks_meanwhile_costs_only_the_cache(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = [Embedding(vector=np.full(1000, number, dtype=np.float32)) for number in range(100)]
    write(path, *pictures)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with closing(EvidenceFile(path, PLENTY)) as kept:
        for number in range(100):
            assert kept.get([key(number)]) == {}
        kept.put({key(0): RED})
    assert "cannot be read" in caplog.text


def test_a_folder_that_cannot_be_made_costs_only_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.INFO):
        write(tmp_path / "file" / "evidence.sqlite", RED)
    assert read(tmp_path / "file" / "evidence.sqlite", 1) == {}
    assert "evidence is not kept" in caplog.text


def _write_many(path: Path, first: int) -> None:
    with closing(EvidenceFile(path, PLENTY)) as kept:
        for number in range(first, first + 50):
            kept.put({key(number): LabelScores(scores={"number": float(number)})})


def test_processes_share_it(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(path, 50 * number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    found = read(path, 150)
    assert len(found) == 150
    for number, one in zip(itertools.count(), found.values(), strict=False):
        assert isinstance(one, LabelScores)
        assert json.loads(pack(one)[1:]) == {"number": float(number)}


def test_what_is_older_than_the_retention_goes(path: Path, connection: Callable[[str], None]) -> None:
    write(path, RED, RED, RED)
    connection("UPDATE evidence SET at = at - 86400 * id WHERE id < 3")
    EvidenceFile(path, PLENTY, days=1.5).close()
    assert list(read(path, 3)) == [key(0), key(2)]


def test_erasing_leaves_no_byte(path: Path, connection: Callable[[str], None]) -> None:
    told = LabelScores(scores={"a word that nothing else has": 0.5})
    write(path, told, RED, told)
    files = list(path.parent.iterdir())
    assert any(b"nothing else has" in file.read_bytes() for file in files)
    connection("UPDATE evidence SET at = 1000 WHERE id < 3")
    assert erase(path, before=2000.0) == 2
    assert list(read(path, 3)) == [key(2)]
    assert erase(path) == 1
    assert not any(b"nothing else has" in file.read_bytes() for file in path.parent.iterdir())
    assert erase(path.with_name("was never there")) == 0


def test_what_cannot_be_erased_is_said(path: Path) -> None:
    write(path, RED)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OutputError, match="cannot be erased"):
            erase(path)
        other.execute("ROLLBACK")
