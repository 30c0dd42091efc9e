"""The library gives what the command writes."""

from __future__ import annotations

from typing import Any

import clipmod_cli as clipmod
from tests.end_to_end.command import SHAPES, TINY, TINY_ENSEMBLE, Command, read_records

TIMES = ("total_time_ms", "decode_time_ms", "inference_time_ms", "run_id", "run_key")


def _without_times(record: dict[str, Any]) -> Any:
    kept = {name: value for name, value in record.items() if name not in TIMES}
    for seen in (kept["per_model_predictions"] or {}).values():
        seen.pop("inference_time_ms")
    return _rounded(kept)


def _rounded(value: Any) -> Any:
    """Return the value without the last digits of numbers, which a batch's size moves."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


def test_the_library_and_the_command_agree(command_line: Command) -> None:
    sources = [str(TINY / "pictures"), str(TINY / "nothing-here.jpg")]
    written = command_line("scan", *sources, "--policy", SHAPES, "--models", TINY_ENSEMBLE)
    policy = clipmod.load_policy(str(SHAPES))
    ensemble = clipmod.load_ensemble(TINY_ENSEMBLE.split(","), policy)
    facts = clipmod.RunFacts(
        policy=policy.name, policy_hash=policy.hash, threshold=0.5, run_key="library", run_id="library"
    )
    records = [clipmod.to_record(result, facts) for result in clipmod.scan(sources, ensemble, policy)]
    lines = b"".join(record.model_dump_json().encode() + b"\n" for record in records)
    assert [_without_times(r) for r in read_records(lines)] == [_without_times(r) for r in written.records]
    assert len(records) == 11
