"""What stands in an output is not judged again; what is missing, changed or may pass is."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.errors import ErrorCode, OutputError, OutputMismatchError
from clipmod_cli.records import to_line, to_record
from clipmod_cli.sinks.resume import Done, read_done
from clipmod_cli.types import Item
from tests.results import RUN, names, plain_failure, plain_verdict
from tests.sinks.test_jsonl import disk_of

MANY = 30_000
BYTES_A_RECORD = 64
KEY = RUN.run_key


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def line_of(source: str, member: str | None = None, **media: Any) -> bytes:
    """Return the record of a judged input."""
    verdict = plain_verdict(source=source)
    item = Item(source=source, index=0, member=member)
    return to_line(to_record(replace(verdict, item=item, media=replace(verdict.media, **media)), RUN))


def line_of_file(path: Path) -> bytes:
    """Return the record of a judged file, as it is now."""
    info = path.stat()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return line_of(str(path), bytes=info.st_size, mtime_ns=info.st_mtime_ns, sha256=sha256)


def failed_line(source: str, code: ErrorCode, *, known: bool = False) -> bytes:
    failure = replace(plain_failure(code=code), item=Item(source=source, index=0))
    if known:
        info = Path(source).stat()
        media = replace(plain_verdict().media, bytes=info.st_size, mtime_ns=info.st_mtime_ns, sha256=None)
        failure = replace(failure, media=media)
    return to_line(to_record(failure, RUN))


def read(output: Path, *, verify: bool = False) -> tuple[Done, list[str]]:
    """Return what stands in an output, and the sources of the records that were told to."""
    told: list[str] = []
    done = read_done(output, KEY, verify=verify, kept=lambda record: told.append(record["source"]))
    return done, told


def missing(done: Done, *sources: str) -> list[str]:
    return [source for source in sources if not done.take(Item(source=source, index=0))]


@pytest.mark.parametrize("content", [None, b""])
def test_without_records_everything_is_missing(content: bytes | None, output: Path) -> None:
    if content is not None:
        output.write_bytes(content)
    done, told = read(output)
    assert (done.kept, done.dropped, told) == (0, 0, [])
    assert missing(done, "a.jpg") == ["a.jpg"]
    assert output.exists() == (content is not None)


def test_what_stands_is_taken_once_for_each_record(output: Path) -> None:
    output.write_bytes(line_of("a") + line_of("b") + line_of("a"))
    done, told = read(output)
    assert (done.kept, done.dropped, told) == (3, 0, ["a", "b", "a"])
    assert missing(done, "a", "c", "a", "a", "b", "b") == ["c", "a", "b"]


def done_of(lines: Iterable[bytes]) -> Done:
    """Return what stands in an output of these lines."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "out.jsonl")
        output.write_bytes(b"".join(lines))
        return read(output)[0]


keys = st.tuples(names | st.sampled_from(["a", "b"]), st.none() | names | st.sampled_from(["a", "b"]))


@given(inputs=st.lists(keys, max_size=12), share=st.floats(0, 1))
def test_law_a_prefix_of_records_leaves_exactly_the_rest(
    inputs: list[tuple[str, str | None]], share: float
) -> None:
    written = int(len(inputs) * share)
    done = done_of(line_of(source, member) for source, member in inputs[:written])
    items = [Item(source=source, index=i, member=member) for i, (source, member) in enumerate(inputs)]
    assert [item.index for item in items if not done.take(item)] == list(range(written, len(items)))


@given(inputs=st.lists(keys, max_size=8), records=st.lists(keys, max_size=8))
def test_law_any_records_leave_the_difference_of_multisets(
    inputs: list[tuple[str, str | None]],
    records: list[tuple[str, str | None]],
) -> None:
    done = done_of(line_of(source, member) for source, member in [*records, *inputs[::2]])
    items = [Item(source=source, index=0, member=member) for source, member in inputs]
    left = Counter((item.source, item.member) for item in items if not done.take(item))
    assert left == Counter(inputs) - Counter([*records, *inputs[::2]])


def test_a_member_is_not_its_archive(output: Path) -> None:
    output.write_bytes(line_of("a.zip", "x.jpg") + line_of("a.zip", os.fsdecode(b"\xff.jpg")))
    done, _ = read(output)
    wanted = [None, "y.jpg", "x.jpg", "\ufffd.jpg", os.fsdecode(b"\xff.jpg")]
    taken = [member for member in wanted if done.take(Item(source="a.zip", index=0, member=member))]
    assert taken == ["x.jpg", os.fsdecode(b"\xff.jpg")]


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_a_torn_last_line_is_cut(cut: int, output: Path) -> None:
    whole = line_of("a") + line_of("b")
    output.write_bytes(whole + line_of("c")[:-cut])
    done, _ = read(output)
    assert output.read_bytes() == whole
    assert missing(done, "a", "b", "c") == ["c"]


FOREIGN = [
    b"precious\n", b"{}\n", b'{"schema": "other/1"}\n', b'["clipmod/1"]\n', b'"clipmod/1"\n', b"1\n", b"\n",
    b'{"schema": "clipmod/1"}\n', b'{"schema": "clipmod/1", "run_key": "%s"}\n' % KEY.encode(), b"\xff\xfe\n",
]  # fmt: skip


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("before", [0, 2])
def test_a_foreign_file_is_refused_by_line_and_left_alone(
    foreign: bytes, before: int, output: Path, tmp_path: Path
) -> None:
    retryable = failed_line("a", "timeout")  # it would have been dropped
    content = retryable * before + foreign + b"torn"
    output.write_bytes(content)
    stamp = output.stat()
    with pytest.raises(OutputMismatchError, match=f"out.jsonl line {before + 1} is not a clipmod record"):
        read(output)
    assert output.read_bytes() == content
    assert output.stat().st_mtime_ns == stamp.st_mtime_ns
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("error", "no"),
        ("error", {}),
        ("source", None),
        ("source_b64", "%"),
        ("member", 3),
        ("models_used", 3),
    ],
)
def test_a_record_with_a_field_of_another_shape_is_foreign(key: str, value: object, output: Path) -> None:
    record = {**json.loads(line_of("a")), key: value, "run_key": "other" if key == "models_used" else KEY}
    output.write_bytes(json.dumps(record).encode() + b"\n")
    with pytest.raises(OutputMismatchError):
        read(output)


@pytest.mark.parametrize("content", [b"my only copy of the novel", b"\0" * 9, b'{"schema":"other/1"'])
def test_a_foreign_file_without_any_newline_is_no_torn_line(content: bytes, output: Path) -> None:
    output.write_bytes(content)
    with pytest.raises(OutputMismatchError):
        read(output)
    assert output.read_bytes() == content


@pytest.mark.parametrize("length", [1, 12, 21, 300])
def test_a_torn_first_line_is_cut(length: int, output: Path) -> None:
    output.write_bytes(line_of("a")[:length])
    assert read(output)[0].kept == 0
    assert output.read_bytes() == b""


def test_what_a_power_cut_left_behind_the_records_is_cut(output: Path) -> None:
    output.write_bytes(line_of("a") + b"\0" * 4000)
    assert read(output)[1] == ["a"]
    assert output.read_bytes() == line_of("a")


def test_another_run_key_is_refused_and_told_what_it_was(output: Path) -> None:
    content = to_line(to_record(plain_verdict(), replace(RUN, run_key="another")))
    output.write_bytes(content)
    with pytest.raises(OutputMismatchError) as told:
        read(output)
    for part in ("female-presence", "threshold 0.5", "ViT-L-14", "--overwrite"):
        assert part in str(told.value)
    assert output.read_bytes() == content


def test_a_changed_file_is_judged_anew(output: Path, tmp_path: Path) -> None:
    same, longer, later, gone = (tmp_path / name for name in ("same", "longer", "later", "gone"))
    for path in (same, longer, later, gone):
        path.write_bytes(b"picture")
    lines = [line_of_file(path) for path in (same, longer, later, gone)]
    output.write_bytes(b"".join(lines))
    longer.write_bytes(b"picture and more")
    os.utime(longer, ns=(0, json.loads(lines[1])["mtime_ns"]))
    os.utime(later, ns=(0, 1))
    gone.unlink()
    done, told = read(output)
    assert (done.kept, done.dropped) == (2, 2)
    assert told == [str(same), str(gone)]
    assert output.read_bytes() == lines[0] + lines[3]
    assert missing(done, *map(str, (same, longer, later, gone))) == [str(longer), str(later)]


def test_verify_hashes_what_seems_unchanged(output: Path, tmp_path: Path) -> None:
    sly, honest = tmp_path / "sly", tmp_path / "honest"
    for path in (sly, honest):
        path.write_bytes(b"one")
    output.write_bytes(line_of_file(sly) + line_of_file(honest))
    before = sly.stat()
    sly.write_bytes(b"two")
    os.utime(sly, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read(output)[1] == [str(sly), str(honest)]
    done, told = read(output, verify=True)
    assert (done.kept, done.dropped, told) == (1, 1, [str(honest)])


def test_verify_cannot_read_what_is_no_file(output: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    info = folder.stat()
    output.write_bytes(line_of(str(folder), bytes=info.st_size, mtime_ns=info.st_mtime_ns))
    assert read(output, verify=True)[0].dropped == 1


def test_errors_that_may_pass_are_judged_anew_and_others_stand(output: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(b"no picture")
    passing = [failed_line(str(path), "out_of_memory", known=True), failed_line("http://x", "timeout")]
    standing = [
        failed_line(str(path), "decode_error", known=True),
        failed_line("nowhere.jpg", "not_found"),
        failed_line("http://y", "not_an_image"),
    ]
    output.write_bytes(b"".join([passing[0], *standing, passing[1]]))
    done, _ = read(output)
    assert (done.kept, done.dropped) == (3, 2)
    assert output.read_bytes() == b"".join(standing)
    assert missing(done, str(path), str(path), "nowhere.jpg", "http://x") == [str(path), "http://x"]


def test_what_was_not_there_and_is_now_is_judged_anew(output: Path, tmp_path: Path) -> None:
    path = tmp_path / "late.jpg"
    output.write_bytes(failed_line(str(path), "not_found"))
    assert read(output)[0].kept == 1
    path.write_bytes(b"here")
    assert read(output)[0].dropped == 1


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_the_rewrite_is_whole_and_keeps_the_mode(mode: int, output: Path, tmp_path: Path) -> None:
    lines = [line_of(str(number)) for number in range(2000)]
    output.write_bytes(b"".join([*lines[:1000], failed_line("x", "timeout"), *lines[1000:], b"torn"]))
    output.chmod(mode)
    with output.open("rb") as reader:
        read(output)
        assert reader.read().endswith(b"torn"), "who reads it meanwhile reads the old one to its end"
    assert output.read_bytes() == b"".join(lines)
    assert output.stat().st_mode & 0o777 == mode
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize(("count", "room"), [(0, 0), (1, 100), (300, 5000), (300, 300_000)])
def test_a_rewrite_that_does_not_fit_leaves_everything_as_it_was(
    count: int, room: int, output: Path, tmp_path: Path
) -> None:
    content = line_of("a") * count + failed_line("x", "timeout") + line_of("b") * (count + 1)
    output.write_bytes(content)
    with disk_of(room), pytest.raises(OutputError, match="cannot read or rewrite"):
        read(output)
    assert output.read_bytes() == content
    assert list(tmp_path.iterdir()) == [output]


def test_a_rewrite_that_cannot_begin_is_told(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    output.write_bytes(failed_line("x", "timeout"))
    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    with pytest.raises(OutputError, match="No space left"):
        read(output)


def test_an_output_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot read or rewrite"):
        read(tmp_path)


def test_nobody_can_choose_names_that_collide(output: Path) -> None:
    output.write_bytes(line_of("a"))
    one, other = read(output)[0], read(output)[0]
    assert one.salt != other.salt
    assert (one.high[0], one.low[0]) != (other.high[0], other.low[0])
    assert one.salt.hex() not in repr(one)


def test_little_is_kept_for_each_record(output: Path) -> None:
    record = json.loads(line_of("a"))
    with output.open("w") as file:
        for number in range(MANY):
            file.write(json.dumps({**record, "source": f"/nowhere/{number}"}) + "\n")
    tracemalloc.start()
    try:
        done = read_done(output, KEY, verify=False, kept=lambda _: None)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.kept == MANY
    assert held <= MANY * BYTES_A_RECORD
    assert missing(done, "/nowhere/7", f"/nowhere/{MANY}") == [f"/nowhere/{MANY}"]


def test_equal_records_share_a_place(output: Path) -> None:
    output.write_bytes(line_of("a") * 50)
    done, _ = read(output)
    assert (len(done.high), list(done.left)) == (1, [50])
