"""A list with every kind of fault, through the real command: one record for each URL, with the right code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.archives.making import make_tar, make_zip
from tests.end_to_end.command import SHAPE_OPTIONS, Command, Record, read_records
from tests.urls.faults import KINDS, Asked, find_wrong, lay, photograph
from tests.urls.server import Server, reply, serving

COUNT, EACH = 300, 2
OPTIONS = (*SHAPE_OPTIONS, "--allow-private", "--no-db", "--timeout", "12")


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    """A few servers, which are hosts of their own as each has its port."""
    with ExitStack() as stack:
        yield [stack.enter_context(serving()) for _ in range(8)]


def write_list(path: Path, asked: list[Asked]) -> Path:
    """Write a list of the URLs and return its path."""
    path.write_text("\n".join(one.url for one in asked), encoding="utf-8")
    return path


def test_every_fault_of_a_list_has_its_code(clipmod: Command, servers: list[Server], tmp_path: Path) -> None:
    asked = lay(servers, COUNT, EACH)
    assert {one.kind for one in asked} == {*KINDS, "fine"}
    listed, out, again = tmp_path / "list.txt", tmp_path / "out.jsonl", tmp_path / "again.txt"
    run = clipmod("urls", write_list(listed, asked), *OPTIONS, "-o", out, "--errors-to", again)
    assert run.code == 3
    assert list(find_wrong(asked, read_records(out.read_bytes()))) == []
    failed = sorted(one.url for one in asked if one.code != "ok")
    assert sorted(again.read_text(encoding="utf-8").splitlines()) == failed
    assert "MB/s" in run.stderr


def key_of(record: Record) -> tuple[int, str, str | None, str]:
    """Return what a record is of, and what became of it."""
    return record["index"], record["source"], record["member"], (record["error"] or {"code": "ok"})["code"]


def test_archives_are_judged_by_their_members_and_resumed(
    clipmod: Command, servers: list[Server], tmp_path: Path
) -> None:
    pictures = [(f"{number}.jpg", photograph(number)) for number in range(3)]
    tar = make_tar(pictures)
    whole = servers[0].on("/whole.zip", reply(body=make_zip(pictures)))
    cut = servers[1].on("/cut.tar", reply(body=tar[: tar.index(b"2.jpg") + 9000]))
    listed, out, kept = tmp_path / "list.txt", tmp_path / "out.jsonl", tmp_path / "kept"
    listed.write_text(f"{whole}\n{cut}\n", encoding="utf-8")
    words = ("urls", listed, *OPTIONS, "-o", out)
    assert clipmod(*words, "--save-to", kept).code == 3
    records = read_records(out.read_bytes())
    found = Counter(map(key_of, records))
    assert found == Counter(
        [
            *((0, whole, name, "ok") for name, _ in pictures),
            *((1, cut, name, "ok") for name, _ in pictures[:2]),
            (1, cut, None, "archive_error"),
        ]
    )
    shas = {path.stem for path in kept.rglob("*") if path.is_file()}
    assert shas == {record["sha256"] for record in records if record["status"] == "ok"}

    for left in (1, 4):  # as a kill would leave it
        out.write_bytes(b"".join(out.read_bytes().splitlines(keepends=True)[:left]))
        assert clipmod(*words).code == 3
        assert Counter(map(key_of, read_records(out.read_bytes()))) == found
