"""`clipmod scan s3://…` on a real server of that protocol, through the real command."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.sources.stores.objects import S3Store
from tests.end_to_end.command import SAMPLES, Command
from tests.end_to_end.terminals import look
from tests.stores.kit import NUDENET, ROOT, by_source, scan
from tests.stores.servers import BUCKET, FakeS3, sample
from tests.video.films import scene, write_film


def test_a_bucket_is_judged_as_its_files_are(clipmod: Command, s3: FakeS3) -> None:
    keys = s3.put_samples("a/")
    run = scan(clipmod, s3, ROOT)
    assert run.code == 0, run.stderr
    assert [record["source"] for record in run.records] == [ROOT + key for key in keys]
    assert [record["index"] for record in run.records] == list(range(len(keys)))
    local = clipmod("scan", SAMPLES, *NUDENET)
    here = {Path(record["source"]).name: record for record in local.records}
    for record in run.records:
        same = here[Path(record["source"]).name]
        for field in ("final_decision", "unsafe_score", "sha256", "bytes", "width", "format", "kind"):
            assert record[field] == same[field]
        assert record["mtime_ns"] > 0


def test_the_bar_shows_how_many_objects_there_are(clipmod: Command, s3: FakeS3) -> None:
    keys = s3.put_samples("a/")
    code, _, stderr = look(clipmod, ("scan", ROOT, *NUDENET), s3.environment)
    assert code == 0
    assert f"{len(keys)}/{len(keys)}" in stderr


def test_objects_folders_and_paths_are_mixed_freely(clipmod: Command, s3: FakeS3, tmp_path: Path) -> None:
    s3.put("one.png", sample("cat.png"))
    s3.put("set/two.png", sample("cat.png"))
    s3.put("set2/three.png", sample("cat.png"))
    (tmp_path / "list").write_text(f"{ROOT}one.png\n{SAMPLES / 'cat.png'}\n", encoding="utf-8")
    run = scan(clipmod, s3, ROOT + "set", SAMPLES / "cat.png", "--files-from", tmp_path / "list")
    assert run.code == 0
    assert [record["source"] for record in run.records] == [
        ROOT + "set/two.png",
        str(SAMPLES / "cat.png"),
        ROOT + "one.png",
        str(SAMPLES / "cat.png"),
    ]


def test_a_list_on_stdin_may_name_objects(clipmod: Command, s3: FakeS3) -> None:
    s3.put("a b.png", sample("cat.png"))
    s3.put("it#is ?.png", sample("cat.png"))
    names = f"{ROOT}a b.png\0{SAMPLES / 'cat.png'}\0{ROOT}it#is ?.png\0".encode()
    run = clipmod.process("scan", "-0", "-", *NUDENET, stdin=names, env=s3.environment)
    assert run.code == 0, run.stderr
    assert [record["source"] for record in run.records] == [name.decode() for name in names.split(b"\0")[:-1]]


def test_what_cannot_be_had_is_told(clipmod: Command, s3: FakeS3) -> None:
    s3.put("denied.png", sample("cat.png"))
    s3.put("empty.png", b"")
    s3.put("large.png", sample("cat.png") + bytes(50_000_001))
    s3.put("broken.png", sample("cat.png"))
    s3.put("text", b"nothing to see")
    s3.put("cat.png", sample("cat.png"))
    s3.refused.add("denied.png")
    s3.broken.add("broken.png")
    run = scan(clipmod, s3, ROOT, ROOT + "none.png", ROOT + "none/", ROOT + "text", "s3://other/", "s3://")
    assert run.code == 3
    told = {
        record["source"]: (record["error"] or {"code": record["final_decision"]})["code"]
        for record in run.records
    }
    assert told == {
        ROOT + "broken.png": "read_error",
        ROOT + "cat.png": "Safe",
        ROOT + "denied.png": "permission_denied",
        ROOT + "empty.png": "empty_file",
        ROOT + "large.png": "file_too_large",
        ROOT + "none.png": "not_found",
        ROOT + "none/": "not_found",
        ROOT + "text": "unsupported_format",
        "s3://other/": "not_found",
        "s3://": "invalid_url",
    }
    large = [one.range for one in s3.asked if one.method == "GET" and "large" in one.path]
    assert large == ["bytes=0-1023"]
    assert "other type 1" in run.stderr


def test_the_rules_for_folders_hold(clipmod: Command, s3: FakeS3) -> None:
    for key in ("p/a.png", "p/.hidden/b.png", "p/thumbs/c.png", "p/deep/er/d.png", "p/noname"):
        s3.put(key, sample("cat.png"))
    for key in ("p/marker/", "p/readme.txt"):
        s3.put(key, b"")

    def found(*words: str) -> list[str]:
        run = scan(clipmod, s3, ROOT + "p/", *words)
        return [record["source"].removeprefix(ROOT + "p/") for record in run.records]

    assert found() == ["a.png", "deep/er/d.png", "noname", "thumbs/c.png"]
    assert found("--hidden", "--include", "*.png") == [
        ".hidden/b.png", "a.png", "deep/er/d.png", "thumbs/c.png"
    ]  # fmt: skip
    assert found("--exclude", "thumbs/", "--max-depth", "2") == ["a.png", "noname"]
    assert found("--limit", "1") == ["a.png"]


def test_a_key_is_a_name_and_no_more(clipmod: Command, s3: FakeS3) -> None:
    """None of them is a path, a version, a pattern or another object, whatever a library makes of it."""
    keys = ["..//../etc/passwd.png", "a?versionId=x.png", "a%2Fb.png", "ä+ [é]*.png", "a#1.png", "-rf.png"]
    for key in keys:
        s3.put(key, sample("cat.png"))
    s3.put("a", sample("astronaut.jpg"))
    run = scan(clipmod, s3, ROOT, "--hidden")
    assert run.code == 0, run.stderr
    records = by_source(run.records)
    assert set(records) == {*keys, "a"}
    assert len({records[key]["sha256"] for key in keys}) == 1
    named = scan(clipmod, s3, *(ROOT + key for key in keys))
    assert [record["sha256"] for record in named.records] == [records[keys[0]]["sha256"]] * len(keys)


def test_a_video_goes_through_a_file_that_is_removed(clipmod: Command, s3: FakeS3, tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_film(tmp_path / "film.mp4", scene(20))
    film = (tmp_path / "film.mp4").read_bytes()
    s3.put("film.mp4", film)
    s3.put("film.jpg", film)
    with tempfile.TemporaryDirectory() as spill:  # pytest's own are too long for the sockets of workers
        run = clipmod.process("scan", ROOT, *NUDENET, env={**s3.environment, "TMPDIR": spill})
        left = list(Path(spill).glob("clipmod-*/*"))
    assert run.code == 0, run.stderr
    assert [record["kind"] for record in run.records] == ["video", "video"]
    assert left == []


def test_a_dry_run_fetches_no_picture(clipmod: Command, s3: FakeS3) -> None:
    s3.put_samples()
    run = scan(clipmod, s3, ROOT, "--dry-run")
    facts = json.loads(run.stdout)
    assert facts["inputs"] == sum(path.suffix != ".md" for path in SAMPLES.iterdir())
    assert facts["formats"][".png by name"]["inputs"] == 2
    assert facts["bytes"] > 100_000
    assert s3.gets() == []


def test_no_secret_is_told(clipmod: Command, s3: FakeS3, tmp_path: Path) -> None:
    s3.put("denied.png", sample("cat.png"))
    s3.refused.add("denied.png")
    log = tmp_path / "log"
    run = scan(clipmod, s3, ROOT, "-v", "--log-file", log)
    everything = run.stdout.decode() + run.stderr + log.read_text(encoding="utf-8")
    assert "denied.png" in everything
    assert "s3cret" not in everything
    assert "Signature" not in everything


def test_without_credentials_it_is_asked_as_anybody(clipmod: Command, s3: FakeS3) -> None:
    s3.put("cat.png", sample("cat.png"))
    nobody: dict[str, Any] = {key: value for key, value in s3.environment.items() if "ACCESS_KEY" not in key}
    run = clipmod("scan", ROOT, *NUDENET, env=nobody)
    assert run.code == 0, run.stderr


def test_a_listing_comes_a_page_at_a_time(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"{number:04}.png" for number in range(1010)]
    for key in keys:
        s3.put(key, b"x")
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    s3.asked.clear()
    store = S3Store(BUCKET)
    pages = store.pages("")
    first = next(pages)
    assert len(s3.asked) == 1
    assert [entry.key for page in (first, *pages) for entry in page] == keys
    assert len(s3.asked) == 2
    assert "1005.png" in {entry.key for entry in store.near("1005.png")}
    assert store.find("1005.png") in store.near("1005.png")
