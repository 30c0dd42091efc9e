"""Judges parts: loads the models once, and commits each part whole or not at all.

A process writes a note (`attempts/`) when it begins a part and deletes it at the end; a lost process leaves
it. After two lost processes the part is judged input by input, and an input at which two of those were lost
becomes a `worker_lost` record.
"""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Self

from clipmod_cli.assemble import banks_of, load_models, policy_of, with_evidence_cache
from clipmod_cli.banks.bank import Banks
from clipmod_cli.errors import OutputMismatchError
from clipmod_cli.judge.choice import ModelChoice, choose
from clipmod_cli.models.hub.client import SILENT, DownloadProgress, Hub
from clipmod_cli.models.specs import AUTO, parse_models
from clipmod_cli.output.resuming.names import working_directory
from clipmod_cli.parts.commit import DonePart, commit, part_name, read_done
from clipmod_cli.parts.heartbeat import HeartbeatFile, is_lost
from clipmod_cli.parts.part_file import PartLines
from clipmod_cli.parts.plan import Plan, PlannedInput
from clipmod_cli.parts.planning.listing import open_files, url_items
from clipmod_cli.parts.run_file import RunFile, change_run_file, require_run_file
from clipmod_cli.parts.store import PartStore, sha256_of
from clipmod_cli.pipeline import start_decoders
from clipmod_cli.records import Record, write_name
from clipmod_cli.results import Result
from clipmod_cli.runs.facts import choose_again, difference
from clipmod_cli.runs.files import rules_of
from clipmod_cli.runs.loaded import LoadedRun
from clipmod_cli.runs.tally import Tally
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.sources.base import Skipped
from clipmod_cli.sources.registry import Sources
from clipmod_cli.types import Failure, Item

WHOLE_LOSSES: Final = 2
"""After so many lost processes a part is judged input by input."""

INPUT_LOSSES: Final = 2
"""At so many lost processes, which named it, an input is taken to be the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartResult:
    """What became of a part.

    Attributes:
        outcome: committed by this process, known from another one, or stopped and left for later.
        done: its commit; None where it was stopped.
    """

    part: int
    outcome: Literal["committed", "known", "stopped"]
    done: DonePart | None


class PartJudge:
    """Judges parts of one run; one thread uses it. Close it at the end.

    Attributes:
        run: the run file, with the facts of the models.
        on_record: called with each record, also of a part that is then left.
        skipped: counts members of archives that are no inputs.
    """

    def __init__(self, store: PartStore, run: RunFile, loaded: LoadedRun, stack: ExitStack) -> None:
        """Take what `open` has made; `stack` is closed with the judge."""
        self.run = run
        self.skipped = Skipped()
        self.on_record: Callable[[Record], None] = lambda _: None
        self._store, self._loaded, self._stack = store, loaded, stack
        self._plan = stack.enter_context(closing(Plan(store, run)))
        self._sources = Sources()
        self._device = str(loaded.describe()["device"])

    @classmethod
    def open(
        cls,
        resolved: Resolved,
        store: PartStore,
        *,
        progress: DownloadProgress = SILENT,
        chosen: Callable[[ModelChoice], None] = lambda _: None,
    ) -> Self:
        """Load the models, and take part in the run of a store.

        Args:
            resolved: the settings.
            store: of a run that was planned.
            progress: shows downloads.
            chosen: called with the chosen models before they are loaded.

        Raises:
            UsageError: nothing was planned.
            OutputMismatchError: the run has another `run_key`, other banks, or relative paths to elsewhere.
            ClipmodError: the models cannot be loaded, or do not suit the policy.
        """
        settings = resolved.settings
        run = require_run_file(store)
        _check_directory(run, store.name)
        policy = policy_of(resolved)
        banks = Banks.read(banks_of(resolved))
        hub = Hub.from_environment(offline=settings.offline)
        facts = run.facts
        if facts and parse_models(settings.models) == AUTO and facts["policy"]["hash"] == policy.hash:
            choice = choose_again(facts["models"], policy, hub, store.name)
        else:
            choice = choose(settings.models, policy, hub)
        chosen(choice)
        with ExitStack() as stack:
            ensemble, criteria = load_models(settings, choice, policy, hub, progress)
            ensemble = stack.enter_context(with_evidence_cache(ensemble, settings))
            loaded = LoadedRun.of(settings, ensemble, criteria, banks)
            run = _take_part(store, loaded)
            decoders = stack.enter_context(start_decoders(loaded.options))
            loaded = replace(loaded, options=replace(loaded.options, decoders=decoders))
            return cls(store, run, loaded, stack.pop_all())
        raise AssertionError

    def close(self) -> None:
        """End the decoders and close the plan."""
        self._stack.close()

    def judge(self, part: int, *, stopped: Callable[[], bool] = lambda: False) -> PartResult:
        """Judge a part and commit it, unless another process has.

        Args:
            part: its number.
            stopped: called between batches; once true, the part is left for later.

        Raises:
            UsageError: there is no such part.
            OutputError: the store or a temporary file cannot be written.
        """
        if (done := read_done(self._store, part)) is not None:
            return PartResult(part=part, outcome="known", done=done)
        if part >= self.run.parts:
            self._plan.run = self.run = require_run_file(self._store)
        lost = lost_attempts(self._store, part)
        is_one_by_one = len(lost) >= WHOLE_LOSSES
        attempt = uuid.uuid4().hex[:16]
        note = HeartbeatFile.create(
            self._store, f"attempts/part-{part:06}.{attempt}.json", one_by_one=is_one_by_one, index=None
        )
        if note is None:
            raise AssertionError(attempt)
        with note, PartLines() as lines:
            inputs = self._plan.inputs(part)
            judging = _Judging(self._loaded, self._items, stopped)
            results = judging.one_by_one(inputs, note, lost) if is_one_by_one else judging.whole(inputs)
            begun = time.monotonic()
            tally = self._write(results, lines)
            if not judging.is_complete:
                return PartResult(part=part, outcome="stopped", done=None)
            path = lines.write(self.run.format)
            done = self._done(part, attempt, inputs, tally, path, seconds=time.monotonic() - begun)
            is_mine = commit(self._store, done, path)
        for name in lost:
            self._store.delete(name)
        if is_mine:
            return PartResult(part=part, outcome="committed", done=done)
        return PartResult(part=part, outcome="known", done=read_done(self._store, part))

    def _write(self, results: Generator[Result, None, None], lines: PartLines) -> Tally:
        """Add the records of results to the lines of a part; return their counts."""
        tally = Tally()
        with closing(results):
            for result in results:
                record = self._loaded.record(result)
                tally.add(record)
                lines.add(record.index, self._loaded.line(record))
                self.on_record(record)
        return tally

    def _done(
        self, part: int, attempt: str, inputs: list[PlannedInput], tally: Tally, path: Path, *, seconds: float
    ) -> DonePart:
        """Return the commit of a part whose records are in a local file."""
        return DonePart(
            part=part,
            file=part_name(part, attempt, self.run.format),
            first_index=inputs[0].index,
            inputs=len(inputs),
            records=tally.total,
            sha256=sha256_of(path),
            counts={kind: tally.kinds[kind] for kind in ("nsfw", "safe", "review", "error")},
            codes=dict(tally.codes),
            run_key=self._loaded.facts.run_key,
            run_id=self._loaded.facts.run_id,
            host=socket.gethostname(),
            device=self._device,
            ended_at=datetime.now(UTC).replace(microsecond=0),
            seconds=round(seconds, 3),
        )

    def _items(self, inputs: list[PlannedInput], stack: ExitStack) -> Iterator[Item | Failure]:
        settings = self._loaded.settings
        if self.run.command == "urls":
            from clipmod_cli.runs.urls import UrlDownloads

            downloads = stack.enter_context(closing(UrlDownloads(settings)))
            return downloads.fetch(url_items(inputs), self.skipped)
        rules = rules_of(replace(settings, newer_than=None))  # what was planned is judged whatever its age
        return open_files(inputs, self._sources, rules, self.skipped)


class _Judging:
    """One pass over the inputs of a part; `is_complete` once each of them has its results."""

    def __init__(
        self,
        loaded: LoadedRun,
        items: Callable[[list[PlannedInput], ExitStack], Iterator[Item | Failure]],
        stopped: Callable[[], bool],
    ) -> None:
        self._loaded, self._items, self._stopped = loaded, items, stopped
        self.is_complete = False

    def whole(self, inputs: list[PlannedInput]) -> Generator[Result, None, None]:
        """Yield the results of all inputs, in one pass."""
        taken = Counter[str]()

        def count(items: Iterable[Item | Failure]) -> Iterator[Item | Failure]:
            for item in items:
                taken["items"] += 1
                yield item
            taken["ends"] += 1

        with ExitStack() as stack:
            items = count(self._items(inputs, stack))
            results = stack.enter_context(closing(self._loaded.results(items, stopped=self._stopped)))
            for result in results:
                taken["results"] += 1
                yield result
        self.is_complete = bool(taken["ends"]) and taken["items"] == taken["results"]
        if not self.is_complete and not self._stopped():
            raise AssertionError(f"{taken['items']} items and {taken['results']} results")

    def one_by_one(
        self, inputs: list[PlannedInput], note: HeartbeatFile, lost: Mapping[str, Mapping[str, Any]]
    ) -> Generator[Result, None, None]:
        """Yield the results of one input after the other, each noted before it is begun."""
        losses = Counter(one.get("index") for one in lost.values())
        for one in inputs:
            if losses[one.index] >= INPUT_LOSSES:
                yield _worker_lost(one)
                continue
            note.set(one_by_one=True, index=one.index)
            self.is_complete = False
            yield from self.whole([one])
            note.set(one_by_one=True, index=None)  # its records are made; what follows is not its fault
            if not self.is_complete:
                return
        self.is_complete = True


def lost_attempts(store: PartStore, part: int) -> dict[str, dict[str, Any]]:
    """Return the notes of the processes that were lost while they judged a part, by name."""
    found: dict[str, dict[str, Any]] = {}
    for name in store.list("attempts"):
        if not name.startswith(f"attempts/part-{part:06}."):
            continue
        content = store.read(name)
        if content is not None and is_lost(store, name, content):
            found[name] = json.loads(content)
    return found


def _check_directory(run: RunFile, name: str) -> None:
    """Raise OutputMismatchError if paths of the plan may be relative to another working directory."""
    here = write_name(working_directory() or "")[0]
    names = run.inputs["sources"] if run.command == "scan" else []
    is_list = run.inputs.get("files_from") is not None or "-" in names
    is_relative = is_list or not all("://" in one or Path(one).is_absolute() for one in names)
    if is_relative and here != run.directory:
        raise OutputMismatchError(
            f"{name} was planned in {run.directory} with paths that are relative to it, and this process is "
            f"in {here}. Run it there, or plan absolute paths into another output"
        )


def _take_part(store: PartStore, loaded: LoadedRun) -> RunFile:
    """Return the run file with the facts of its models, those of this process if it is the first.

    Raises:
        OutputMismatchError: the run has other models, another policy, or other settings that move outcomes.
    """
    now = loaded.describe()

    def join(run: RunFile) -> RunFile:
        return run if run.facts else run.model_copy(update={"facts": now})

    run = change_run_file(store, join)
    if run.run_key != now["run_key"]:
        told = difference(run.facts, now)
        raise OutputMismatchError(
            f"{store.name} belongs to a run with run_key {run.run_key}, and this process has "
            f"{now['run_key']}{f' ({told})' if told else ''}. Give the same models, policy and settings, "
            "or name another output"
        )
    for name, what in (("banks", "banks"), ("record", "--record")):
        if run.facts[name] != now[name]:
            raise OutputMismatchError(
                f"{store.name} belongs to a run with other {what}: {run.facts[name]}, now {now[name]}"
            )
    return run


def _worker_lost(planned: PlannedInput) -> Failure:
    listed = planned.listed
    item = Item(
        source=listed.source, index=planned.index, mtime_ns=listed.mtime_ns, row=planned.row,
        columns=planned.columns,
    )  # fmt: skip
    message = f"{INPUT_LOSSES} processes ended while they judged this input alone"
    return Failure(item=item, stage="decode", code="worker_lost", message=message)
