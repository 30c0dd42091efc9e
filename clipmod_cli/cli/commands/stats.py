"""`clipmod stats`: show, query, rebuild and erase the statistics database."""

from __future__ import annotations

import json
import math
import re
import sys
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clipmod_cli.cli.commands.results.arguments import say_notes
from clipmod_cli.cli.usage.help import RecordsGroup
from clipmod_cli.errors import UsageError

if TYPE_CHECKING:
    from clipmod_cli.output.history.hosted_files import EraseResult
    from clipmod_cli.output.history.store import HistoryStore, QueryResult
    from clipmod_cli.output.reading.records import RecordReader

SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")

EXAMPLES: Final = """
\b
Examples:
  clipmod stats                           all runs on this machine
  clipmod stats results.jsonl             one output
  clipmod stats results.jsonl --sql "SELECT source FROM records LIMIT 9"
  clipmod stats --rebuild results.jsonl   add another machine's output
"""


app = typer.Typer(
    cls=RecordsGroup,
    invoke_without_command=True,
    subcommand_metavar="[RECORDS]... | forget ...",
    help="Show the statistics of all runs, or of the outputs RECORDS: decisions, latencies, errors.\n\n"
    "Latency (total_time_ms) is how long an input took from being read to its verdict, queueing included. "
    "What it costs is decode_time_ms and inference_time_ms: many inputs are worked on at once.",
    epilog=EXAMPLES,
)

Db = Annotated[
    Path | None,
    typer.Option(
        "--db",
        metavar="FILE",
        help="The statistics database.  [env: CLIPMOD_DB; default: in the user data folder]",
    ),
]


@app.callback()
def stats(
    *,
    context: typer.Context,
    db: Db = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object (with --sql: JSON Lines) instead of tables.")
    ] = False,
    sql: Annotated[
        str | None,
        typer.Option(
            "--sql",
            metavar="QUERY",
            help="Run a read-only query and print a table on a terminal, else JSON Lines. "
            "Tables: runs, items, segments, requests, hosted; with RECORDS or --from: records.",
        ),
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option("--from", metavar="OUT/", help="Show the statistics of a run in parts, in place."),
    ] = None,
    rebuild: Annotated[
        list[Path] | None,
        typer.Option(
            "--rebuild",
            metavar="FILE",
            help="First add the records of this output that are missing; repeatable.",
        ),
    ] = None,
) -> None:
    """Show the statistics of all runs, or of the outputs RECORDS."""
    if parts is not None:
        if any([context.invoked_subcommand, context.args, db, rebuild]):
            raise UsageError("--from reads the parts of one run; give it alone, or with --json or --sql")
        _show_parts(parts, sql, as_json=as_json)
        return
    if context.invoked_subcommand is not None:
        context.obj = db
        return
    if context.args:
        if db is not None or rebuild:
            raise UsageError("--db and --rebuild have no effect on RECORDS, which are read directly")
        _show_outputs(context.args, sql, as_json=as_json)
        return
    _show_history(db, rebuild or [], sql, as_json=as_json)


def _show_history(db: Path | None, rebuild: list[Path], sql: str | None, *, as_json: bool) -> None:
    """Print the statistics of all runs, or what a query over them gives; first add outputs to them."""
    store = _open(db, may_be_missing=bool(rebuild))
    if rebuild:
        _rebuild(store, rebuild)
    if sql is not None:
        _show_answer(store.query(sql), as_json=as_json)
    elif as_json:
        _echo(json.dumps(store.stats(), ensure_ascii=False, indent=2))
    else:
        from clipmod_cli.cli.terminal.stats_tables import show

        show(store.stats())


def _show_outputs(names: list[str], sql: str | None, *, as_json: bool) -> None:
    """Print the statistics of outputs or of files of decisions."""
    from clipmod_cli.review.decisions import are_decisions

    if any(are_decisions(Path(name)) for name in names):
        _show_decisions(names, sql, as_json=as_json)
    else:
        _show_records(names, sql, as_json=as_json)


def _show_records(names: list[str], sql: str | None, *, as_json: bool) -> None:
    """Print the statistics of some outputs, or what a query over them gives."""
    from clipmod_cli.output.reading.records import open_records

    with open_records(names) as reader:
        _show_reader(reader, sql, as_json=as_json)


def _show_parts(folder: str, sql: str | None, *, as_json: bool) -> None:
    """Print the statistics of a run in parts, or what a query over its records gives."""
    from clipmod_cli.parts.merge import open_parts
    from clipmod_cli.parts.overview import read_overview
    from clipmod_cli.parts.store import open_part_store

    store = open_part_store(folder)
    overview = read_overview(store)
    if overview.missing:
        say_notes([f"{folder}: {len(overview.missing):,} of {overview.run.parts:,} parts are missing"])
    with open_parts(store, overview) as reader:
        _show_reader(reader, sql, as_json=as_json)


def _show_reader(reader: RecordReader, sql: str | None, *, as_json: bool) -> None:
    from clipmod_cli.output.reading.counts import count_records

    say_notes(reader.notes)
    if sql is not None:
        reader.lock()
        _show_answer(reader.query(sql), as_json=as_json)
    elif as_json:
        _echo(json.dumps(count_records(reader), ensure_ascii=False, indent=2))
    else:
        from clipmod_cli.cli.terminal.stats_tables import show

        show(count_records(reader))


def _show_decisions(names: list[str], sql: str | None, *, as_json: bool) -> None:
    """Print what files of decisions come to."""
    from clipmod_cli.cli.terminal.decision_lines import show_decisions
    from clipmod_cli.review.counting import count_decisions
    from clipmod_cli.review.decisions import read_decisions

    if sql is not None:
        raise UsageError("--sql queries records; `clipmod review export` writes decisions as a table")
    counts = count_decisions([read_decisions(Path(name)) for name in names])
    if as_json:
        _echo(json.dumps(counts, ensure_ascii=False, indent=2))
    else:
        show_decisions(counts)


@app.command()
def forget(
    *,
    context: typer.Context,
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="Erase this path or URL, as written in its records.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Erase the content with this hash.")
    ] = None,
    before: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Erase what was judged before this local time."
        ),
    ] = None,
    evidence: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Erase from this folder of `scan --evidence` too; repeatable."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    db: Db = None,
) -> None:
    """Permanently erase records from the statistics database, and pictures hosted by serve with their files.

    The evidence cache is erased too: all of it, since its entries do not name their inputs, or with --before
    the entries that are as old. Outputs (JSON Lines files) are not changed.
    """
    from clipmod_cli.ensemble.cache_file import default_path, erase

    scope = _scope(source, sha256, before)
    store = _open(db or context.obj)
    if not yes:
        _confirm(scope, store.path)
    erased = store.forget(source=source, sha256=sha256, before=before.astimezone() if before else None)
    since = before.timestamp() if before else None
    erase(default_path(), before=since)
    for folder in evidence or []:
        from clipmod_cli.evidence.forget import forget as forget_evidence

        count = forget_evidence(folder, source=source, sha256=sha256, before=since)
        typer.echo(f"Erased the evidence of {count:,} inputs from {folder}.", err=True)
    typer.echo(_told(erased, store.path), err=True)


def _confirm(scope: str, path: Path) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"erasing {scope} from {path} cannot be undone; give --yes to confirm")
    typer.confirm(f"Erase {scope} from {path}? It cannot be undone.", abort=True, err=True)


def _told(erased: EraseResult, path: Path) -> str:
    pictures = len(erased.image_ids)
    hosted = f" and {pictures:,} hosted {'picture' if pictures == 1 else 'pictures'}" if pictures else ""
    return (
        f"Erased {erased.records:,} records{hosted} from {path}. Outputs still contain these records, "
        "and --rebuild would add them again."
    )


def _open(db: Path | None, *, may_be_missing: bool = False) -> HistoryStore:
    """Return the store that the settings name.

    Raises:
        UsageError: `--db` names one that is not there.
    """
    from clipmod_cli.output.history.run import history_store
    from clipmod_cli.settings.reading import resolve

    settings = resolve({"db": str(db)} if db else {}).settings
    store = history_store(settings)
    if db is not None and not (store.exists or may_be_missing):
        raise UsageError(
            f"there is no statistics database {store.path}. Scans with the same --db fill it, and "
            "with --rebuild RECORDS it is made from an output"
        )
    return store


def _scope(source: str | None, sha256: str | None, before: datetime | None) -> str:
    if (source, sha256, before).count(None) != 2:
        raise UsageError("give one of --source, --sha256 and --before")
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise UsageError(f"--sha256 takes 64 hexadecimal digits, not {sha256!r}")
    if source is not None:
        return f"all records of {source!r}"
    return f"all records of the content {sha256}" if sha256 else f"all records from before {before}"


def _rebuild(store: HistoryStore, paths: list[Path]) -> None:
    result = store.rebuild(paths)
    message = f"{result.added:,} records added, {result.known:,} were there already"
    if result.invalid:
        message += f"; {result.invalid:,} lines are not records (the last line of a killed run may be torn)"
    if result.compact:
        message += (
            f"; {result.compact:,} compact records are left out, since the database needs full ones "
            "(`clipmod stats RECORDS` reads them)"
        )
    typer.echo(f"{message}.", err=True)


def _show_answer(answer: QueryResult, *, as_json: bool) -> None:
    if sys.stdout.isatty() and not as_json:
        from clipmod_cli.cli.terminal.stats_tables import show_answer

        show_answer(answer)
        return
    names = distinct(answer.columns)
    for row in answer.rows:
        fields = dict(zip(names, map(as_json_value, row), strict=True))
        _echo(json.dumps(fields, ensure_ascii=False, allow_nan=False))


def distinct(names: tuple[str, ...]) -> list[str]:
    """Return unique column names, as keys of a JSON object: `a`, `a_2`."""
    result: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in result:
            number += 1
            candidate = f"{name}_{number}"
        result.append(candidate)
    return result


def as_json_value(value: Any) -> Any:
    """Return a DuckDB value as JSON can represent it; NaN and infinity are null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, dict):
        return {str(name): as_json_value(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json_value(one) for one in value]
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)


def _echo(text: str) -> None:
    typer.echo(f"{text}\n".encode(errors="replace"), nl=False)  # UTF-8 in every locale
