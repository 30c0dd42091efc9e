"""The statistics of some outputs, as those of all runs (`clipmod_cli.output.history.stats`)."""

from __future__ import annotations

from typing import Any, Final

from clipmod_cli.output.history.stats import STATS_SCHEMA, collect_items
from clipmod_cli.output.reading.records import RecordReader

NEEDED: Final = (
    "run_id", "status", "final_decision", "needs_review", "degraded", "policy", "policy_hash",
    "ensemble_category", "per_model_predictions", "total_time_ms",
    "decode_time_ms", "inference_time_ms", "error", "review_reasons", "decided_by", "matches",
)  # fmt: skip

RUNS: Final = "(SELECT DISTINCT run_id FROM counted WHERE run_id IS NOT NULL)"


def count_records(reader: RecordReader) -> dict[str, Any]:
    """Return counts by outcome, category, policy, model, error and reason for review.

    The keys are those of `clipmod stats --json` that do not need the history, `records`, the names of the
    outputs, and `last_runs`, what their run cards tell of new, gone and moved inputs. Those that are
    gone or moved are counted with the others. What no record tells is null, as when they were judged.

    Raises:
        UsageError: a record cannot be read.
        OutputError: more is needed than memory, and no temporary file can be written.
    """
    columns = ", ".join(f'"{name}"' for name in NEEDED)
    # Of lines each query over the view would parse all of them again.
    kind = "VIEW" if reader.is_columnar else "TABLE"
    reader.execute(
        f"CREATE {kind} items AS SELECT {columns}, NULL::TIMESTAMP AS judged_at FROM records"  # noqa: S608
    )
    names = list(dict.fromkeys(file.name for file in reader.files))  # all parts have the name of their run
    with reader.translated():
        items = collect_items(reader.connection, RUNS)
    return {
        "schema": STATS_SCHEMA,
        "records": names,
        "last_runs": reader.cards.last_counts(),
        **items,
    }
