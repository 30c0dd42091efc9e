"""A run in a process of its own, to be killed: `python -m tests.sinks.writer DB RUN_ID RECORDS EVERY_S`.

Says the number of each record on stdout once the store has taken it, a request and a hosted picture
with it, and merges every so often.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from clipmod_cli.output.history.rows import RunInfo
from clipmod_cli.output.history.run import HistoryRun
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.records import to_line, to_record
from tests.results import RUN, plain_animation
from tests.sinks.serve import hosted, request


def main(db: str, run_id: str, records: str, every_s: str) -> None:
    facts = replace(RUN, run_id=run_id)
    info = RunInfo(facts=facts, command="clipmod scan x", models=("nudenet",), started_at=datetime.now(UTC))
    run = HistoryRun(HistoryStore(Path(db), merge_every_s=float(every_s)), info)
    for index in range(int(records)):
        run.add(to_line(to_record(plain_animation(index), facts)))
        run.add_request(request(index))
        run.add_hosted(hosted(f"{run_id}-{index}"))
        print(index, flush=True)
    run.finish({"inputs": int(records)}, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
