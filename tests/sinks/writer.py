"""A run in a process of its own, to be killed: `python -m tests.sinks.writer DB RUN_ID RECORDS ROWS`.

Writes the number of each record to stdout once the store has it and a request, seals its rows whenever there
are so many, and merges small files all the time.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from clipmod_cli.output.history import keeper
from clipmod_cli.output.history import run as history_run
from clipmod_cli.output.history.rows import RunInfo
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.records import to_line, to_record
from tests.results import RUN, plain_animation
from tests.sinks.serve import request


def main(db: str, run_id: str, records: str, rows: str) -> None:
    facts = replace(RUN, run_id=run_id)
    info = RunInfo(facts=facts, command="clipmod scan x", models=("nudenet",), started_at=datetime.now(UTC))
    with patch.multiple(keeper, MOST_SMALL=3), patch.multiple(history_run, SEAL_ROWS=int(rows)):
        run = history_run.HistoryRun(HistoryStore(Path(db)), info)
        for index in range(int(records)):
            run.add(to_line(to_record(plain_animation(index), facts)))
            run.add_request(request(index))
            print(index, flush=True)
        run.finish({"inputs": int(records)}, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
