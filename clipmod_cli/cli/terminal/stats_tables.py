"""Statistics as tables and bars for a terminal.

Paths and URLs are untrusted: control characters and markup in them are not interpreted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.padding import Padding
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
ERRORS: Final = {"code": "code", "inputs": "inputs", "retryable": "retryable"}
REASONS: Final = {"reason": "reason", "inputs": "inputs"}
BANKS: Final = {"bank": "bank", "kind": "kind", "inputs": "inputs"}
ENDPOINTS: Final = {
    "endpoint": "endpoint", "requests": "requests", "images": "images", "errors": "errors", **TIMES
}  # fmt: skip
"""The keys of `HistoryStore.stats` by column."""


def show(stats: dict[str, Any]) -> None:
    """Print the statistics of `HistoryStore.stats`, or of `reading.counts.count_records`."""
    console = stdout_console()
    if not stats["totals"]["inputs"] and not stats.get("runs"):
        _say(console, _empty(stats))
        return
    _show_totals(console, stats)
    _show_rows(console, "Reasons for review", stats["review_reasons"], REASONS, bars=True)
    _show_rows(console, "Categories", _grouped(stats["categories"]), CATEGORIES, bars=True)
    _show_rows(console, "Decided by banks", stats["banks"], BANKS)
    _show_rows(console, "Policies", stats["policies"], POLICIES)
    _show_rows(console, "Models (forward pass, for one picture)", stats["models"], MODELS)
    _show_times(console, stats["latency_ms"], stats["cost_ms"])
    _show_rows(console, "Errors", stats["errors"], ERRORS, bars=True)
    if "db" in stats:
        _show_history(console, stats)


def _show_times(console: Console, latency: dict[str, Any], cost: dict[str, Any]) -> None:
    """Print how long inputs take, and what they cost: many are worked on at once."""
    if cost["inference"] is not None:
        decode = f"decoding {cost['decode']:,.0f} ms, " if cost["decode"] is not None else ""
        _say(console, f"Cost of an input, mean: {decode}forward passes {cost['inference']:,.0f} ms.")
    if latency["p50"] is not None:
        _say(
            console,
            f"Latency of an input, queueing included: median {latency['p50']:,.0f} ms,\n95th percentile "
            f"{latency['p95']:,.0f} ms, 99th {latency['p99']:,.0f} ms.\n",
        )


def _show_history(console: Console, stats: dict[str, Any]) -> None:
    """Print what only the history knows: requests and runs."""
    if stats["serve"]["total_requests"]:
        _show_rows(console, "Requests to clipmod serve", stats["serve"]["endpoints"], ENDPOINTS)
        _say(console, f"{_serve_summary(stats['serve'])}\n")
    if stats["runs"]:
        console.print(Text("Last runs", style="bold"))
    for run in stats["runs"]:
        console.print(Padding(Text(_run_summary(run)), (0, 0, 0, 1)))
        command = Text(plain(run["command"] or ""), style="dim")
        console.print(Padding(command, (0, 0, 0, 3)), overflow="fold")


def _empty(stats: dict[str, Any]) -> str:
    if "db" not in stats:
        return f"No records and no decisions in {', '.join(stats['records'])} yet."
    return f"The statistics database {stats['db']} is empty. `clipmod scan FOLDER` fills it."


def _grouped(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows in which a policy is named only once, in its first row."""
    before = [None, *(row["policy"] for row in rows)]
    return [
        {**row, "policy": "" if row["policy"] == last else row["policy"]}
        for row, last in zip(rows, before, strict=False)
    ]


def _run_summary(run: dict[str, Any]) -> str:
    parts = [
        _count(run["inputs"], "input"),
        f"{run['nsfw']:,} NSFW",
        f"{run['review']:,} to review",
        _count(run["errors"], "error") if run["errors"] else "",
        f"{run['inputs_per_s']:,.1f}/s" if run["inputs_per_s"] is not None else "",
        _ending(run),
    ]
    return f"{_local(run['started_at'])}  {', '.join(part for part in parts if part)}"


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
    head = f"{_count(totals['inputs'], 'input')} in {_count(totals['runs'], 'run')}"
    _say(console, f"{head}{_span(totals['since'], totals['until'])}")
    outcomes = ("NSFW", "nsfw"), ("Safe", "safe"), ("no decision", "undecided"), ("error", "errors")
    most = max(totals["inputs"], 1)
    more = ("of these, needs review", "review"), ("of these, less than the ensemble", "degraded")
    shown = [one for one in outcomes + more if totals[one[1]] or one[1] not in {"undecided", "degraded"}]
    rows = [(name, _cell(totals[key]), f"{totals[key] / most:.1%}") for name, key in shown]
    for run in stats.get("last_runs", ()):
        moved = f", {run['moved']:,} moved by `clipmod apply`" if run["moved"] else ""
        told = f"{run['new'] or 0:,} new in the last run, {run['gone'] or 0:,} gone since{moved}"
        _say(console, f"{run['name']}: {told} (counted below)")
    bars = [_bar(console, totals[one[1]], most) if one in outcomes else "" for one in shown]
    _print_table(console, ("decision", "inputs", "share"), rows, bars, "Decisions")
    _show_days(console, stats.get("days", []))


def _span(since: str | None, until: str | None) -> str:
    if since is None or until is None:
        return ""
    first, last = since[:10], until[:10]
    return f" on {first} (UTC)" if first == last else f", {first} to {last} (days in UTC)"


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
    most = max(row["inputs"] for row in rows) if bars else 0
    shown = [_bar(console, row["inputs"], most) for row in rows] if bars else []
    _print_table(console, list(columns), cells, shown, title)


def _print_table(
    console: Console, names: Sequence[str], cells: Sequence[Sequence[str]], bars: Sequence[str], title: str
) -> None:
    """Print a table with a bar at the end of each row, if the width has room for bars."""
    if bars:
        wide = table_of(
            (*names, ""), [(*row, shown) for row, shown in zip(cells, bars, strict=True)], title=title
        )
        if console.measure(wide, options=console.options.update(max_width=1000)).maximum <= console.width:
            console.print(wide)
            return
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
    p95, hosted = served["p95_latency_ms"], served["total_images_hosted"]
    requests, images = served["total_requests"], sum(one["images"] for one in served["endpoints"])
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
