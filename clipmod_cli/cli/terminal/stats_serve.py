"""How `clipmod stats` tells a person of the requests that `clipmod serve` answered; draws nothing itself."""

from __future__ import annotations

from typing import Any, Final

NAMES: Final = ("endpoint", "requests", "images", "errors", "mean ms", "p95 ms")


def rows(served: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a table's row for each endpoint, under `NAMES`."""
    return [
        (
            one["endpoint"],
            f"{one['requests']:,}",
            f"{one['images']:,}",
            f"{one['errors']:,}",
            _number(one["mean_ms"]),
            _number(one["p95_ms"]),
        )
        for one in served["endpoints"]
    ]


def sentence(served: dict[str, Any]) -> str:
    """Return what holds for all endpoints together."""
    p95, hosted = served["p95_processing_time_ms"], served["total_images_hosted"]
    requests, images = served["total_requests"], served["total_images_processed"]
    told = [
        f"{_count(requests, 'request')} with {_count(images, 'image')}",
        f"{served['error_rate']:.1%} errors",
        f"95% took at most {p95:,.0f} ms" if p95 is not None else "",
        f"at most {served['max_concurrent_requests']:,} at once",
        f"{_count(hosted, 'image')} hosted now" if hosted else "",
    ]
    return f"{', '.join(part for part in told if part)}."


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
