"""Statistics as tables and bars for a terminal.

Paths and URLs are untrusted: control characters and markup in them are not interpreted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from clipmod_cli.cli.terminal.stdout import plain
from clipmod_cli.cli.terminal.tables import stdout_console, table_of

if TYPE_CHECKING:
    from clipmod_cli.output.history import store

BAR: Final = 24  # characters; fits into 80 columns beside the numbers
NARROWEST: Final = 12  # characters; narrower columns break words and numbers
SPARKS: Final = "▁▂▃▄▅▆▇█"

OUTCOMES: Final = {"inputs": "inputs", "NSFW": "nsfw", "review": "review"}
CATEGORIES: Final = {"policy": "policy", "category": "category", **OUTCOMES}
POLICIES: Final = {"policy": "policy", "hash": "policy_hash", **OUTCOMES, "errors": "errors"}
TIMES: Final = {"mean ms": "mean_ms", "p95 ms": "p95_ms"}
MODELS: Final = {"model": "model", "inputs": "inputs", **TIMES}
ERRORS: Final = {"code": "code", "inputs": "inputs", "may succeed later": "retryable"}
REASONS: Final = {"reason": "reason", "inputs": "inputs"}
ENDPOINTS: Final = {
    "endpoint": "endpoint", "requests": "requests", "images": "images", "errors": "errors", **TIMES
}  # fmt: skip
RUNS: Final = {
    "started": "started_at", "command": "command", "models": "models", "policy": "policy", **OUTCOMES,
    "errors": "errors", "inputs/s": "inputs_per_s", "ended": "ended",
}  # fmt: skip
"""The keys of `HistoryStore.stats` by column."""


def show(stats: dict[str, Any]) -> None:
    """Print the statistics of `HistoryStore.stats`."""
    console = stdout_console()
    if not stats["totals"]["inputs"] and not stats["runs"]:
        _say(console, f"The statistics database {stats['db']} is empty. `clipmod scan FOLDER` fills it.")
        return
    _show_totals(console, stats)
    _show_rows(console, "Reasons for review", stats["review_reasons"], REASONS, bars=True)
    _show_rows(console, "Categories", stats["categories"], CATEGORIES, bars=True)
    _show_rows(console, "Policies", stats["policies"], POLICIES)
    _show_rows(console, "Models (forward pass)", stats["models"], MODELS)
    latency = stats["latency_ms"]
    if latency["p50"] is not None:
        _say(
            console,
            f"Latency per input including queueing: median {latency['p50']:,.0f} ms, "
            f"95th percentile {latency['p95']:,.0f} ms, 99th {latency['p99']:,.0f} ms.\n",
        )
    _show_rows(console, "Errors", stats["errors"], ERRORS, bars=True)
    if stats["serve"]["total_requests"]:
        _show_rows(console, "Requests to clipmod serve", stats["serve"]["endpoints"], ENDPOINTS)
        _say(console, f"{_serve_summary(stats['serve'])}\n")
    runs = [{**run, "started_at": _local(run["started_at"]), "ended": _ending(run)} for run in stats["runs"]]
    _show_rows(console, "Last runs", runs, RUNS)


def show_answer(answer: store.QueryResult) -> None:
    """Print the result of a query: as one table if its columns fit, else a table for each row."""
    console = stdout_console()
    if len(answer.columns) * NARROWEST <= console.width:
        console.print(table_of(answer.columns, answer.rows))
        return
    for row in answer.rows:
        console.print(table_of(("column", "value"), zip(answer.columns, row, strict=True)))


def bar(value: float, most: float, *, blocks: bool = True) -> str:
    """Return a bar of a length in proportion to the value; empty only for 0."""
    if value <= 0 or most <= 0:
        return ""
    return ("█" if blocks else "#") * max(1, round(BAR * value / most))


def sparkline(values: Sequence[int]) -> str:
    """Return one block for each value, of a height in proportion; a space for 0."""
    most = max(values, default=0)
    steps = len(SPARKS) - 1
    return "".join(SPARKS[round(steps * value / most)] if value else " " for value in values)


def _show_totals(console: Console, stats: dict[str, Any]) -> None:
    totals = stats["totals"]
    span = f", {totals['since'][:10]} to {totals['until'][:10]}" if totals["since"] else ""
    _say(console, f"{totals['inputs']:,} inputs in {_count(totals['runs'], 'run')}{span} (days in UTC)")
    outcomes = ("NSFW", "nsfw"), ("Safe", "safe"), ("no decision", "undecided"), ("error", "errors")
    most = max(totals["inputs"], 1)
    more = ("of these, needs review", "review"), ("of these, less than the ensemble", "degraded")
    rows = [
        (
            name,
            _cell(totals[key]),
            f"{totals[key] / most:.1%}",
            _bar(console, totals[key], most) if (name, key) in outcomes else "",
        )
        for name, key in outcomes + more
        if totals[key] or key not in {"undecided", "degraded"}
    ]
    console.print(table_of(("decision", "inputs", "share", ""), rows, title="Decisions"))
    _show_days(console, stats["days"])


def _show_days(console: Console, days: list[dict[str, Any]]) -> None:
    if len(days) > 1 and _blocks(console):
        counts = [day["inputs"] for day in days]
        line = f"{days[0]['day']} {sparkline(counts)} {days[-1]['day']}"
        _say(console, f"{line}, at most {max(counts):,} inputs a day\n")


def _show_rows(
    console: Console,
    title: str,
    rows: Sequence[dict[str, Any]],
    columns: Mapping[str, str],
    *,
    bars: bool = False,
) -> None:
    """Print a table, with `bars` of the inputs of each row; nothing without rows."""
    if not rows:
        return
    cells = [[_cell(row[key]) for key in columns.values()] for row in rows]
    names = list(columns)
    if bars:
        names.append("")
        most = max(row["inputs"] for row in rows)
        for row, shown in zip(rows, cells, strict=True):
            shown.append(_bar(console, row["inputs"], most))
    console.print(table_of(names, cells, title=title))


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.1f}"
        case list():
            return ", ".join(value)
    return str(value)


def _serve_summary(served: dict[str, Any]) -> str:
    """Return one sentence about all requests to `clipmod serve`."""
    p95, hosted = served["p95_processing_time_ms"], served["total_images_hosted"]
    requests, images = served["total_requests"], served["total_images_processed"]
    parts = [
        f"{_count(requests, 'request')} with {_count(images, 'image')}",
        f"{served['error_rate']:.1%} errors",
        f"95% took at most {p95:,.0f} ms" if p95 is not None else "",
        f"at most {served['max_concurrent_requests']:,} at once",
        f"{_count(hosted, 'image')} hosted now" if hosted else "",
    ]
    return f"{', '.join(part for part in parts if part)}."


def _ending(run: dict[str, Any]) -> str:
    if run["ended"] != "finished":
        return {"running": "still runs", "rebuilt": "rebuilt from its output"}.get(run["ended"], "killed")
    return "finished" if run["exit_code"] == 0 else f"exit code {run['exit_code']}"


def _local(moment: str | None) -> str:
    if moment is None:
        return ""
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _say(console: Console, text: str) -> None:
    console.print(Text("\n".join(plain(line) for line in text.split("\n"))), soft_wrap=True)


def _bar(console: Console, value: float, most: float) -> str:
    return bar(value, most, blocks=_blocks(console))


def _blocks(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")
