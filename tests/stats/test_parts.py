"""Statistics over the parts of a run: in whatever form they lie, they are those counted record by record."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import pytest

from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output import database
from clipmod_cli.output.parquet import write_parquet
from clipmod_cli.output.reading.counts import count_records
from clipmod_cli.output.reading.part_files import FilePart, open_part_files
from clipmod_cli.records import to_line, to_record
from tests.results import RUN, plain_failure, plain_verdict

Row = dict[str, Any]


def drawn_records(random: Random, indices: Iterable[int]) -> Iterator[Row]:
    """Yield records that differ in all that is counted."""
    for index in indices:
        if random.random() < 0.2:
            failure = plain_failure(index, random.choice(["timeout", "decode_error"]))
            yield json.loads(to_line(to_record(failure, RUN)))
            continue
        row = json.loads(to_line(to_record(plain_verdict(index, unsafe=random.random()), RUN)))
        row |= {
            "policy": random.choice("pq"),
            "run_id": random.choice("ab"),
            "degraded": random.random() < 0.1,
        }
        row |= {
            "total_time_ms": random.choice([None, 9 * random.random()]),
            "decode_time_ms": random.random(),
        }
        reasons = random.sample(["truncated", "low_agreement", "colour"], random.choice([0, 0, 1, 2]))
        row |= {"review_reasons": reasons, "needs_review": bool(reasons)}
        for prediction in row["per_model_predictions"].values():
            prediction["inference_time_ms"] = random.choice([0.0, random.random()])
        if random.random() < 0.3:
            banks = random.sample("xy", random.choice([1, 2]))
            row["matches"] = [{"bank": bank, "type": None, "note": None} for bank in banks]
            row |= {"decided_by": random.choice(["deny", "allow"]), "per_model_predictions": None}
        if random.random() < 0.05:
            row["final_decision"] = None
        yield row


def outcomes(records: Sequence[Row]) -> Row:
    return {
        "inputs": len(records),
        "nsfw": sum(one["final_decision"] == "NSFW" for one in records),
        "review": sum(one["needs_review"] is True for one in records),
        "errors": sum(one["status"] == "error" for one in records),
    }


def by(records: Iterable[Row], *names: str) -> dict[tuple[Any, ...], Row]:
    groups = defaultdict(list)
    for one in records:
        groups[tuple(one[name] for name in names)].append(one)
    return {key: outcomes(some) for key, some in groups.items()}


def keyed(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], Row]:
    return {tuple(row.pop(name) for name in names): row for row in rows}


def times_of(records: Iterable[Row], name: str) -> list[float]:
    return [one[name] for one in records if one[name] is not None]


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_statistics_of_parts_are_counted_record_by_record(
    tmp_path: Path, form: Literal["parquet", "jsonl"]
) -> None:
    random, parts = Random(7), []
    newest: dict[int, Row] = {}
    for number, indices in enumerate((range(150), range(150, 300), range(100, 200, 3))):
        given = list(drawn_records(random, indices))
        newest |= {one["index"]: one for one in given}
        path = tmp_path / f"{number}.{form}"
        lines = [json.dumps(one).encode() + b"\n" for one in given]
        write_parquet(lines, path) if form == "parquet" else path.write_bytes(b"".join(lines))
        parts.append(FilePart(path=path, count=len(lines), generation=number // 2))
    with open_part_files("run", parts, is_parquet=form == "parquet", facts={}) as reader:
        found = count_records(reader)
    records = list(newest.values())
    judged = [one for one in records if one["status"] == "ok"]
    assert found["totals"] == outcomes(records) | {
        "safe": sum(one["final_decision"] == "Safe" for one in judged),
        "undecided": sum(one["final_decision"] is None for one in judged),
        "degraded": sum(one["degraded"] for one in judged),
        "runs": len({one["run_id"] for one in records}),
        "since": None,
        "until": None,
    }
    by_models = [one for one in judged if one["decided_by"] == "models"]
    categories = keyed(found["categories"], "policy", "category")
    assert categories == by(by_models, "policy", "ensemble_category")
    policies = keyed(found["policies"], "policy", "policy_hash")
    assert policies == by(records, "policy", "policy_hash")
    errors = Counter((one["error"]["code"], one["error"]["retryable"]) for one in records if one["error"])
    assert {(row["code"], row["retryable"]): row["inputs"] for row in found["errors"]} == errors
    reasons = Counter(reason for one in judged for reason in one["review_reasons"])
    assert {row["reason"]: row["inputs"] for row in found["review_reasons"]} == reasons
    banks = Counter((match["bank"], one["decided_by"]) for one in judged for match in one["matches"] or ())
    assert {(row["bank"], row["kind"]): row["inputs"] for row in found["banks"]} == banks
    total = times_of(records, "total_time_ms")
    told = found["latency_ms"]
    assert [told["p50"], told["p95"], told["p99"]] == pytest.approx(np.quantile(total, [0.5, 0.95, 0.99]))
    means = [np.mean(times_of(judged, f"{name}_time_ms")) for name in ("decode", "inference")]
    assert [found["cost_ms"]["decode"], found["cost_ms"]["inference"]] == pytest.approx(means)
    for row in found["models"]:
        asked = [one["per_model_predictions"][row["model"]] for one in judged if one["per_model_predictions"]]
        taken = [one["inference_time_ms"] for one in asked if one["inference_time_ms"]]
        assert row["inputs"] == len(asked)
        assert [row["mean_ms"], row["p95_ms"]] == pytest.approx([np.mean(taken), np.quantile(taken, 0.95)])


def test_a_part_of_lines_may_be_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MEMORY", "200MB")
    path, line = tmp_path / "part.jsonl", to_line(to_record(plain_verdict(0), RUN))
    count = 150_000_000 // len(line)
    path.write_bytes(line * count)
    parts = [FilePart(path=path, count=count, generation=0)]
    with open_part_files("run", parts, is_parquet=False, facts={}) as reader:
        assert reader.rows("SELECT count(final_decision) AS n FROM records") == [{"n": count}]


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write_parquet([to_line(to_record(plain_verdict(0), RUN))], path)
    parts = [FilePart(path=path, count=1, generation=0)]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UsageError, match=r"part\.parquet"):  # noqa: SIM117 - it is raised on opening
        with open_part_files("run", parts, is_parquet=True, facts={}):
            pass
    path.write_bytes(whole[:4] + bytes(200) + whole[204:])
    with (
        open_part_files("run", parts, is_parquet=True, facts={}) as reader,
        pytest.raises((UsageError, OutputError)),
    ):
        count_records(reader)
