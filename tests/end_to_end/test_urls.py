"""`clipmod urls` on a real server, through the real command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command import SAMPLES, Command, Record, read_records
from tests.slowness import slowness
from tests.urls.server import Server, drip, redirect, reply, serving

NUDENET = ("--models", "nudenet", "--policy", "nsfw", "--allow-private", "--no-db")


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with the samples, and faults."""
    with serving() as made:
        for path in SAMPLES.iterdir():
            made.on(f"/{path.name}", reply(body=path.read_bytes(), content_type="text/plain"))
        made.on("/moved", redirect("/cat.png"))
        made.on("/page", reply(body=b"<html>"))
        yield made


def by_url(records: list[Record], server: Server) -> dict[str, Record]:
    """Return records by the URL's path."""
    return {record["source"].removeprefix(server.url("")): record for record in records}


def test_urls_are_downloaded_and_judged(clipmod: Command, server: Server, tmp_path: Path) -> None:
    paths = [
        "/astronaut.jpg",
        "/color-chart.png",
        "/page",
        "/none",
        "/moved",
        "/astronaut-pan.gif",
        "/cat.png",
    ]
    urls = [server.url(path) for path in paths]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join([*urls, "file:///etc/passwd", "# no URL"]) + "\n", encoding="utf-8")
    out, again, kept = tmp_path / "out.jsonl", tmp_path / "again.txt", tmp_path / "kept"
    words = ("urls", listed, *NUDENET, "-o", out, "--errors-to", again, "--save-to", kept)
    run = clipmod(*words)
    assert run.code == 3
    records = read_records(out.read_bytes())
    assert sorted(record["index"] for record in records) == list(range(8))
    assert all(record["source"] == [*urls, "file:///etc/passwd"][record["index"]] for record in records)
    found = by_url(records, server)
    assert found["/astronaut.jpg"]["final_decision"] == "Safe"
    assert found["/color-chart.png"]["final_decision"] == "NSFW"
    assert found["/astronaut-pan.gif"]["kind"] == "animation"
    assert (found["/moved"]["final_url"], found["/cat.png"]["final_url"]) == (server.url("/cat.png"), None)
    assert found["/page"]["error"]["code"] == "not_an_image"
    assert found["/none"]["error"] == {
        "code": "http_error",
        "message": "the server answered 404 (Not Found)",
        "retryable": False,
        "http_status": 404,
    }
    assert found["file:///etc/passwd"]["error"]["code"] == "invalid_url"
    failed = {server.url("/page"), server.url("/none"), "file:///etc/passwd"}
    assert set(again.read_text(encoding="utf-8").splitlines()) == failed
    shas = {path.stem for path in kept.rglob("*") if path.is_file()}
    assert shas == {record["sha256"] for record in records if record["status"] == "ok"}

    asked = len(server.asked)
    server.on("/new", reply(body=(SAMPLES / "cat.png").read_bytes()))
    with listed.open("a", encoding="utf-8") as file:
        file.write(server.url("/new") + "\n" + urls[0] + "\n")
    assert clipmod(*words).code == 3
    assert [request.path for request in server.asked[asked:]] in (["/new", paths[0]], [paths[0], "/new"])
    assert len(read_records(out.read_bytes())) == 10

    server.on("/page", reply(body=(SAMPLES / "cat.png").read_bytes()))
    repaired = clipmod("urls", again, *NUDENET, "--json")
    assert by_url(repaired.records, server)["/page"]["final_decision"] == "Safe"


def test_what_may_pass_is_asked_again_when_a_run_is_resumed(
    clipmod: Command, server: Server, tmp_path: Path
) -> None:
    server.on("/later", reply(503))
    table, out = tmp_path / "list.jsonl", tmp_path / "out.jsonl"
    rows = [{"link": server.url(path), "n": n} for n, path in enumerate(("/later", "/cat.png", "/none"))]
    table.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    words = ("urls", table, "--url-column", "link", *NUDENET, "--retries", "0", "-o", out)
    assert clipmod(*words).code == 3
    server.on("/later", reply(body=(SAMPLES / "cat.png").read_bytes()))
    assert clipmod(*words).code == 3
    records = by_url(read_records(out.read_bytes()), server)
    assert {path: record["status"] for path, record in records.items()} == {
        "/later": "ok", "/cat.png": "ok", "/none": "error"
    }  # fmt: skip
    assert sorted(server.paths()) == ["/cat.png", "/later", "/later", "/none"]


def test_a_row_of_a_table_is_found_again_by_its_record(
    clipmod: Command, server: Server, tmp_path: Path
) -> None:
    listed, out = tmp_path / "list.csv", tmp_path / "out.jsonl"
    url = server.url("/cat.png")
    listed.write_text(f"url,id\n{url},7\n,8\n{server.url('/page')},9\n", encoding="utf-8")
    for form in ("full", "compact"):
        words = ("urls", listed, *NUDENET, "-o", out, "--keep-columns", "id", "--record", form, "--overwrite")
        assert clipmod(*words).code == 3
        records = [json.loads(line) for line in out.read_bytes().splitlines()]
        found = {(r["row"], r["index"], r["columns"]["id"]) for r in records}
        assert found == {(0, 0, "7"), (2, 2, "9")}
    assert clipmod("urls", listed, *NUDENET, "--keep-columns", "size").code == 2


def test_a_door_that_opens_is_tried_again(clipmod: Command, server: Server, tmp_path: Path) -> None:
    listed, out = tmp_path / "list.txt", tmp_path / "out.jsonl"
    listed.write_text(f"{server.url('/cat.png')}\n{server.url('/page')}\n", encoding="utf-8")
    closed = tuple(word for word in NUDENET if word != "--allow-private")
    for _ in range(2):
        assert clipmod("urls", listed, *closed, "-o", out).code == 6
    runs = {r["run_id"] for r in read_records(out.read_bytes())}
    assert len(runs) == 1, "nothing is tried again while nothing changed"
    assert clipmod("urls", listed, *NUDENET, "-o", out).code == 3
    found = by_url(read_records(out.read_bytes()), server)
    assert (found["/cat.png"]["status"], found["/page"]["error"]["code"]) == ("ok", "not_an_image")
    before = out.read_bytes()
    assert clipmod("urls", listed, *closed, "-o", out).code == 3
    assert out.read_bytes() == before, "what was judged stays"


def test_a_limit_counts_from_the_beginning_of_the_list(clipmod: Command, server: Server) -> None:
    urls = "\n".join(server.url(path) for path in ("/none", "/page", "/cat.png"))
    run = clipmod.process("urls", "-", *NUDENET, "--limit", "2", stdin=urls.encode())
    assert run.code == 6
    assert sorted(server.paths()) == ["/none", "/page"]
    assert sorted(record["index"] for record in run.records) == [0, 1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_once(clipmod: Command, server: Server, tmp_path: Path) -> None:
    """As `clipmod urls <(...)` gives one: whoever counted its lines beforehand would take them away."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    lines = "".join(server.url(f"/none?{number}") + "\n" for number in range(20))
    threading.Thread(target=lambda: pipe.write_text(lines, encoding="utf-8"), daemon=True).start()
    run = clipmod("urls", pipe, *NUDENET)
    assert sorted(record["index"] for record in run.records) == list(range(20))


def test_private_addresses_are_shut_unless_opened(clipmod: Command, server: Server, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{server.url('/cat.png')}\nhttp://127.0.0.1/\nhttp://[::1]/\n", encoding="utf-8")
    words = ("urls", listed, "--models", "nudenet", "--policy", "nsfw", "--no-db")
    for more in ((), ("--allow-ports", f"8080, {server.port}")):
        run = clipmod(*words, *more)
        assert run.code == 6
        assert [record["error"]["code"] for record in run.records] == ["blocked_address"] * 3
    assert server.asked == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no list was named"),
        (("http://example.com/a.jpg",), "is a URL, not a list"),
        (("none.txt",), "no such file"),
        (("LIST", "--header", "no colon"), "--header must be"),
        (("LIST", "--header", "Host: other"), "--header cannot set Host"),
        (("LIST", "--allow-ports", "80;81"), "--allow-ports"),
        (("LIST", "--allow-ports", "70000"), "--allow-ports"),
        (("LIST", "--concurrency", "0"), "--concurrency 0 is below 1"),
        (("LIST", "--timeout", "0"), "--timeout"),
        (("LIST", "--timeout", "nan"), "--timeout"),
        (("LIST", "--retries", "-1"), "--retries -1 is below 0"),
        (("TABLE", "--url-column", "link"), "--url-column names one of: url, b"),
    ],
)
def test_wrong_calls(clipmod: Command, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "list.txt").write_text("http://example.com/\n", encoding="utf-8")
    (tmp_path / "list.csv").write_text("url,b\nhttp://example.com/,1\n", encoding="utf-8")
    given = {"LIST": tmp_path / "list.txt", "TABLE": tmp_path / "list.csv"}
    run = clipmod("urls", *(given.get(word, word) for word in words), "--models", "nudenet")
    assert run.code == 2
    assert said in run.stderr
    assert run.stdout == b""


def test_headers_are_sent_and_their_values_kept_nowhere(
    clipmod: Command, server: Server, tmp_path: Path
) -> None:
    listed, db = tmp_path / "list.txt", tmp_path / "store.duckdb"
    listed.write_text(server.url("/cat.png"), encoding="utf-8")
    words = ("--models", "nudenet", "--policy", "nsfw", "--allow-private", "--db", db)
    run = clipmod("urls", listed, *words, "--header", "X-Token: s3cret", "--header=X-Other: s3cret")
    assert run.code == 0
    assert server.asked[0].headers["x-token"] == server.asked[0].headers["x-other"] == "s3cret"
    stats = clipmod("stats", "--db", db, "--sql", "SELECT command FROM runs")
    assert "--header" in stats.stdout.decode()
    assert "s3cret" not in stats.stdout.decode() + run.stdout.decode() + run.stderr


def test_a_dry_run_asks_nobody(clipmod: Command, server: Server, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text(f"id,url\n1,{server.url('/cat.png')}\n2,nonsense\n3,\n", encoding="utf-8")
    run = clipmod("urls", listed, "--dry-run")
    assert run.code == 0
    facts = json.loads(run.stdout)
    assert (facts["inputs"], facts["invalid_urls"], facts["skipped"]) == (2, 1, {"no URL": 1})
    assert (facts["to_judge"], facts["estimate"]) == (1, None)
    assert "clipmod bench" in facts["no_estimate"]
    assert server.asked == []


def test_an_empty_list_is_fine(clipmod: Command, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("", encoding="utf-8")
    run = clipmod("urls", tmp_path / "list.txt", *NUDENET)
    assert (run.code, run.stdout) == (0, b"")
    assert "no inputs" in run.stderr


def test_a_disk_that_takes_no_originals_ends_the_run(
    clipmod: Command, server: Server, tmp_path: Path
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(server.url("/cat.png"), encoding="utf-8")
    (tmp_path / "file").write_bytes(b"")
    assert clipmod("urls", listed, *NUDENET, "--save-to", tmp_path / "file").code == 5


def test_ctrl_c_ends_promptly_and_the_run_can_be_resumed(
    clipmod: Command, server: Server, tmp_path: Path
) -> None:
    server.on("/slow", drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + bytes(9000), 0.5))
    listed, out = tmp_path / "list.txt", tmp_path / "out.jsonl"
    listed.write_text(
        "\n".join(server.url(path) for path in ("/cat.png", "/slow", "/slow")), encoding="utf-8"
    )
    process = clipmod.start(["urls", listed, *NUDENET, "-o", out], stderr=subprocess.PIPE)
    try:
        _wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") == 1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=15 * slowness())
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"To resume: clipmod urls" in err
    (record,) = read_records(out.read_bytes())
    assert record["source"] == server.url("/cat.png")


def _wait_for(happened: Any) -> None:
    until = time.monotonic() + 200
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)
