"""Runs in parts by the real command: whatever processes judge, `merge` gives what a plain scan writes."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.errors import DeviceLostError
from clipmod_cli.output.parquet import read_lines
from clipmod_cli.output.resuming.card import RunCard
from clipmod_cli.output.resuming.files import open_lines, whole_records
from clipmod_cli.results import Result
from clipmod_cli.runs.loaded import LoadedRun
from clipmod_cli.types import Failure, Item
from tests.end_to_end.command import SHAPE_OPTIONS, TINY, Command, Record, read_records
from tests.end_to_end.conftest import clipmod, folder
from tests.end_to_end.killing import ALONE, make_pictures, started, wait_until
from tests.urls.server import reply, serving

__all__ = ["clipmod", "folder"]

OPTIONS = (*SHAPE_OPTIONS, "--no-isolate", "-q")
PLAIN = (*OPTIONS, "--no-db")
OF_THE_RUN = ("run_id", "total_time_ms", "decode_time_ms", "inference_time_ms")


def without_run_fields(records: Iterable[Record]) -> list[list[tuple[str, Any]]]:
    """Return the fields of records, in their order, but for those that differ from run to run."""
    kept = []
    for record in records:
        models = {
            name: one | {"inference_time_ms": 0.0}
            for name, one in (record["per_model_predictions"] or {}).items()
        }
        kept.append(list((record | dict.fromkeys(OF_THE_RUN) | {"per_model_predictions": models}).items()))
    return kept


def merged(clipmod: Command, out: Path, *options: str) -> list[Record]:
    target = out.parent / "merged.jsonl"
    run = clipmod("merge", f"{out}/", "-o", target, "--overwrite", *options)
    assert run.code == 0, run.stderr
    return read_records(target.read_bytes())


def plain(clipmod: Command, *sources: str | Path) -> list[Record]:
    run = clipmod("scan", *sources, *PLAIN, "--json")
    assert run.code in {0, 3}, run.stderr
    return run.records


def test_three_shards_of_which_one_is_killed_make_a_plain_scan(
    clipmod: Command, folder: Path, tmp_path: Path
) -> None:
    make_pictures(folder, 42)
    out = tmp_path / "run"
    words = ("scan", folder, *ALONE, "-q", "-o", f"{out}/", "--part-size", "2")
    with (
        started(clipmod, *words, "--shard", "1/3") as first,
        started(clipmod, *words, "--shard", "2/3") as killed,
        started(clipmod, *words, "--shard", "3/3") as third,
    ):
        wait_until((out / "done" / "part-000007.json").exists, killed)
        killed.kill()
        killed.wait()
        assert (first.wait(), third.wait()) == (0, 0)
    missing = clipmod("parts", f"{out}/", "--missing")
    assert missing.stdout.decode().strip() == "2"
    told = json.loads(clipmod("parts", f"{out}/", "--json").stdout)
    assert told["parts"] == 21
    assert set(told["missing"]) <= set(range(7, 14))
    refused = clipmod("merge", f"{out}/", "-o", tmp_path / "all.jsonl")
    assert refused.code == 2
    assert "parts are missing" in refused.stderr
    assert not (tmp_path / "all.jsonl").exists()
    assert clipmod(*words, "--shard", "2/3").code == 0
    assert clipmod("parts", f"{out}/", "--missing").stdout == b""
    assert list((out / "attempts").glob("*.json")) == []
    assert len(list((out / "parts").glob("[!.]*"))) == 21  # what the killed process left is removed
    scanned = clipmod("scan", folder, *ALONE, "-q", "--no-db", "--json").records
    assert without_run_fields(merged(clipmod, out)) == without_run_fields(scanned)


def test_archives_lists_and_missing_files_are_merged_as_a_plain_scan_writes_them(
    clipmod: Command, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(TINY / "pictures", folder, dirs_exist_ok=True)
    with zipfile.ZipFile(folder / "d.zip", "w") as archive:
        for path in sorted((TINY / "pictures").glob("red*")):
            archive.write(path, f"in/{path.name}")
        archive.writestr("in/notes.txt", "no picture")
        archive.writestr("torn.png", b"\x89PNG\r\n\x1a\n")
    with zipfile.ZipFile(folder / "empty.zip", "w") as archive:
        archive.writestr("notes.txt", "no picture")
    (folder / "notes.txt").write_text("no picture")
    (folder / "picture.psd").write_bytes(b"8BPS\x00\x01" + bytes(40))
    sources = (folder, tmp_path / "absent.png", folder / "d.zip")
    out = tmp_path / "run"
    expected = without_run_fields(plain(clipmod, *sources))
    for form in ("parquet", "jsonl"):
        shutil.rmtree(out, ignore_errors=True)
        run = clipmod("scan", *sources, *OPTIONS, "-o", f"{out}/", "--part-size", "3", "--format", form)
        assert run.code == 3, run.stderr
        records = merged(clipmod, out)
        assert [record["index"] for record in records] == list(range(len(records)))
        assert without_run_fields(records) == expected


def test_the_plan_is_used_and_extended(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    names = make_pictures(folder, 5)
    out = tmp_path / "run"
    words = ("scan", folder, *OPTIONS, "-o", f"{out}/", "--part-size", "2")
    assert clipmod(*words, "--plan-only").code == 0
    assert not (out / "done").exists()
    Path(names[1]).write_bytes(Path(names[0]).read_bytes())  # changed, and of another size in all likelihood
    shutil.copy(names[0], folder / "aaa.png")
    assert clipmod(*words).code == 0
    commits = sorted((out / "done").iterdir())
    before = [path.read_bytes() for path in commits]
    assert [record["source"] for record in merged(clipmod, out)] == names
    told = clipmod("scan", folder, *SHAPE_OPTIONS, "-o", f"{out}/")
    assert (told.code, "--extend lists the inputs again" in told.stderr) == (0, True)
    shutil.copy(TINY / "pictures" / "red-circle.jpg", names[2])
    extended = clipmod(*words, "--extend")
    assert extended.code == 0, extended.stderr
    assert [path.read_bytes() for path in commits] == before  # done parts are left as they are
    records = merged(clipmod, out)
    assert [record["source"] for record in records] == [*names, str(folder / "aaa.png")]
    assert [record["index"] for record in records] == list(range(6))
    assert records[2]["final_decision"] == "NSFW"
    plan = out / "plan" / "plan-000000.parquet"
    assert clipmod("merge", out, "-o", plan, "--overwrite").code == 2
    card = RunCard.read(tmp_path / "merged.jsonl")
    assert card.facts["run_key"] == records[0]["run_key"]
    assert {one.directory for one in card.conditions.values()} == {str(Path.cwd())}
    assert {one.folders for one in card.conditions.values()} == {((str(folder), str(folder.resolve())),)}
    assert set(card.conditions) == {record["run_id"] for record in records}
    query = "SELECT count(*) AS records, count_if(final_decision = 'NSFW') AS nsfw FROM records"
    rows = clipmod("stats", "--from", f"{out}/", "--sql", query).stdout
    assert json.loads(rows) == {"records": 6, "nsfw": 1}
    generations = json.loads((out / "run.json").read_text())["parts"]["generations"]
    assert clipmod(*words, "--extend").code == 0
    assert json.loads((out / "run.json").read_text())["parts"]["generations"] == generations


def test_failed_inputs_are_retried_in_a_generation_of_their_own(
    clipmod: Command, folder: Path, tmp_path: Path
) -> None:
    names = make_pictures(folder, 4)
    whole = Path(names[1]).read_bytes()
    Path(names[1]).write_bytes(whole[:40])
    out = tmp_path / "run"
    words = ("scan", folder, *OPTIONS, "-o", f"{out}/", "--part-size", "2")
    assert clipmod(*words).code == 3
    assert merged(clipmod, out)[1]["error"] is not None
    Path(names[1]).write_bytes(whole)
    assert clipmod(*words, "--retry", "timeout").code == 3
    assert len(list((out / "done").iterdir())) == 2  # no input failed so
    retried = clipmod(*words, "--retry", "errors")
    assert retried.code == 0, retried.stderr
    assert len(list((out / "done").iterdir())) == 3
    assert clipmod(*words).code == 0  # as it was left
    assert clipmod(*words, "--extend").code == 0
    assert len(list((out / "done").iterdir())) == 4  # one input has changed since it was listed
    shutil.copy(names[0], names[3])
    assert clipmod(*words, "--retry", "errors", "--extend").code == 0
    plan = json.loads((out / "run.json").read_text())["parts"]["generations"]
    assert [[file["inputs"] for file in one["files"]] for one in plan] == [[4], [1], [1], [1]]
    told = json.loads(clipmod("parts", f"{out}/", "--json").stdout)
    assert told["counts"] == {"nsfw": 0, "safe": 4, "review": 0, "error": 0}
    assert (told["codes"], told["records"], told["inputs"], told["generations"]) == ({}, 4, 7, 4)
    records = merged(clipmod, out)
    assert [record["source"] for record in records] == names
    assert [record["status"] for record in records] == ["ok"] * 4
    query = 'SELECT "index", status FROM records ORDER BY "index"'
    rows = clipmod("stats", "--from", f"{out}/", "--sql", query).stdout.decode().splitlines()
    assert [json.loads(row) for row in rows] == [{"index": n, "status": "ok"} for n in range(4)]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet", "csv"])
def test_a_merged_output_is_as_that_of_a_scan(
    clipmod: Command, folder: Path, tmp_path: Path, ending: str
) -> None:
    names = make_pictures(folder, 5)
    Path(names[3]).write_bytes(b"no picture")
    out, whole, alone = tmp_path / "run", tmp_path / f"merged.{ending}", tmp_path / f"plain.{ending}"
    assert clipmod("scan", folder, *OPTIONS, "-o", f"{out}/", "--part-size", "2").code == 3
    killed = tmp_path / f".{whole.name}.abcdefgh.part"
    killed.mkdir()
    (killed / "lines").write_bytes(b"{")
    merge = clipmod("merge", out, "-o", whole)
    assert (merge.code, f"5 records written to {whole}" in merge.stderr) == (0, True)
    assert clipmod("merge", out, "-o", whole).code == 2  # it is there
    assert clipmod("scan", folder, *PLAIN, "-o", alone).code == 3
    assert read_table(whole) == read_table(alone)
    beside = {path.name.replace("merged", "plain") for path in tmp_path.glob("[!.]*merged*")}
    assert {path.name for path in tmp_path.glob("plain*")} >= beside
    assert not killed.exists()
    Path(names[3]).write_bytes(Path(names[0]).read_bytes())
    assert clipmod("scan", folder, *PLAIN, "-o", whole).code == 0
    records = [json.loads(line) for line in decoded_lines(whole_records(whole))]
    assert sorted(Counter(record["run_id"] for record in records).values()) == [1, 4]  # one is retried


def read_table(path: Path) -> list[dict[str, str]] | list[list[list[tuple[str, Any]]]]:
    """Return the rows of a CSV file, or the records of an output, without the fields of a run."""
    if path.suffix != ".csv":
        return [without_run_fields(map(json.loads, decoded_lines(path)))]
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in OF_THE_RUN} for row in csv.DictReader(file)]


def decoded_lines(path: Path) -> list[bytes]:
    if path.suffix == ".parquet":
        return list(read_lines(path))
    with open_lines(path) as file:
        return list(file)


def test_the_exit_code_is_that_of_the_newest_records(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    names = make_pictures(folder, 3)
    blue = Path(names[0]).read_bytes()
    shutil.copy(TINY / "pictures" / "red-circle.jpg", names[1])
    Path(names[2]).write_bytes(blue[:40])
    failing = ("--fail-on", "nsfw", "--fail-on", "error")
    words = ("scan", folder, *OPTIONS, "-o", f"{tmp_path}/run/", "--part-size", "2", *failing)
    assert clipmod(*words, "--extend").code == 1
    Path(names[2]).write_bytes(blue)
    assert clipmod(*words, "--extend").code == 1  # there is no error any more, but something NSFW
    Path(names[1]).write_bytes(blue)
    assert clipmod(*words, "--extend").code == 0
    assert clipmod(*words).code == 0
    assert clipmod(*words, "--shard", "1/2").code == 1  # a shard tells of all that it has judged
    shutil.copy(TINY / "pictures" / "red-circle.jpg", names[0])
    assert clipmod(*words, "--extend").code == 1
    decisions = [record["final_decision"] for record in merged(clipmod, tmp_path / "run")]
    assert decisions == ["NSFW", "Safe", "Safe"]
    for name in names:
        Path(name).write_bytes(b"torn")
    assert clipmod(*words, "--extend").code == 6  # of none is there a verdict any more
    for name in names:
        Path(name).write_bytes(blue)
    codes = [clipmod(*words, "--retry", "errors", "--shard", f"{one}/2").code for one in (1, 2, 1, 2)]
    assert codes[2:] == [0, 0]  # also of the one whose own records were all errors


def test_a_process_with_another_run_key_takes_no_part(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    make_pictures(folder, 2)
    out = tmp_path / "run"
    words = ("scan", folder, *OPTIONS, "-o", f"{out}/", "--part-size", "1")
    assert clipmod(*words, "--shard", "1/2").code == 0
    refused = clipmod(*words, "--shard", "2/2", "--threshold", "0.123")
    key = json.loads((out / "run.json").read_text())["run_key"]
    assert refused.code == 2
    assert f"run_key {key}, and this process has" in refused.stderr
    assert "threshold 0.5, now 0.123" in refused.stderr
    assert len(list((out / "done").iterdir())) == 1
    for planned, other in (("part-size", "2"), ("format", "jsonl")):
        refused = clipmod(*words, f"--{planned}", other)
        assert (refused.code, f"was planned with --{planned}" in refused.stderr) == (2, True)
    elsewhere = clipmod("scan", folder, TINY, *OPTIONS, "-o", f"{out}/", "--shard", "2/2")
    assert elsewhere.code == 2
    assert "other inputs: sources" in elsewhere.stderr


def fail_at_the_models(name: str) -> tuple[str, Any]:
    """Return what makes a process fail when its models come to an input."""
    results = LoadedRun.results

    def judge(self: LoadedRun, items: Iterable[Item | Failure], **options: Any) -> Any:
        def watched() -> Iterator[Item | Failure]:
            for item in items:
                if isinstance(item, Item) and item.source.endswith(name):
                    raise DeviceLostError("the device is lost")
                yield item

        return results(self, watched(), **options)

    return "results", judge


def fail_at_the_record(name: str) -> tuple[str, Any]:
    """Return what makes a process fail when it makes the record of an input that was judged."""
    record = LoadedRun.record

    def make_record(self: LoadedRun, result: Result, **options: Any) -> Any:
        if not isinstance(result, Failure) and result.item.source.endswith(name):
            raise DeviceLostError("the device is lost")
        return record(self, result, **options)

    return "record", make_record


@pytest.mark.parametrize("fail", [fail_at_the_models, fail_at_the_record])
def test_an_input_that_takes_its_process_down_becomes_a_record(
    clipmod: Command,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fail: Callable[[str], tuple[str, Any]],
) -> None:
    names = make_pictures(folder, 5)
    monkeypatch.setattr(LoadedRun, *fail("0002.png"))
    out = tmp_path / "run"
    words = ("scan", folder, *OPTIONS, "-o", f"{out}/", "--part-size", "4")
    codes = [clipmod(*words).code for _ in range(5)]
    # twice as a whole, twice input by input, and then without it
    assert codes == [70, 70, 70, 70, 3]
    records = merged(clipmod, out)
    assert [record["source"] for record in records] == names
    assert [record["error"] and record["error"]["code"] for record in records] == [
        None, None, "worker_lost", None, None,
    ]  # fmt: skip
    assert list((out / "attempts").glob("*.json")) == []


def test_urls_of_a_host_stay_together_and_come_in_the_order_of_the_list(
    clipmod: Command, tmp_path: Path
) -> None:
    picture = (TINY / "pictures" / "red-square.avif").read_bytes()
    with serving() as server:
        server.on("/p", reply(body=picture, content_type="image/avif"))
        hosts = ("localhost", "127.0.0.1")
        urls = [f"{server.url('/p', host=hosts[n % 2])}?{n}" for n in range(6)]
        urls[3] = "http://user:secret@127.0.0.1/x"
        (tmp_path / "list.txt").write_text("\n".join(urls))
        out = tmp_path / "run"
        words = ("urls", tmp_path / "list.txt", *OPTIONS, "--allow-private", "-o", f"{out}/")
        run = clipmod(*words, "--part-size", "3")
        assert run.code == 3, run.stderr
    records = merged(clipmod, out)
    masked = [url.replace("user:secret", "***") for url in urls]
    assert [(record["index"], record["source"]) for record in records] == list(enumerate(masked))
    assert [record["error"] and record["error"]["code"] for record in records][3] == "invalid_url"
    for path in (out / "parts").iterdir():
        assert len({json.loads(line)["source"].split("/")[2] for line in read_lines(path)}) <= 2
    assert not any(b"secret" in path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_an_array_job_tells_the_shard(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    make_pictures(folder, 4)
    out = tmp_path / "run"
    words = ("scan", folder, *OPTIONS, "-o", f"{out}/", "--part-size", "1")

    def slurm(task: int, first: int, last: int, count: int) -> dict[str, str]:
        values = {"ID": task, "MIN": first, "MAX": last, "COUNT": count}
        return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}

    assert clipmod(*words, env=slurm(5, 5, 8, 4)).code == 0
    assert clipmod("parts", f"{out}/", "--missing").stdout.decode().strip() == "6-8"
    assert clipmod(*words, env=slurm(7, 7, 8, 2)).code == 0  # submitted again, in part
    assert json.loads(clipmod("parts", f"{out}/", "--json").stdout)["missing"] == [1, 3]
    beyond = clipmod(*words, env=slurm(9, 9, 9, 1))
    assert beyond.code == 2
    assert "there is no task 9: the run has 4, from 5 to 8" in beyond.stderr


def test_relative_paths_belong_to_the_directory_of_the_plan(
    clipmod: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(folder, 1)
    monkeypatch.chdir(tmp_path)
    words = ("scan", folder.name, *OPTIONS, "-o", f"{tmp_path}/run/")
    assert clipmod(*words, "--plan-only").code == 0
    monkeypatch.chdir(folder)
    refused = clipmod(*words)
    assert refused.code == 2
    assert f"was planned in {tmp_path} with paths that are relative to it" in refused.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--evidence", "e"), "--evidence has no effect with parts"),
        (("--early-exit", "calibrated"), "--early-exit calibrated"),
        (("--fail-on", "new-nsfw"), "--fail-on new-nsfw"),
        (("--db", "x.duckdb"), "--db has no effect with parts"),
        (("--shard", "3/2"), "I must be from 1 to N"),
        (("--shard", "x"), "--shard must be I/N"),
        (("--part-size", "0"), "--part-size must be at least 1"),
        (("--models", "opensfw"), "'opensfw' is not a model"),
    ],
)
def test_what_parts_do_not_have_is_refused(
    clipmod: Command, folder: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    refused = clipmod("scan", folder, *SHAPE_OPTIONS, "-o", f"{tmp_path}/run/", *options)
    assert refused.code == 2
    assert message in refused.stderr
    assert not (tmp_path / "run").exists()
