"""What stands in an output is not judged again; what is missing, changed or may pass is."""

from __future__ import annotations

import gc
import json
import os
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.output.resuming.resume import ResumeOptions, RunConditions, read_done
from clipmod_cli.types import Item
from tests.results import names
from tests.sinks.outputs import KEY, URLS, done_of, failed_line, line_of, line_of_file, missing, read

HERE = RunConditions()
MANY = 30_000
BYTES_A_RECORD = 64


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.mark.parametrize("content", [None, b""])
def test_without_records_everything_is_missing(content: bytes | None, output: Path) -> None:
    if content is not None:
        output.write_bytes(content)
    done, told = read(output)
    assert (done.count, done.retry_count, told) == (0, 0, [])
    assert missing(done, "a.jpg") == ["a.jpg"]
    assert output.exists() == (content is not None)


def test_what_stands_is_taken_once_for_each_record(output: Path) -> None:
    output.write_bytes(line_of("a") + line_of("b") + line_of("a"))
    done, told = read(output)
    assert (done.count, done.retry_count, told) == (3, 0, ["a", "b", "a"])
    assert missing(done, "a", "c", "a", "a", "b", "b") == ["c", "a", "b"]


# A name that exists here, such as ".", would rightly be judged again: the file is not as the record says.
gone = names.filter(lambda name: not os.path.lexists(name))
keys = st.tuples(gone | st.sampled_from(["a", "b"]), st.none() | names | st.sampled_from(["a", "b"]))


@given(inputs=st.lists(keys, max_size=12), share=st.floats(0, 1))
def test_law_a_prefix_of_records_leaves_exactly_the_rest(
    inputs: list[tuple[str, str | None]], share: float
) -> None:
    written = int(len(inputs) * share)
    done = done_of(line_of(source, member) for source, member in inputs[:written])
    items = [Item(source=source, index=i, member=member) for i, (source, member) in enumerate(inputs)]
    assert [item.index for item in items if not done.match(item)] == list(range(written, len(items)))


@given(inputs=st.lists(keys, max_size=8), records=st.lists(keys, max_size=8))
def test_law_any_records_leave_the_difference_of_multisets(
    inputs: list[tuple[str, str | None]],
    records: list[tuple[str, str | None]],
) -> None:
    done = done_of(line_of(source, member) for source, member in [*records, *inputs[::2]])
    items = [Item(source=source, index=0, member=member) for source, member in inputs]
    left = Counter((item.source, item.member) for item in items if not done.match(item))
    assert left == Counter(inputs) - Counter([*records, *inputs[::2]])


def test_a_member_is_not_its_archive(output: Path) -> None:
    output.write_bytes(line_of("a.zip", "x.jpg") + line_of("a.zip", os.fsdecode(b"\xff.jpg")))
    done, _ = read(output)
    wanted = [None, "y.jpg", "x.jpg", "\ufffd.jpg", os.fsdecode(b"\xff.jpg")]
    taken = [member for member in wanted if done.match(Item(source="a.zip", index=0, member=member))]
    assert taken == ["x.jpg", os.fsdecode(b"\xff.jpg")]


def test_an_archive_is_looked_into_again_for_a_member_that_may_pass(output: Path) -> None:
    """Though it has a record of its own, which says that it could not be read to its end."""
    cut = failed_line("http://x/a.zip", "archive_error")
    later = failed_line("http://x/a.zip", "out_of_memory", member="b.gif")
    output.write_bytes(line_of("http://x/a.zip", "a.gif") + later + cut + line_of("http://x/c.zip", "a.gif"))
    done, _ = read(output)
    assert (done.count, done.retry_count) == (3, 1)
    archive, other = (Item(source=f"http://x/{name}.zip", index=0) for name in "ac")
    assert (done.has_members_to_retry(archive), done.has_members_to_retry(other)) == (True, False)
    members = [replace(archive, member=name) for name in ("a.gif", "b.gif", None)]
    assert [done.match(item) for item in members] == [True, False, True]


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
    done, told = read(output, conditions=HERE)
    assert (done.count, done.retry_count, done.gone_count) == (1, 2, 1)
    assert told == [str(same)]
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
    assert read(output, conditions=HERE)[1] == [str(sly), str(honest)]
    done, told = read(output, conditions=HERE, resume="verify")
    assert (done.count, done.retry_count, told) == (1, 1, [str(honest)])


def test_verify_cannot_read_what_is_no_file(output: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    info = folder.stat()
    output.write_bytes(line_of(str(folder), bytes=info.st_size, mtime_ns=info.st_mtime_ns))
    assert read(output, conditions=HERE, resume="verify")[0].retry_count == 1


def test_errors_that_may_pass_are_judged_anew_and_others_stand(output: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(b"no picture")
    passing = failed_line(str(path), "out_of_memory", known=True)
    standing = [failed_line(str(path), "decode_error", known=True), failed_line("nowhere.jpg", "not_found")]
    output.write_bytes(passing + b"".join(standing))
    done, _ = read(output, conditions=HERE)
    assert (done.count, done.retry_count) == (2, 1)
    assert output.read_bytes() == b"".join(standing)
    assert missing(done, str(path), str(path), "nowhere.jpg") == [str(path)]


def test_urls_that_may_answer_are_asked_again(output: Path) -> None:
    standing = failed_line("http://y", "not_an_image")
    output.write_bytes(failed_line("http://x", "timeout") + standing)
    done, _ = read(output)
    assert (done.count, done.retry_count) == (1, 1)
    assert output.read_bytes() == standing
    assert missing(done, "http://x", "http://y") == ["http://x"]


def test_what_was_not_there_and_is_now_is_judged_anew(output: Path, tmp_path: Path) -> None:
    path = tmp_path / "late.jpg"
    output.write_bytes(failed_line(str(path), "not_found"))
    assert read(output, conditions=HERE)[0].count == 1
    path.write_bytes(b"here")
    assert read(output, conditions=HERE)[0].retry_count == 1


def test_nobody_can_choose_names_that_collide(output: Path) -> None:
    output.write_bytes(line_of("a"))
    one, other = read(output)[0], read(output)[0]
    assert one.salt != other.salt
    assert one.unmatched.keys[0] != other.unmatched.keys[0]
    assert one.salt.hex() not in repr(one)


def test_little_is_kept_for_each_record(output: Path) -> None:
    before, after = line_of("/nowhere/N").split(b"/nowhere/N")
    output.write_bytes(b"".join(b"%b/nowhere/%d%b" % (before, number, after) for number in range(MANY)))
    tracemalloc.start()
    try:
        done = read_done(output, KEY, ResumeOptions(conditions=URLS))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.count == MANY
    assert held <= MANY * BYTES_A_RECORD
    assert missing(done, "/nowhere/7", f"/nowhere/{MANY}") == [f"/nowhere/{MANY}"]


def test_equal_records_share_a_place(output: Path) -> None:
    output.write_bytes(line_of("a") * 50)
    done, _ = read(output)
    assert (len(done.unmatched.keys), list(done.unmatched.left)) == (1, [50])
