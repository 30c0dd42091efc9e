"""What the store knows of `clipmod serve`, over all its runs.

A run is one of `serve` if it has requests. How the numbers are shown, and what only the living
process knows (how long it is up), is left to others.
"""

# ruff: noqa: S608 -- the queries are made of this file's own constants and of nothing else

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MB: Final = 1_000_000

# Requests that brought nothing to judge, such as a refused one, say nothing of how long judging takes.
TIMES: Final = """
    avg(time_ms) FILTER (images > 0) AS {mean},
    quantile_cont(time_ms, 0.95) FILTER (images > 0) AS {p95},
    quantile_cont(time_ms, 0.99) FILTER (images > 0) AS {p99}
"""
REQUESTS: Final = f"""
    SELECT count(*) AS total_requests,
        coalesce(sum(images), 0)::BIGINT AS total_images_processed,
        coalesce(avg((status >= 400)::INTEGER), 0) AS error_rate,
        {TIMES.format(
            mean="average_processing_time_ms", p95="p95_processing_time_ms", p99="p99_processing_time_ms"
        )},
        coalesce(max(concurrent), 0) AS max_concurrent_requests
    FROM requests
"""  # fmt: skip
DECISIONS: Final = """
    SELECT count(*) AS total_predictions_stored,
        count(*) FILTER (final_decision = 'NSFW') AS nsfw_detections,
        count(*) FILTER (final_decision = 'Safe') AS safe_detections,
        avg(confidence) AS average_confidence
    FROM items WHERE run_id IN (SELECT run_id FROM requests)
"""
JUDGES: Final = """
    SELECT judged_by, count(*) FROM requests WHERE judged_by IS NOT NULL GROUP BY ALL ORDER BY 2 DESC, 1
"""
HOSTED: Final = "SELECT count(*) AS total_images_hosted FROM hosted WHERE expires_at > ?"
ENDPOINTS: Final = f"""
    SELECT endpoint, count(*) AS requests, coalesce(sum(images), 0)::BIGINT AS images,
        count(*) FILTER (status >= 400) AS errors,
        {TIMES.format(mean="mean_ms", p95="p95_ms", p99="p99_ms")}
    FROM requests GROUP BY ALL ORDER BY requests DESC, endpoint
"""


def collect_serve(connection: DuckDBPyConnection, path: Path) -> dict[str, Any]:
    """Return what the store knows of `serve`, as an object that is ready for JSON.

    The keys: `total_requests`, `total_images_processed`, `error_rate` (requests with a status of 400
    or more, of all), `average_`, `p95_` and `p99_processing_time_ms` (of requests that brought
    pictures or videos), `max_concurrent_requests`, `total_predictions_stored`, `nsfw_detections`,
    `safe_detections`, `average_confidence`, `models_usage` (requests by who judged),
    `total_images_hosted` (not expired), `database_size_mb` (a million bytes each) and `endpoints`
    (each with requests, images, errors, and times in milliseconds). A number that nothing is known
    of is null.
    """
    now = datetime.now(UTC).replace(tzinfo=None)
    return {
        **_rows(connection, REQUESTS)[0],
        **_rows(connection, DECISIONS)[0],
        **_rows(connection, HOSTED, now)[0],
        "models_usage": dict(connection.execute(JUDGES).fetchall()),
        "database_size_mb": path.stat().st_size / MB if path.exists() else 0.0,
        "endpoints": _rows(connection, ENDPOINTS),
    }


def _rows(connection: DuckDBPyConnection, query: str, *values: Any) -> list[dict[str, Any]]:
    answer = connection.execute(query, values)
    names = [column[0] for column in answer.description or ()]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
