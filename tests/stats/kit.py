"""The commands `stats` and `schema`, and what they read."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import typer
from typer.testing import CliRunner, Result

from clipmod_cli.cli.commands import schema, stats
from clipmod_cli.output.history.rows import RunInfo
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.records import to_line, to_record
from tests.results import RUN, plain_failure, plain_verdict
from tests.sinks.serve import hosted, keep_files, request

app = typer.Typer()
app.add_typer(stats.app, name="stats")
app.command()(schema.schema)


def call(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def one_output(at_home: Path, *, torn: bool = False) -> Path:
    """Return an output with a hit, an input to review and an error."""
    unsure = replace(plain_verdict(1, unsafe=0.2), review_reasons=("truncated",))
    lines = [to_line(to_record(one, RUN)) for one in (plain_verdict(0), unsure, plain_failure(2, "timeout"))]
    path = at_home / "results.jsonl"
    path.write_bytes(b"".join(lines) + (lines[0][:99] if torn else b""))
    return path


def read_all(terminal: int) -> bytes:
    said = b""
    try:
        while piece := os.read(terminal, 1000):
            said += piece
    except OSError:  # Linux: nobody has the other end any more
        pass
    finally:
        os.close(terminal)
    return said


def serve_once(store: HistoryStore, data: Path) -> None:
    """Have a request refused, one answered, and its picture hosted below a folder."""
    store = HistoryStore(store.path, data_folder=data)
    started = datetime.now(UTC)
    facts = replace(RUN, run_id="serve-run")
    run = HistoryRun(
        store, RunInfo(facts=facts, command="clipmod serve", models=("ensemble",), started_at=started)
    )
    run.add_request(request(0, endpoint="/predict/multi", images=3, time_ms=1234.5, concurrent=7))
    run.add_request(request(1, status=500, images=0, judged_by=None))
    keep_files(data, hosted("picture-one-1", name="photos/9.jpg"))
    store.register()
    run.finish({}, 0)
