"""Statistics as tables and bars for a terminal.

Paths and URLs are untrusted: control characters and markup in them are not interpreted.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clipmod_cli.cli.terminal.stdout import plain

if TYPE_CHECKING:
    from clipmod_cli.output.history import store

BAR: Final = 24  # characters; fits into 80 columns beside the numbers
PIPE_COLUMNS: Final = 160  # for a pipe or a file; a command stays on one line
NARROWEST: Final = 12  # characters; narrower columns break words and numbers
SPARKS: Final = "▁▂▃▄▅▆▇█"
NUMBERS: Final = frozenset(
    {"inputs", "share", "NSFW", "review", "errors", "mean ms", "p95 ms", "inputs/s", "requests", "images"}
)  # columns that are aligned to the right

RUN_COLUMNS: Final = (
    "started", "command", "models", "policy", "inputs", "NSFW", "review", "errors", "inputs/s", "ended"
)  # fmt: skip


def show(stats: dict[str, Any]) -> None:
    """Print the statistics of `HistoryStore.stats`."""
    console = _console()
    if not stats["totals"]["inputs"] and not stats["runs"]:
        _say(console, f"The statistics database {stats['db']} is empty. `clipmod scan FOLDER` fills it.")
        return
    _show_totals(console, stats)
    _show_categories(console, stats)
    _show_policies(console, stats)
    _show_speed(console, stats)
    _show_errors(console, stats)
    _show_served(console, stats["serve"])
    _show_runs(console, stats)


def show_answer(answer: store.QueryResult) -> None:
    """Print the result of a query: as one table if its columns fit, else a table for each row."""
    console = _console()
    if len(answer.columns) * NARROWEST <= console.width:
        _show_table(console, "", answer.columns, answer.rows)
        return
    for row in answer.rows:
        _show_table(console, "", ("column", "value"), list(zip(answer.columns, row, strict=True)))


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
    rows = [
        (name, _number(totals[key]), f"{totals[key] / most:.1%}", _bar(console, totals[key], most))
        for name, key in outcomes
        if totals[key] or key != "undecided"
    ]
    rows.append(("needs review", _number(totals["review"]), f"{totals['review'] / most:.1%}", ""))
    if totals["degraded"]:
        rows.append(
            ("less than the ensemble", _number(totals["degraded"]), f"{totals['degraded'] / most:.1%}", "")
        )
    _show_table(console, "Decisions", ("decision", "inputs", "share", ""), rows)
    _show_days(console, stats["days"])


def _show_days(console: Console, days: list[dict[str, Any]]) -> None:
    if len(days) > 1 and _blocks(console):
        counts = [day["inputs"] for day in days]
        line = f"{days[0]['day']} {sparkline(counts)} {days[-1]['day']}"
        _say(console, f"{line}, at most {max(counts):,} inputs a day\n")


def _show_categories(console: Console, stats: dict[str, Any]) -> None:
    found = stats["categories"]
    most = max((row["inputs"] for row in found), default=0)
    rows = [
        (row["policy"], row["category"], *_outcomes(row), _bar(console, row["inputs"], most)) for row in found
    ]
    _show_table(console, "Categories", ("policy", "category", "inputs", "NSFW", "review", ""), rows)


def _show_policies(console: Console, stats: dict[str, Any]) -> None:
    rows = [
        (row["policy"], row["policy_hash"], *_outcomes(row), _number(row["errors"]))
        for row in stats["policies"]
    ]
    _show_table(console, "Policies", ("policy", "hash", "inputs", "NSFW", "review", "errors"), rows)


def _show_speed(console: Console, stats: dict[str, Any]) -> None:
    rows = [
        (row["model"], _number(row["inputs"]), _decimal(row["mean_ms"]), _decimal(row["p95_ms"]))
        for row in stats["models"]
    ]
    _show_table(console, "Models (forward pass)", ("model", "inputs", "mean ms", "p95 ms"), rows)
    latency = stats["latency_ms"]
    if latency["p50"] is not None:
        _say(
            console,
            f"Latency per input including queueing: median {latency['p50']:,.0f} ms, "
            f"95th percentile {latency['p95']:,.0f} ms, 99th {latency['p99']:,.0f} ms.\n",
        )


def _show_errors(console: Console, stats: dict[str, Any]) -> None:
    most = max((row["inputs"] for row in stats["errors"]), default=0)
    rows = [
        (
            row["code"],
            _number(row["inputs"]),
            "yes" if row["retryable"] else "no",
            _bar(console, row["inputs"], most),
        )
        for row in stats["errors"]
    ]
    _show_table(console, "Errors", ("code", "inputs", "may succeed later", ""), rows)


def _show_served(console: Console, served: dict[str, Any]) -> None:
    if not served["total_requests"]:
        return
    rows = [
        (
            row["endpoint"],
            _number(row["requests"]),
            _number(row["images"]),
            _number(row["errors"]),
            _decimal(row["mean_ms"]),
            _decimal(row["p95_ms"]),
        )
        for row in served["endpoints"]
    ]
    names = ("endpoint", "requests", "images", "errors", "mean ms", "p95 ms")
    _show_table(console, "Requests to clipmod serve", names, rows)
    _say(console, f"{serve_summary(served)}\n")


def serve_summary(served: dict[str, Any]) -> str:
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


def _show_runs(console: Console, stats: dict[str, Any]) -> None:
    rows = [
        (
            _local(run["started_at"]),
            run["command"],
            ", ".join(run["models"] or ()),
            run["policy"],
            *_outcomes(run),
            _number(run["errors"]),
            _decimal(run["inputs_per_s"]),
            _ending(run),
        )
        for run in stats["runs"]
    ]
    _show_table(console, "Last runs", RUN_COLUMNS, rows)


def _outcomes(row: dict[str, Any]) -> tuple[str, str, str]:
    return _number(row["inputs"]), _number(row["nsfw"]), _number(row["review"])


def _ending(run: dict[str, Any]) -> str:
    if run["ended"] != "finished":
        return {"running": "still runs", "rebuilt": "rebuilt from its output"}.get(run["ended"], "killed")
    return "finished" if run["exit_code"] == 0 else f"exit code {run['exit_code']}"


def _local(moment: str | None) -> str:
    if moment is None:
        return ""
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _number(value: int) -> str:
    return f"{value:,}"


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _show_table(console: Console, title: str, names: Iterable[str], rows: Sequence[Sequence[Any]]) -> None:
    if title and not rows:
        return
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name in names:
        table.add_column(Text(plain(name)), justify="right" if name in NUMBERS else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else plain(str(value))) for value in row))
    console.print(table)


def _say(console: Console, text: str) -> None:
    console.print(Text("\n".join(plain(line) for line in text.split("\n"))), soft_wrap=True)


def _bar(console: Console, value: float, most: float) -> str:
    return bar(value, most, blocks=_blocks(console))


def _blocks(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


def _console() -> Console:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # print also what the locale cannot encode
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    return console
