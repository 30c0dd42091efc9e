"""`--newer-than`: what it may be, and which files of a folder are inputs then."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.errors import SettingsError
from clipmod_cli.sources.base import Rules, Skipped
from clipmod_cli.sources.newer import parse_newer_than
from clipmod_cli.sources.registry import expand
from clipmod_cli.sources.stores.base import ObjectEntry
from clipmod_cli.sources.stores.source import ObjectStoreSource
from tests.end_to_end.command import SAMPLES, SHAPE_OPTIONS, Command, read_records
from tests.end_to_end.conftest import clipmod, out
from tests.sources.inputs import only_items

__all__ = ["clipmod", "out"]

S = 10**9
NOW = 1_800_000_000.0  # 2027-01-15T08:00Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", NOW - 90), ("1.5m", NOW - 90), ("24h", NOW - 86_400), ("7d", NOW - 604_800),
        ("1w", NOW - 604_800), ("0s", NOW), ("2027-01-15T07:59Z", NOW - 60),
        ("2027-01-15T08:59:30.5+01:00", NOW - 29.5), ("2027-01-15 07:00Z", NOW - 3600),
    ],
)  # fmt: skip
def test_a_time_is_a_duration_or_iso(text: str, seconds: float) -> None:
    assert parse_newer_than(text, now=NOW) == round(seconds * S)


def test_a_time_without_an_offset_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse_newer_than("2027-01-15", now=NOW) == parse_newer_than("2027-01-15T00:00+09:00", now=NOW)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_file_gives_its_own_time(tmp_path: Path) -> None:
    stamp = tmp_path / "last run"
    stamp.touch()
    os.utime(stamp, ns=(5 * S + 7, 5 * S + 7))
    assert parse_newer_than(str(stamp)) == 5 * S + 7


@pytest.mark.parametrize(
    "text", ["", "7", "d", "-7d", "7 days", "yesterday", "no/such/file", "2027-13-01", "a\0"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is neither how long ago"):
        parse_newer_than(text, now=NOW)


def test_a_time_in_the_future_is_refused() -> None:
    assert parse_newer_than("2027-01-15T08:00:59Z", now=NOW)
    with pytest.raises(SettingsError, match="in the future"):
        parse_newer_than("2072-01-15", now=NOW)


def kept(mtime_ns: int | None, since_ns: int | None) -> bool:
    return not Rules(since_ns=since_ns).is_older(mtime_ns)


@given(
    mtime_ns=st.integers(0, 2**62), since_ns=st.integers(0, 2**62), unit=st.sampled_from([1, 10**6, 10**9])
)
def test_law_no_file_that_is_newer_is_skipped_whatever_its_file_system_keeps(
    mtime_ns: int, since_ns: int, unit: int
) -> None:
    if mtime_ns >= since_ns:
        assert kept(mtime_ns // unit * unit, since_ns)
    if mtime_ns + 10**9 < since_ns:
        assert not kept(mtime_ns // unit * unit, since_ns)


def test_a_file_of_unknown_time_is_an_input() -> None:
    assert kept(None, 5)
    assert kept(0, None)


def test_only_files_of_folders_are_skipped(tmp_path: Path) -> None:
    for name, time_s in {
        "old.gif": 100,
        "new.gif": 300,
        "same.gif": 200,
        "deep/old.zip": 100,
        "link": 0,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if name == "link":
            path.symlink_to("new.gif")
        else:
            path.write_bytes(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;")
            os.utime(path, (time_s, time_s))
    os.utime(tmp_path / "deep", (100, 100))
    skipped = Skipped()
    rules = Rules(since_ns=200 * S, follow=True)
    names = [os.path.relpath(one.item.source if hasattr(one, "item") else one.source, tmp_path)
             for one in expand([str(tmp_path), str(tmp_path / "old.gif")], rules, skipped)]  # fmt: skip
    assert names == ["link", "new.gif", "same.gif", "old.gif"]
    assert dict(skipped.reasons) == {"older": 2}
    assert not skipped.media


class Bucket:
    """A store of pictures that were uploaded at these times, in seconds."""

    def __init__(self, *times: int | None) -> None:
        self.times = times

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        yield [
            ObjectEntry(key=f"{prefix}{number}.png", size=9, mtime_ns=None if at is None else at * S)
            for number, at in enumerate(self.times)
        ]

    def find(self, key: str) -> ObjectEntry:
        return ObjectEntry(key=key, size=9, mtime_ns=S)

    def near(self, key: str) -> Sequence[ObjectEntry]:
        raise NotImplementedError

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        raise NotImplementedError


def test_objects_of_the_same_second_are_judged_and_named_ones_too() -> None:
    source, skipped = ObjectStoreSource(lambda _: Bucket(198, 199, 200, None)), Skipped()
    rules = Rules(since_ns=200 * S - 1)  # an object of 199 may be of 199.9999999995
    found = only_items(source.expand("s3://b/in/", rules, skipped))
    assert [one.source for one in found] == ["s3://b/in/1.png", "s3://b/in/2.png", "s3://b/in/3.png"]
    assert dict(skipped.reasons) == {"older": 1}
    assert len(list(source.expand("s3://b/in/0.png", rules, skipped))) == 1


def test_the_command_judges_what_is_new_and_keeps_what_it_skips(
    clipmod: Command, out: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content, age_s in (("new.png", b"", 0), ("old.png", b"", 5000), ("torn.png", b"none", 5000)):
        path = folder / name
        path.write_bytes(content or (SAMPLES / "cat.png").read_bytes())
        at = path.stat().st_mtime - age_s
        os.utime(path, (at, at))

    def scan(*words: str) -> tuple[int, dict[str, str], str]:
        run = clipmod("scan", folder, "-o", out, *words, *SHAPE_OPTIONS)
        records = read_records(out.read_bytes())
        return run.code, {Path(one["source"]).name: one["status"] for one in records}, run.stderr

    code, records, told = scan("--newer-than", "1h")
    assert (code, records) == (0, {"new.png": "ok"})
    assert "older 2" in told
    all_of_them = {"new.png": "ok", "old.png": "ok", "torn.png": "error"}
    assert scan()[:2] == (3, all_of_them)
    assert scan("--newer-than", "1h", "--retry", "errors")[:2] == (3, all_of_them)


def test_nothing_new_is_no_fault_and_wrong_times_are(clipmod: Command, tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes((SAMPLES / "cat.png").read_bytes())
    os.utime(tmp_path / "old.png", (1, 1))
    assert clipmod("scan", tmp_path, "--newer-than", "7d", *SHAPE_OPTIONS).code == 0
    wrong = clipmod("scan", tmp_path, "--newer-than", "tomorrow")
    assert (wrong.code, wrong.stdout) == (2, b"")
    assert "--newer-than 'tomorrow' is neither" in wrong.stderr
    hub = clipmod("scan", "hf://owner/name", "--newer-than", "7d")
    assert (hub.code, "the hub lists no modification times" in hub.stderr) == (2, True)
