"""Which parts of a run share a host, so that no two processes ask it at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from contextlib import closing

from clipmod_cli.output.database import quoted_path
from clipmod_cli.parts.plan import Plan, plan_database
from clipmod_cli.parts.run_file import RunFile
from clipmod_cli.parts.store import PartStore


def shared_hosts(store: PartStore, run: RunFile, parts: Collection[int]) -> dict[int, set[str]]:
    """Return the hosts of each of these parts that another of them has too.

    Raises:
        OutputMismatchError: the plan is not the one that was written.
        OutputError: it cannot be read.
    """
    shared: dict[int, set[str]] = defaultdict(set)
    wanted = set(parts)
    files = [
        file
        for generation in run.generations
        for file in generation.files
        if not wanted.isdisjoint(range(file.first_part, file.first_part + file.parts))
    ]
    with closing(Plan(store, run)) as plan, plan_database() as (connection, _):
        connection.execute("CREATE TABLE hosts (host VARCHAR, part INTEGER)")
        for file in files:
            with plan.opened(file) as path:
                rows = f"""read_parquet({quoted_path(path)}) WHERE "group" <> ''"""
                connection.execute(f'INSERT INTO hosts SELECT DISTINCT "group", part FROM {rows}')  # noqa: S608
        connection.execute("DELETE FROM hosts WHERE NOT list_contains($1::INTEGER[], part)", [sorted(wanted)])
        answer = connection.execute("SELECT host, list(part) FROM hosts GROUP BY host HAVING count(*) > 1")
        for host, numbers in answer.fetchall():
            for part in numbers:
                shared[part].add(host)
    return dict(shared)
