"""The plan of a run: made once, by one process under a lease, and extended by what is new."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clipmod_cli.errors import OutputMismatchError
from clipmod_cli.output.resuming.names import working_directory
from clipmod_cli.parts.commit import list_done
from clipmod_cli.parts.heartbeat import HeartbeatFile
from clipmod_cli.parts.plan import (
    COLUMNS,
    Plan,
    PlannedInput,
    json_rows,
    plan_database,
    query_inputs,
    write_lines,
    write_plan,
)
from clipmod_cli.parts.planning.listing import Command, describe_inputs, list_planned
from clipmod_cli.parts.run_file import (
    RUN_FILE,
    Generation,
    GenerationKind,
    RunFile,
    Shards,
    change_run_file,
    differences,
    read_run_file,
    require_run_file,
)
from clipmod_cli.parts.store import PartStore
from clipmod_cli.records import write_name
from clipmod_cli.settings.definition import Settings
from clipmod_cli.sources.base import Skipped

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LEASE: Final = "leases/plan.json"
WAIT_S: Final = 0.5


class Planner:
    """Makes and extends the plan of one run.

    Attributes:
        skipped: counts what the listing leaves out.
    """

    def __init__(self, store: PartStore, command: Command, named: Sequence[str], settings: Settings) -> None:
        """Name what is to be planned.

        Args:
            store: of the run.
            command: which lists the sources.
            named: the sources or lists as the user named them.
            settings: by which they are listed.
        """
        self._store, self._command, self._named, self._settings = store, command, named, settings
        self.skipped = Skipped()

    def plan(self, *, waiting: Callable[[], None] = lambda: None) -> RunFile:
        """Return the run file, after planning if there is none; wait while another process plans.

        Args:
            waiting: called once before that.

        Raises:
            OutputMismatchError: the run has other inputs.
            OutputError: the store cannot be read or written.
        """
        told = False
        while (run := read_run_file(self._store)) is None:
            with HeartbeatFile.take(self._store, LEASE) or nullcontext() as lease:
                if lease is not None:
                    run = read_run_file(self._store) or self._plan_first(lease)
                    break
            if not told:
                told = True
                waiting()
            time.sleep(WAIT_S)
        self._check(run)
        return run

    def extend(self) -> RunFile:
        """Plan the inputs that are new or changed since the plan; return the run file.

        A changed input keeps its index. Raises as `plan`.
        """
        run = require_run_file(self._store)
        self._check(run)
        with self._waiting_for_lease() as lease:
            run = require_run_file(self._store)
            with plan_database() as (connection, folder):
                listed = folder / "listed.jsonl"
                write_lines(list_planned(self._command, self._named, self._settings, self.skipped), listed)
                known = folder / "known.jsonl"
                with closing(Plan(self._store, run)) as plan:
                    write_lines(latest_inputs(plan), known)
                new = _new_inputs(connection, listed, known)
                counted = CountedInputs(_numbered(new, run.next_index), run.next_index)
                ordered = self._in_order_of_parts(counted)
                return add_generation(self._store, run, "extend", ordered, counted=counted, check=lease.check)

    def retry(self, find: Callable[[], Collection[int]], *, generations: int) -> RunFile:
        """Plan failed inputs again, unless another process has planned a generation; return the run file.

        Args:
            find: returns the indices of the inputs.
            generations: how many there were when this process began.

        Raises:
            OutputMismatchError: a file is not what was planned or committed.
            OutputError: the store cannot be read or written.
        """
        with self._waiting_for_lease() as lease:
            run = require_run_file(self._store)
            if len(run.generations) > generations:
                return run
            plan = Plan(self._store, run)
            with closing(plan):
                inputs = self._in_order_of_parts(_again(plan, find()))
                return add_generation(self._store, run, "retry", inputs, check=lease.check)

    def _plan_first(self, lease: HeartbeatFile) -> RunFile:
        settings = self._settings
        if list_done(self._store):  # of other inputs perhaps, which would count as these
            raise OutputMismatchError(
                f"{self._store.name} holds committed parts of a run whose {RUN_FILE} is gone. Put that back, "
                "or name another output"
            )
        counted = CountedInputs(list_planned(self._command, self._named, settings, self.skipped))
        ordered = self._in_order_of_parts(counted)
        files = write_plan(ordered, self._store, part_size=settings.part_size, check=lease.check)
        run = RunFile(
            command=self._command,
            inputs=describe_inputs(self._command, self._named, settings),
            directory=write_name(working_directory() or "")[0],
            format=settings.format,
            part_size=settings.part_size,
            shards=Shards(),
            next_index=counted.next_index,
            generations=(Generation(kind="first", files=files),),
        )
        lease.check()
        if not self._store.create(RUN_FILE, run.to_bytes()):
            return require_run_file(self._store)
        return run

    def _in_order_of_parts(self, inputs: Iterable[PlannedInput]) -> Iterator[PlannedInput]:
        """Yield the inputs in the order in which they fill the parts: URLs by host, else as they come."""
        if self._command != "urls":
            yield from inputs
            return
        with plan_database() as (connection, folder):
            lines = folder / "hosts.jsonl"
            write_lines(inputs, lines)
            columns = ", ".join(f'"{name}"' for name in COLUMNS)
            sql = f'SELECT {columns} FROM {json_rows(lines)} ORDER BY hash("group"), "group", "index"'  # noqa: S608
            yield from query_inputs(connection, sql)

    def _check(self, run: RunFile) -> None:
        """Raise OutputMismatchError if the run has other inputs than this command names."""
        now = {"command": self._command, **describe_inputs(self._command, self._named, self._settings)}
        different = differences({"command": run.command, **run.inputs}, now)
        if different:
            raise OutputMismatchError(
                f"{self._store.name} is a run over other inputs: {'; '.join(different)}. Give the command "
                "that planned it, or name another output"
            )

    @contextmanager
    def _waiting_for_lease(self) -> Iterator[HeartbeatFile]:
        while (lease := HeartbeatFile.take(self._store, LEASE)) is None:
            time.sleep(WAIT_S)
        with lease:
            yield lease


class CountedInputs:
    """Iterates over inputs; afterwards `next_index` is one more than the greatest index."""

    def __init__(self, inputs: Iterator[PlannedInput], next_index: int = 0) -> None:
        self._inputs = inputs
        self.next_index = next_index

    def __iter__(self) -> Iterator[PlannedInput]:
        for one in self._inputs:
            self.next_index = max(self.next_index, one.index + 1)
            yield one


def add_generation(
    store: PartStore,
    run: RunFile,
    kind: GenerationKind,
    inputs: Iterable[PlannedInput],
    *,
    counted: CountedInputs | None = None,
    check: Callable[[], None],
) -> RunFile:
    """Write a further generation of the plan, if it has inputs, and commit it; return the run file.

    Raises:
        OutputMismatchError: another process has added one meanwhile.
    """
    files = write_plan(
        inputs,
        store,
        part_size=run.part_size,
        first_file=sum(len(generation.files) for generation in run.generations),
        first_part=run.parts,
        check=check,
    )
    if not files:
        return run
    generations = (*run.generations, Generation(kind=kind, files=files))
    next_index = run.next_index if counted is None else counted.next_index

    def add(found: RunFile) -> RunFile:
        if found.generations != run.generations:
            raise OutputMismatchError(f"another process has planned more of {store.name}. Run it again")
        return found.model_copy(update={"generations": generations, "next_index": next_index})

    return change_run_file(store, add)


def latest_inputs(plan: Plan) -> Iterator[PlannedInput]:
    """Yield the planned inputs of a run, those of a later listing after the earlier ones.

    A retry lists nothing: its inputs are those of an earlier generation, without what was known of them.
    """
    for generation in plan.run.generations:
        if generation.kind != "retry":
            for file in generation.files:
                yield from plan.all_inputs(file)


def _new_inputs(
    connection: DuckDBPyConnection, listed: Path, known: Path
) -> Iterator[tuple[PlannedInput, bool]]:
    """Yield each listed input that is not known, or not so; and whether it has the index of a known one.

    The n-th input of a name is the n-th known one of that name.
    """
    names = [name for name in COLUMNS if name not in {"part", "index"}]
    columns = ", ".join(f'listed."{name}"' for name in names)
    nth = 'row_number() OVER (PARTITION BY source, source_b64 ORDER BY "index") AS nth'
    answer = connection.execute(
        f"""
        WITH latest AS (
            SELECT DISTINCT ON ("index") * FROM (
                SELECT *, row_number() OVER () AS line FROM {json_rows(known)}
            ) ORDER BY "index", line DESC
        ),
        known AS (SELECT *, {nth} FROM latest),
        listed AS (SELECT *, {nth} FROM {json_rows(listed)})
        SELECT 0, coalesce(known."index", listed."index"), {columns}, known."index" IS NOT NULL
        FROM listed LEFT JOIN known ON listed.source = known.source
            AND listed.source_b64 IS NOT DISTINCT FROM known.source_b64 AND listed.nth = known.nth
        WHERE known."index" IS NULL OR (listed.size, listed.mtime_ns, listed.version)
            IS DISTINCT FROM (known.size, known.mtime_ns, known.version)
        ORDER BY known."index" IS NULL, 2
        """  # noqa: S608
    )
    while rows := answer.fetchmany(10_000):
        for *values, is_known in rows:
            yield PlannedInput.of_row(values), is_known


def _numbered(found: Iterable[tuple[PlannedInput, bool]], next_index: int) -> Iterator[PlannedInput]:
    """Yield the inputs; new ones get the next indices."""
    for one, is_known in found:
        if is_known:
            yield one
        else:
            yield replace(one, index=next_index)
            next_index += 1


def _again(plan: Plan, indices: Collection[int]) -> Iterator[PlannedInput]:
    """Yield the planned inputs of these indices in their order, without what was known of their files.

    Raises:
        OutputMismatchError: an index is none of the plan.
    """
    found = {one.index: one for one in latest_inputs(plan) if one.index in indices}
    if len(found) != len(indices):
        raise OutputMismatchError("a record has an index that is not in the plan")
    for index in sorted(found):
        listed = replace(found[index].listed, size=None, mtime_ns=None, version=None)
        yield replace(found[index], listed=listed)
