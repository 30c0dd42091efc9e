"""Statistics computed by SQL, as objects that are ready for JSON. Formatting is in `clipmod_cli.cli`."""

# ruff: noqa: S608 -- queries are built from constants of this file only

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from clipmod_cli.types import ReviewReason

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


STATS_SCHEMA: Final = "clipmod-stats/1"
LAST_RUNS: Final = 10  # What fits on a screen.
LAST_DAYS: Final = 30

COUNTED: Final = """
    CREATE OR REPLACE TEMP TABLE counted AS
    SELECT run_id, judged_at::DATE AS day, policy, policy_hash, ensemble_category, decided_by, status,
        final_decision, needs_review, degraded, error.code AS code, error.retryable AS retryable,
        review_reasons, list_transform(matches, lambda match: match.bank) AS banks,
        count(*) AS number, min(judged_at) AS since, max(judged_at) AS until
    FROM items GROUP BY ALL
"""
"""Items that are alike in all that is counted are one row, so that the files are read once for all counts."""


def _inputs(condition: str = "true") -> str:
    return f"coalesce(sum(number) FILTER ({condition}), 0)"


OUTCOMES: Final = f"""
    {_inputs()} AS inputs,
    {_inputs("final_decision = 'NSFW'")} AS nsfw,
    {_inputs("needs_review")} AS review,
    {_inputs("status = 'error'")} AS errors
"""
TOTALS: Final = f"""
    SELECT {OUTCOMES},
        {_inputs("final_decision = 'Safe'")} AS safe,
        {_inputs("status = 'ok' AND final_decision IS NULL")} AS undecided,
        {_inputs("degraded")} AS degraded,
        (SELECT count(*) FROM {{runs}}) AS runs,
        min(since) AS since, max(until) AS until
    FROM counted
"""
CATEGORIES: Final = f"""
    SELECT policy, ensemble_category AS category, {OUTCOMES}
    FROM counted WHERE decided_by = 'models' GROUP BY ALL ORDER BY policy, inputs DESC, category
"""
POLICIES: Final = (
    f"SELECT policy, policy_hash, {OUTCOMES} FROM counted GROUP BY ALL ORDER BY inputs DESC, policy"
)
# Evidence from the cache has a forward time of 0.
MODELS: Final = """
    SELECT entry.key AS model, count(*) AS inputs,
        coalesce(avg(nullif(entry.value.inference_time_ms, 0)), 0) AS mean_ms,
        coalesce(quantile_cont(nullif(entry.value.inference_time_ms, 0), 0.95), 0) AS p95_ms
    FROM (SELECT unnest(map_entries(per_model_predictions)) AS entry FROM items)
    GROUP BY ALL ORDER BY inputs DESC, model
"""
TIMES: Final = """
    SELECT quantile_cont(total_time_ms, 0.5) AS p50, quantile_cont(total_time_ms, 0.95) AS p95,
        quantile_cont(total_time_ms, 0.99) AS p99,
        avg(decode_time_ms) AS decode, avg(inference_time_ms) AS inference
    FROM items
"""
ERRORS: Final = f"""
    SELECT code, {_inputs()} AS inputs, any_value(retryable) AS retryable
    FROM counted WHERE status = 'error' GROUP BY ALL ORDER BY inputs DESC, code
"""
BANKS: Final = f"""
    SELECT bank, decided_by AS kind, {_inputs()} AS inputs
    FROM (SELECT decided_by, number, unnest(banks) AS bank FROM counted)
    GROUP BY ALL ORDER BY inputs DESC, bank, kind
"""
REASONS: Final = f"""
    SELECT reason, {_inputs()} AS inputs
    FROM (SELECT number, unnest(review_reasons) AS reason FROM counted)
    GROUP BY reason ORDER BY list_position(?, any_value(reason))
"""
RUNS: Final = f"""
    WITH last AS (SELECT * FROM runs ORDER BY started_at DESC, run_id LIMIT {LAST_RUNS}),
        judged AS (
            SELECT run_id, {OUTCOMES} FROM counted WHERE run_id IN (SELECT run_id FROM last) GROUP BY run_id
        )
    SELECT run_id, started_at, finished_at, command, models, policy, version, ended, exit_code,
        coalesce(inputs, 0) AS inputs, coalesce(nsfw, 0) AS nsfw, coalesce(review, 0) AS review,
        coalesce(errors, 0) AS errors,
        coalesce(inputs, 0) / nullif(epoch(finished_at - started_at), 0) AS inputs_per_s
    FROM last LEFT JOIN judged USING (run_id) ORDER BY started_at DESC, run_id
"""
DAYS: Final = f"""
    WITH ends AS (SELECT min(day) AS first, max(day) AS final FROM counted),
        shown AS (SELECT greatest(first, final - {LAST_DAYS - 1}) AS first, final FROM ends),
        days AS (SELECT unnest(range(first, final + 1, INTERVAL 1 DAY))::DATE AS day FROM shown)
    SELECT strftime(day, '%Y-%m-%d') AS day, {_inputs()} AS inputs,
        {_inputs("final_decision = 'NSFW'")} AS nsfw
    FROM days LEFT JOIN counted USING (day) GROUP BY ALL ORDER BY day
"""


def collect(connection: DuckDBPyConnection, path: Path, size: int) -> dict[str, Any]:
    """Return the statistics of all runs.

    Times are in UTC (ISO 8601), latencies in milliseconds; a number without data is null.
    The keys are a promise: `schema`, `db`, `totals` (inputs, nsfw, safe, undecided, review,
    errors, degraded, runs, since, until), `categories` (by policy and category), `policies`,
    `models` (mean and 95th percentile of the forward pass), `latency_ms` (p50, p95, p99 of an
    input, including queueing), `cost_ms` (means of its decoding and its forward passes), `errors` (by
    code), `review_reasons` (inputs by reason), `banks` (inputs that each bank
    decided), `runs` (the last ten: how each ended is `finished` with an exit code, `killed`, `running`, or
    `rebuilt` from its output), `days` (the last thirty) and `serve` (see
    `collect_serve`).
    """
    return {
        "schema": STATS_SCHEMA,
        "db": str(path),
        **collect_items(connection),
        "runs": _rows(connection, RUNS),
        "days": _rows(connection, DAYS),
        "serve": collect_serve(connection, size),
    }


def collect_items(connection: DuckDBPyConnection, runs: str = "runs") -> dict[str, Any]:
    """Return what the table `items` tells of the inputs: the keys of `collect` up to `runs`.

    Args:
        connection: has the table; it gets the temporary table `counted`.
        runs: SQL for the runs, a row each.
    """
    connection.execute(COUNTED)
    times = _rows(connection, TIMES)[0]
    return {
        "totals": _rows(connection, TOTALS.format(runs=runs))[0],
        "categories": _rows(connection, CATEGORIES),
        "policies": _rows(connection, POLICIES),
        "models": _rows(connection, MODELS),
        "latency_ms": {name: times[name] for name in ("p50", "p95", "p99")},
        "cost_ms": {name: times[name] for name in ("decode", "inference")},
        "errors": _rows(connection, ERRORS),
        "review_reasons": _rows(connection, REASONS, list(get_args(ReviewReason))),
        "banks": _rows(connection, BANKS),
    }


def _rows(connection: DuckDBPyConnection, query: str, *values: Any) -> list[dict[str, Any]]:
    answer = connection.execute(query, values)
    names = [column[0] for column in answer.description or ()]
    return [dict(zip(names, map(_plain, row), strict=True)) for row in answer.fetchall()]


def _plain(value: Any) -> Any:
    return f"{value.isoformat(timespec='seconds')}Z" if isinstance(value, datetime) else value


MB: Final = 1_000_000

# Requests without pictures, such as refused ones, do not count.
LATENCIES: Final = """
    avg(time_ms) FILTER (images > 0) AS {mean},
    quantile_cont(time_ms, 0.95) FILTER (images > 0) AS {p95},
    quantile_cont(time_ms, 0.99) FILTER (images > 0) AS {p99}
"""
REQUESTS: Final = f"""
    SELECT count(*) AS total_requests,
        coalesce(avg((status >= 500)::INTEGER), 0) AS error_rate,
        {LATENCIES.format(mean="average_latency_ms", p95="p95_latency_ms", p99="p99_latency_ms")},
        coalesce(max(concurrent), 0) AS max_concurrent_requests
    FROM requests
"""
# A bank's decision has no cost.
DECISIONS: Final = """
    WITH judged AS (
        SELECT final_decision, confidence, coalesce(decode_time_ms, 0) + inference_time_ms AS cost_ms
        FROM items WHERE run_id IN (SELECT run_id FROM requests) AND final_decision IS NOT NULL
    )
    SELECT count(*) AS total_images_processed,
        count(*) FILTER (final_decision = 'NSFW') AS nsfw_detections,
        count(*) FILTER (final_decision = 'Safe') AS safe_detections,
        count(*) AS total_predictions_stored,
        avg(confidence) AS average_confidence,
        avg(cost_ms) AS average_processing_time_ms,
        quantile_cont(cost_ms, 0.95) AS p95_processing_time_ms,
        quantile_cont(cost_ms, 0.99) AS p99_processing_time_ms
    FROM judged
"""
JUDGES: Final = """
    SELECT judged_by, count(*) FROM requests WHERE judged_by IS NOT NULL GROUP BY ALL ORDER BY 2 DESC, 1
"""
HOSTED: Final = "SELECT count(*) AS total_images_hosted FROM hosted WHERE expires_at > ?"
ENDPOINTS: Final = f"""
    SELECT endpoint, count(*) AS requests, coalesce(sum(images), 0)::BIGINT AS images,
        count(*) FILTER (status >= 500) AS errors,
        {LATENCIES.format(mean="mean_ms", p95="p95_ms", p99="p99_ms")}
    FROM requests GROUP BY ALL ORDER BY requests DESC, endpoint
"""


def collect_serve(connection: DuckDBPyConnection, size: int, hosted: int | None = None) -> dict[str, Any]:
    """Return the statistics of `serve`, whose files have `size` bytes.

    How many pictures are hosted is counted by reading a file for each, if it is not given.

    The keys: `total_requests`, `error_rate` (share of requests with a status of 500 or more: a caller's
    mistake is no error), `average_`, `p95_` and `p99_latency_ms` (of requests with pictures or videos, from
    their first byte to the last of the answer), `max_concurrent_requests` (that were judged at once),
    `total_images_processed` (that have a decision), the same as `total_predictions_stored` and as
    `nsfw_detections` and `safe_detections` together, `average_confidence`, `average_`, `p95_` and
    `p99_processing_time_ms` (of a picture: decoding and forward passes), `models_usage` (requests by
    `judged_by`),
    `total_images_hosted` (not expired), `database_size_mb` (a million bytes each) and `endpoints`
    (each with requests, images, errors, and times in milliseconds). A number without
    data is null.
    """
    now = datetime.now(UTC).replace(tzinfo=None)
    return {
        **_rows(connection, REQUESTS)[0],
        **_rows(connection, DECISIONS)[0],
        **(_rows(connection, HOSTED, now)[0] if hosted is None else {"total_images_hosted": hosted}),
        "models_usage": dict(connection.execute(JUDGES).fetchall()),
        "database_size_mb": size / MB,
        "endpoints": _rows(connection, ENDPOINTS),
    }
