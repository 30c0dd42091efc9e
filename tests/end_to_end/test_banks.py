"""Banks of hashes through the real command: what they decide, where it is told, and how it is undone."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.command import (
    SHAPE_OPTIONS,
    SHAPES,
    TINY,
    TINY_L,
    Command,
    Record,
    by_name,
    read_records,
)
from tests.urls.server import Server, reply, serving

NO_PICTURE = b"\x89PNG\r\n\x1a\n and nothing that could be decoded"
WORDS = (*SHAPE_OPTIONS, "--no-db")


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def bank(path: Path, *entries: Path, note: str = "") -> Path:
    rows = "".join(f"{sha(entry)},,{note}\n" for entry in entries)
    path.write_text(f"sha256,type,note\n{rows}", encoding="utf-8")
    return path


@pytest.fixture
def pictures(folder: Path) -> dict[str, Path]:
    """A red circle (NSFW by the models), a blue square (Safe), and a file that cannot be decoded."""
    red, blue, broken = folder / "a-red.jpg", folder / "b-blue.png", folder / "c-broken.png"
    red.write_bytes((TINY / "pictures" / "red-circle.jpg").read_bytes())
    blue.write_bytes((TINY / "pictures" / "blue-square.png").read_bytes())
    broken.write_bytes(NO_PICTURE)
    return {"red": red, "blue": blue, "broken": broken}


def brief(record: Record) -> tuple[str | None, str | None]:
    return record["final_decision"], record["decided_by"]


def outcomes(path: Path) -> dict[str, tuple[str | None, str | None]]:
    return {name: brief(record) for name, record in by_name(read_records(path.read_bytes())).items()}


BY_MODELS = {"a-red.jpg": ("NSFW", "models"), "b-blue.png": ("Safe", "models"), "c-broken.png": (None, None)}


def test_banks_decide_and_the_record_says_so(
    clipmod: Command, folder: Path, pictures: dict[str, Path], out: Path
) -> None:
    deny = bank(out.parent / "deny.csv", pictures["blue"], note="=seen before")
    allow = bank(out.parent / "allow.csv", pictures["red"], pictures["broken"])
    run = clipmod("scan", folder, *WORDS, "-o", out, "--bank", f"deny:{deny}", "--bank", f"allow:{allow}")
    assert run.code == 0, run.stderr
    assert outcomes(out) == {
        "a-red.jpg": ("Safe", "allow"),
        "b-blue.png": ("NSFW", "deny"),
        "c-broken.png": ("Safe", "allow"),
    }
    record = by_name(read_records(out.read_bytes()))["b-blue.png"]
    assert record["matches"] == [{"bank": "deny.csv", "type": None, "note": "=seen before"}]
    nothing = (
        "unsafe_score",
        "confidence",
        "ensemble_category",
        "models_used",
        "width",
        "height",
        "kind",
        "view",
    )
    assert {record[name] for name in nothing} == {None}
    assert (record["sha256"], record["bytes"]) == (sha(pictures["blue"]), pictures["blue"].stat().st_size)
    assert record["total_time_ms"] > 0
    assert "deny 1" in run.stderr
    assert "allow 2" in run.stderr
    assert sha(pictures["blue"]) not in run.stderr
    card = json.loads((out.parent / f"{out.name}.run.json").read_bytes())
    assert card["banks"][0] == {
        "name": "deny.csv", "kind": "deny", "sha256": sha(deny), "hashes": 1, "distance": None,
            "not_compared": {},
    }  # fmt: skip


def test_no_hash_is_in_the_log(clipmod: Command, folder: Path, pictures: dict[str, Path], out: Path) -> None:
    deny, log = bank(out.parent / "deny.csv", pictures["red"]), out.parent / "log"
    allow = bank(out.parent / "allow.csv", pictures["red"], pictures["blue"])
    banks = ("--bank", f"deny:{deny}", "--bank", f"allow:{allow}")
    run = clipmod("scan", folder, *WORDS, "-o", out, *banks, "--log-file", log, "-v")
    assert outcomes(out)["a-red.jpg"] == ("NSFW", "deny")
    text = run.stderr + log.read_text(encoding="utf-8")
    assert "the deny bank deny.csv and the allow bank allow.csv share hashes (1): these are denied" in text
    assert not any(sha(path) in text for path in pictures.values())


def test_a_changed_bank_decides_old_records_anew(
    clipmod: Command, folder: Path, pictures: dict[str, Path], out: Path
) -> None:
    words = ("scan", folder, *WORDS, "-o", out)
    assert clipmod(*words).code == 3
    assert outcomes(out) == BY_MODELS
    deny = bank(out.parent / "deny.csv", pictures["blue"])
    allow = bank(out.parent / "allow.csv", pictures["broken"])
    blue, status = pictures["blue"].read_bytes(), pictures["blue"].stat()
    pictures["blue"].write_bytes(blue[::-1])  # only a reader could tell
    os.utime(pictures["blue"], ns=(status.st_atime_ns, status.st_mtime_ns))
    banks = ("--bank", f"deny:{deny}", "--bank", f"allow:{allow}")
    run = clipmod(*words, *banks, "--fail-on", "new-nsfw")
    assert run.code == 1, run.stderr
    assert "3 done (2 decided again by banks), 0 to retry" in run.stderr
    assert outcomes(out) == {**BY_MODELS, "b-blue.png": ("NSFW", "deny"), "c-broken.png": ("Safe", "allow")}
    assert clipmod("list", out, "--new").stdout.decode().split() == [
        str(pictures[n]) for n in ("blue", "broken")
    ]
    whole = out.read_bytes()
    run = clipmod(*words, *banks, "--fail-on", "new-nsfw")
    assert run.code == 0, "it is known"
    assert out.read_bytes() == whole
    pictures["blue"].write_bytes(blue)
    clipmod(*words, *banks)
    run = clipmod(*words)
    assert run.code == 3
    assert "1 records were NSFW by a deny bank, and models judge them again" in run.stderr
    assert outcomes(out) == BY_MODELS, "models judge again what no bank holds any more"
    assert len(out.read_bytes().splitlines()) == 3


def test_compact_records_are_decided_anew_too(
    clipmod: Command, folder: Path, pictures: dict[str, Path], out: Path
) -> None:
    words = ("scan", folder, *WORDS, "-o", out, "--record", "compact")
    assert clipmod(*words).code == 3
    deny = bank(out.parent / "deny.csv", pictures["blue"])
    assert clipmod(*words, "--bank", f"deny:{deny}").code == 3
    lines = {Path(one["source"]).name: one for one in map(json.loads, out.read_bytes().splitlines())}
    assert {one["schema"] for one in lines.values()} == {"clipmod/1-compact"}
    assert {name: brief(one) for name, one in lines.items()} == {**BY_MODELS, "b-blue.png": ("NSFW", "deny")}
    stats = json.loads(clipmod("stats", out, "--json").stdout)
    assert stats["banks"] == [{"bank": "deny.csv", "kind": "deny", "inputs": 1}]


def test_an_archives_own_hash_decides_nothing_and_a_members_does(
    clipmod: Command, folder: Path, pictures: dict[str, Path], out: Path
) -> None:
    archive = folder / "d.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.write(pictures["red"], "red.jpg")
        made.write(pictures["blue"], "blue.jpg")
    deny = bank(out.parent / "deny.csv", pictures["blue"])
    for kind in ("allow", "deny"):
        own = bank(out.parent / "own.csv", archive)
        run = clipmod("scan", archive, *WORDS, "-o", out, "--overwrite", "--bank", f"{kind}:{own}")
        assert run.code == 0, run.stderr
        members = {one["member"]: brief(one) for one in read_records(out.read_bytes())}
        assert members == {"red.jpg": ("NSFW", "models"), "blue.jpg": ("Safe", "models")}
    assert clipmod("scan", archive, *WORDS, "-o", out, "--overwrite", "--bank", f"deny:{deny}").code == 0
    members = {one["member"]: brief(one) for one in read_records(out.read_bytes())}
    assert members == {"red.jpg": ("NSFW", "models"), "blue.jpg": ("NSFW", "deny")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0123\n", "line 1"),
        ("", "is empty"),
        ("indicator,type\n0123,HASH_PDQ\n", "is empty: it holds no SHA-256 (HASH_PDQ 1)"),
        (None, "cannot be read"),
    ],
)
@pytest.mark.parametrize("kind", ["deny", "allow"])
def test_a_broken_bank_stops_the_run(
    content: str | None, message: str, kind: str, clipmod: Command, folder: Path, out: Path
) -> None:
    path = out.parent / "bank.csv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    run = clipmod("scan", folder, *WORDS, "-o", out, "--bank", f"{kind}:{path}")
    assert run.code == 2
    assert str(path) in run.stderr
    assert message in run.stderr
    assert not out.exists()


def test_a_bank_is_never_overwritten(clipmod: Command, folder: Path, pictures: dict[str, Path]) -> None:
    deny = bank(folder.parent / "deny.jsonl", pictures["red"])
    before = deny.read_bytes()
    run = clipmod("scan", folder, *WORDS, "-o", deny, "--overwrite", "--bank", f"deny:{deny}")
    assert run.code == 2
    assert deny.read_bytes() == before


def test_records_of_banks_are_told_everywhere(
    clipmod: Command, folder: Path, pictures: dict[str, Path], out: Path
) -> None:
    deny = bank(out.parent / "deny.csv", pictures["blue"], note="<b>known</b>")
    assert clipmod("scan", folder, *SHAPE_OPTIONS, "-o", out, "--bank", f"deny:{deny}").code == 3
    names = clipmod("list", out, "--nsfw").stdout.decode().split()
    assert names == [str(pictures["red"]), str(pictures["blue"])]
    stats = clipmod("stats", out)
    assert b"deny.csv" in stats.stdout
    assert b"Decided by banks" in clipmod("stats").stdout
    sheet = out.parent / "sheet.html"
    assert clipmod("report", out, "-o", sheet).code == 0
    assert "NSFW: bank deny.csv (&lt;b&gt;known&lt;/b&gt;)" in sheet.read_text(encoding="utf-8")
    table = out.parent / "out.csv"
    columns = "source,final_decision,decided_by,unsafe_score"
    assert clipmod("export", out, "-o", table, "--columns", columns).code == 0
    assert "b-blue.png,NSFW,deny,\n" in table.read_text(encoding="utf-8").replace("\r", "")
    assert clipmod("export", out, "-o", out.parent / "out.parquet").code == 0
    query = "SELECT decided_by, matches[1].bank AS bank FROM records WHERE decided_by = 'deny'"
    answer = clipmod("stats", out, "--sql", query)
    assert json.loads(answer.stdout) == {"decided_by": "deny", "bank": "deny.csv"}


def test_eval_leaves_out_what_banks_decided(
    clipmod: Command, folder: Path, pictures: dict[str, Path], out: Path
) -> None:
    deny = bank(out.parent / "deny.csv", pictures["blue"])
    labels = out.parent / "labels.csv"
    rows = [(pictures["red"], "nsfw"), (pictures["blue"], "safe")]
    labels.write_text(
        "sha256,label\n" + "".join(f"{sha(path)},{label}\n" for path, label in rows), encoding="utf-8"
    )
    pictures["broken"].unlink()
    assert clipmod("scan", folder, *WORDS, "-o", out, "--bank", f"deny:{deny}").code == 0
    run = clipmod("eval", out, "--labels", labels, "--policy", SHAPES, "--json", "-")
    assert run.code == 0, run.stderr
    counted = json.loads(run.stdout)["labels"]
    assert (counted["matched"], counted["evaluated"], counted["by_banks"]) == (2, 1, 1)
    everything = bank(out.parent / "all.csv", pictures["red"], pictures["blue"])
    words = ("scan", folder, *WORDS, "-o", out, "--overwrite")
    assert clipmod(*words, "--bank", f"deny:{everything}").code == 0
    run = clipmod("eval", out, "--labels", labels, "--policy", SHAPES)
    assert run.code == 2
    assert "banks decided all 2 inputs that have a label" in run.stderr


def test_evidence_is_complete_and_is_rescored_with_other_banks(
    clipmod: Command, folder: Path, pictures: dict[str, Path], out: Path
) -> None:
    deny = bank(out.parent / "deny.csv", pictures["blue"])
    evidence, new = out.parent / "EV", out.parent / "new.jsonl"
    words = ("scan", folder, *WORDS, "-o", out, "--evidence", evidence, "--bank", f"deny:{deny}")
    assert clipmod(*words).code == 3
    assert outcomes(out) == {**BY_MODELS, "b-blue.png": ("NSFW", "deny")}
    whole = out.read_bytes()
    assert clipmod(*words).code == 3
    assert out.read_bytes() == whole
    assert clipmod("rescore", evidence, "--policy", SHAPES, "-o", new).code == 3
    assert outcomes(new) == BY_MODELS
    allow = bank(out.parent / "allow.csv", pictures["red"], pictures["broken"])
    again = ("rescore", evidence, "--policy", SHAPES, "-o", new, "--overwrite", "--bank", f"allow:{allow}")
    assert clipmod(*again).code == 0
    assert outcomes(new) == {
        "a-red.jpg": ("Safe", "allow"), "b-blue.png": ("Safe", "models"), "c-broken.png": ("Safe", "allow")
    }  # fmt: skip


@pytest.fixture
def server(pictures: dict[str, Path]) -> Iterator[Server]:
    with serving() as made:
        for name, path in pictures.items():
            made.on(f"/{name}", reply(body=path.read_bytes()))
        made.on("/cut", reply(body=pictures["blue"].read_bytes()[:-10]))
        yield made


def test_downloads_are_compared_by_the_bytes_received(
    clipmod: Command, server: Server, pictures: dict[str, Path], out: Path
) -> None:
    listed = out.parent / "list.txt"
    listed.write_text("".join(f"{server.url(f'/{n}')}\n" for n in ("red", "blue", "cut")), encoding="utf-8")
    words = ("urls", listed, *WORDS, "--allow-private", "-o", out)
    allow = bank(out.parent / "allow.csv", pictures["blue"])
    assert clipmod(*words, "--bank", f"allow:{allow}").code == 0
    found = outcomes(out)
    assert found["red"] == ("NSFW", "models")
    assert found["blue"] == ("Safe", "allow")
    assert found["cut"][1] == "models"
    asked = len(server.asked)
    deny = bank(out.parent / "deny.csv", pictures["red"])
    assert clipmod(*words, "--bank", f"allow:{allow}", "--bank", f"deny:{deny}").code == 0
    assert outcomes(out) == {**found, "red": ("NSFW", "deny")}
    assert len(server.asked) == asked, "nothing was downloaded again"


def test_a_verdict_is_put_right_for_good(
    clipmod: Command, folder: Path, pictures: dict[str, Path], out: Path
) -> None:
    words = ("scan", pictures["red"], *WORDS, "-o", out)
    assert clipmod(*words).code == 0
    run = clipmod("allow", pictures["red"], "--note", "our own, sign")
    assert (run.code, run.stdout) == (0, b"")
    (made,) = clipmod.home.rglob("allow.csv")
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert f"--bank allow:{made}" in run.stderr
    config = clipmod.home / "XDG_CONFIG_HOME" / "clipmod" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'bank = ["allow:{made}"]\n', encoding="utf-8")
    assert clipmod(*words).code == 0
    (record,) = read_records(out.read_bytes())
    assert brief(record) == ("Safe", "allow")
    assert record["matches"] == [{"bank": "allow.csv", "type": None, "note": "our own, sign"}]
    run = clipmod("allow", pictures["red"])
    assert "0 added, 1 there already" in run.stderr
    assert "to use it" not in run.stderr, "the settings name it"
    assert clipmod("allow", "--list").stdout == f"{sha(pictures['red'])}\t\tour own, sign\n".encode()
    assert "1 removed" in clipmod("allow", "--remove", pictures["red"]).stderr
    assert clipmod(*words).code == 0, "an allow bank may be empty"
    assert outcomes(out) == {"a-red.jpg": ("NSFW", "models")}


def test_content_is_denied_by_its_hash(clipmod: Command, pictures: dict[str, Path], out: Path) -> None:
    deny = out.parent / "deny.csv"
    run = clipmod("deny", "--sha256", sha(pictures["blue"]).upper(), "--type", "spam", "--bank", deny)
    assert run.code == 0, run.stderr
    run = clipmod("scan", pictures["blue"], *WORDS, "--json", "--bank", f"deny:{deny}", "--fail-on", "nsfw")
    assert run.code == 1
    assert run.records[0]["matches"] == [{"bank": "deny.csv", "type": "spam", "note": None}]


def test_several_commands_may_add_at_once(clipmod: Command, out: Path) -> None:
    path = out.parent / "allow.csv"
    started = [clipmod.start(["allow", "--bank", path, "--sha256", f"{number:064x}"]) for number in range(6)]
    assert [one.wait(60) for one in started] == [0] * 6
    assert len(path.read_text(encoding="utf-8").splitlines()) == 7
    assert [one.name for one in out.parent.iterdir()] == ["allow.csv"]


def test_options_without_effect_are_refused(clipmod: Command, pictures: dict[str, Path]) -> None:
    for words in (
        ("allow",),
        ("allow", "--list", pictures["red"]),
        ("allow", "--remove", "--note", "x", pictures["red"]),
        ("allow", "--sha256", "12"),
        ("allow", pictures["red"].parent),
        ("allow", pictures["red"], "none.jpg"),
        ("scan", pictures["red"], "--bank", "deny:x.csv:31"),
        ("scan", pictures["red"], "--bank", "x.csv"),
    ):
        assert clipmod(*words).code == 2, words
    assert not list(clipmod.home.rglob("allow.csv"))


def test_a_class_list_without_unsafe_words_may_be_denied(
    clipmod: Command, pictures: dict[str, Path], out: Path
) -> None:
    deny = bank(out.parent / "deny.csv", pictures["blue"])
    words = ("scan", pictures["blue"], "--models", TINY_L, "--classes", "cat, dog", "--no-db", "--json")
    run = clipmod(*words, "--bank", f"deny:{deny}", "--fail-on", "nsfw")
    assert run.code == 1, run.stderr
    assert brief(run.records[0]) == ("NSFW", "deny")
