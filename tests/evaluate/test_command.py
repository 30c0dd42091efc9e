"""`clipmod eval` on records: labels, joins, refusals and exit codes."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.end_to_end.command import Command, Outcome
from tests.evaluate.kit import record

Eval = Callable[..., Outcome]


def write(path: Path, scores: Sequence[float | None], **fields: Any) -> Path:
    lines = (json.dumps(record(number, score, **fields)) + "\n" for number, score in enumerate(scores))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def table(path: Path, labels: Sequence[str], column: str = "label") -> Path:
    path.write_text(f"source,{column}\n" + "".join(f"p/{n}.jpg,{one}\n" for n, one in enumerate(labels)))
    return path


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Four inputs, of which the second is missed and the third a false alarm."""
    return write(tmp_path / "out.jsonl", [0.9, 0.2, 0.8, 0.1])


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return table(tmp_path / "labels.csv", ["NSFW", "explicit", "Safe", "neutral"])


def numbers(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.stderr
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


def test_records_are_read_plain_compressed_and_from_stdin(
    clipmod: Command, records: Path, labels: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(records.read_bytes()))
    plain = numbers(clipmod("eval", records, "--labels", labels, "--json", "-"))
    assert plain["quality"]["NSFW"]["ensemble"]["recall"]["value"] == 0.5
    assert plain["quality"]["NSFW"]["ensemble"]["false_alarm_rate"]["value"] == 0.5
    assert [one["source"] for one in plain["misjudged"]["missed"]] == ["p/1.jpg"]
    assert plain["policy"] == "nsfw"
    again = numbers(clipmod("eval", packed, "--labels", labels, "--json", "-"))
    piped = clipmod.process("eval", "-", "--labels", labels, "--json", "-", stdin=records.read_bytes())
    for found in (again, numbers(piped)):
        assert found["quality"] == plain["quality"]


def test_the_summary_fits_a_terminal_and_names_the_mistakes(
    clipmod: Command, records: Path, labels: Path
) -> None:
    done = clipmod("eval", records, "--labels", labels, "--prevalence", "0.5%", "--slice", "format,kind,size")
    text = done.stdout.decode()
    assert done.code == 0
    assert max(map(len, text.splitlines())) <= 80
    assert "Missed: 1" in text
    assert "p/1.jpg" in text
    assert "1 of 2" in text
    assert "Of a million inputs" in text
    assert "latency per input including queueing" in text
    assert "\x1b" not in text


def test_labels_can_be_mapped_and_named_otherwise(clipmod: Command, records: Path, tmp_path: Path) -> None:
    given = table(tmp_path / "labels.csv", ["porn", "porn", "cat", "unsure"], "what")
    call = ("eval", records, "--labels", given, "--label-column", "what")
    refused = clipmod(*call)
    assert refused.code == 2
    assert "porn (2), cat (1), unsure (1)" in refused.stderr
    label_map = tmp_path / "map.toml"
    label_map.write_text('porn = "explicit"\ncat = "Safe"\nunsure = false\n')
    found = numbers(clipmod(*call, "--label-map", label_map, "--json", "-"))
    assert found["labels"]["given"] == 3
    assert found["quality"]["explicit"]["ensemble"]["positives"] == 2


@pytest.mark.parametrize(("matched", "code"), [(94, 2), (95, 0)])
def test_95_per_cent_of_the_labels_must_be_matched(
    clipmod: Command, tmp_path: Path, matched: int, code: int
) -> None:
    records = write(tmp_path / "out.jsonl", [0.9, 0.1] * (matched // 2) + [0.9] * (matched % 2))
    given = table(tmp_path / "labels.csv", ["NSFW", "Safe"] * 50)
    done = clipmod("eval", records, "--labels", given)
    assert done.code == code, done.stderr
    assert (f"only {matched} of 100 labels" in done.stderr) == (code == 2)
    allowed = numbers(clipmod("eval", records, "--labels", given, "--allow-unmatched", "--json", "-"))
    assert (allowed["labels"]["matched"], allowed["labels"]["unmatched"]) == (matched, 100 - matched)


def test_labels_of_moved_files_need_a_root(clipmod: Command, tmp_path: Path) -> None:
    record_file = tmp_path / "out.jsonl"
    lines = [json.dumps(record(n, 0.9, source=f"/data/uploads/p/{n}.jpg", sha256=None)) for n in range(2)]
    record_file.write_text("\n".join(lines) + "\n")
    given = table(tmp_path / "labels.csv", ["NSFW", "Safe"])
    lost = clipmod("eval", record_file, "--labels", given)
    assert lost.code == 2
    assert "none of the 2 labels belongs to a record" in lost.stderr
    found = numbers(clipmod("eval", record_file, "--labels", given, "--root", "/data/uploads", "--json", "-"))
    assert found["labels"]["matched"] == 2


def test_labels_that_disagree_are_told_and_left_out(clipmod: Command, records: Path, labels: Path) -> None:
    with labels.open("a") as file:
        file.write("p/0.jpg,Safe\n")
    done = clipmod("eval", records, "--labels", labels, "--allow-unmatched", "--json", "-")
    assert "the labels of p/0.jpg disagree (NSFW, Safe); it is left out" in done.stderr
    counts = numbers(done)["labels"]
    assert (counts["conflicting"], counts["matched"], counts["evaluated"]) == (2, 3, 3)


def test_other_records_are_compared(clipmod: Command, records: Path, labels: Path, tmp_path: Path) -> None:
    old = write(tmp_path / "old.jsonl", [0.2, 0.2, 0.2, 0.1], threshold=0.7, policy_hash="0" * 8)
    call = ("eval", records, "--labels", labels, "--against", old)
    found = numbers(clipmod(*call, "--json", "-"))["against"]
    assert found["caught"] == {"ours": 1, "theirs": 0, "p": 1.0}
    assert found["spared"] == {"ours": 0, "theirs": 1, "p": 1.0}
    assert [(one["name"], one["before"], one["after"]) for one in found["flips"]] == [
        ("p/2.jpg", "Safe", "NSFW"),
        ("p/0.jpg", "Safe", "NSFW"),
    ]
    assert "2 inputs have another outcome" in clipmod(*call).stdout.decode()


def test_the_report_may_be_about_a_category(clipmod: Command, records: Path, labels: Path) -> None:
    found = numbers(clipmod("eval", records, "--labels", labels, "--positive", "explicit", "--json", "-"))
    assert found["positive"] == "explicit"
    assert [one["source"] for one in found["misjudged"]["missed"]] == ["p/1.jpg"]
    unknown = clipmod("eval", records, "--labels", labels, "--positive", "gore")
    assert unknown.code == 2
    assert (
        "no label and score tell whether an input is gore; --positive may be one of NSFW, neutral, explicit"
        in unknown.stderr
    )


def test_an_unknown_policy_has_to_be_named_for_categories(
    clipmod: Command, labels: Path, tmp_path: Path
) -> None:
    records = write(tmp_path / "own.jsonl", [0.9, 0.1], policy="own", policy_hash="0" * 8)
    refused = clipmod("eval", records, "--labels", labels)
    assert refused.code == 2
    assert "--policy names the policy whose categories may be labels too" in refused.stderr
    other = clipmod("eval", records, "--labels", labels, "--policy", "nsfw")
    assert other.code == 2
    assert "judged by the policy own 00000000, not by nsfw" in other.stderr
    plain = numbers(
        clipmod("eval", records, "--labels", table(tmp_path / "two.csv", ["NSFW", "Safe"]), "--json", "-")
    )
    assert list(plain["quality"]) == ["NSFW"]
    assert list(plain["quality"]["NSFW"]) == ["ensemble"]


def test_weighted_labels_make_rates_of_the_population(
    clipmod: Command, records: Path, tmp_path: Path
) -> None:
    given = tmp_path / "audit.csv"
    given.write_text(
        "source,label,probability\np/0.jpg,NSFW,1\np/1.jpg,NSFW,0.25\np/2.jpg,Safe,1\np/3.jpg,Safe,0.1\n"
    )
    found = numbers(clipmod("eval", records, "--labels", given, "--json", "-"))
    whole = found["quality"]["NSFW"]["ensemble"]
    assert found["labels"]["weighted"] is True
    assert whole["recall"]["value"] == pytest.approx(1 / 5)
    assert whole["false_alarm_rate"]["value"] == pytest.approx(1 / 11, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prevalence", "2"], "--prevalence must be over 0 and under 1"),
        (["--prevalence", "x%"], "--prevalence must be over 0 and under 1"),
        (["--slice", "colour"], "--slice may list format, size, kind, not colour"),
        (["--seconds-each", "0"], "--seconds-each must be over 0"),
        (["-o", "report.pdf"], "its name must end in .html"),
        (["--records", "kept.jsonl"], "--records has no effect"),
        (["--models", "nudenet"], "--models has no effect on records"),
        (["--json", "{records}"], "error: --json "),
        (["--json", "/proc/x.json"], "--json /proc/x.json must be the name of a file"),
        (["--json", "{labels}"], "are the same file"),
        (["--label-map", "gone.toml"], "cannot read the label map gone.toml"),
    ],
)
def test_wrong_calls_are_refused(
    clipmod: Command, records: Path, labels: Path, words: list[str], said: str
) -> None:
    before = records.read_bytes(), labels.read_bytes()
    named = [word.format(records=records, labels=labels) for word in words]
    done = clipmod("eval", records, "--labels", labels, *named)
    assert done.code == 2
    assert said in done.stderr
    assert (records.read_bytes(), labels.read_bytes()) == before


def test_an_existing_report_is_kept(clipmod: Command, records: Path, labels: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("mine")
    call = ("eval", records, "--labels", labels, "-o", report)
    assert clipmod(*call).code == 2
    assert report.read_text() == "mine"
    assert clipmod(*call, "--overwrite").code == 0
    assert "How good is it?" in report.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "holds no records"), ('{"a": 1}\n', "line 1 is not a clipmod record"), ("source\n", "line 1")],
)
def test_what_is_no_records_is_refused(
    clipmod: Command, labels: Path, tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text(content)
    done = clipmod("eval", path, "--labels", labels)
    assert done.code == 2
    assert said in done.stderr


def test_faulty_labels_are_told_before_the_scan(clipmod: Command, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    given = table(tmp_path / "labels.csv", ["what"])
    done = clipmod("eval", tmp_path / "p", "--labels", given, "--policy", "nsfw", "--models", "gone:model")
    assert done.code == 2
    assert "what (1)" in done.stderr


def test_a_missing_package_is_named(clipmod: Command, records: Path, labels: Path) -> None:
    there = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        return None if name == "sklearn" else there(name, package)

    with mock.patch.object(importlib.util, "find_spec", find):
        done = clipmod("eval", records, "--labels", labels)
    assert done.code == 4
    assert "evaluating needs the extra eval: " in done.stderr
    assert "install" in done.stderr


def test_a_category_over_its_own_threshold_is_found(clipmod: Command, labels: Path, tmp_path: Path) -> None:
    records = tmp_path / "own.jsonl"
    lines = [record(0, 0.9, category="nudity"), record(1, 0.2), record(2, 0.8), record(3, 0.1)]
    lines[1] |= {"matched_categories": ["explicit"], "category_scores": {"explicit": 0.7, "nudity": 0.1}}
    records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = numbers(clipmod("eval", records, "--labels", labels, "--positive", "explicit", "--json", "-"))
    assert found["quality"]["explicit"]["ensemble"]["recall"]["value"] == 1
    assert found["quality"]["explicit"]["ensemble"]["auroc"]["value"] == 1


def test_what_is_no_file_of_records_is_refused_not_scanned(
    clipmod: Command, records: Path, labels: Path, tmp_path: Path
) -> None:
    parts = tmp_path / "run"
    parts.mkdir()
    (parts / "run.json").write_text("{}")
    refused = clipmod("eval", f"{parts}/", "--labels", labels)
    assert (refused.code, f"clipmod merge {parts}/ -o all.jsonl" in refused.stderr) == (2, True)
    against = clipmod("rescore", tmp_path / "EV", "--against", parts)
    assert (against.code, f"clipmod merge {parts} -o all.jsonl" in against.stderr) == (2, True)
    scanned = tmp_path / "out.csv"
    scanned.write_text("source\n")
    records.rename(tmp_path / "out.csv.records.parquet")
    refused = clipmod("eval", scanned, "--labels", labels)
    assert (refused.code, f"Its records are in {scanned}.records.parquet" in refused.stderr) == (2, True)
