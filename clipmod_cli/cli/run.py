"""One run of `scan` or `urls`: opens the output, loads the models, writes records, returns an exit code."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from clipmod_cli.assemble import (
    banks_of,
    decoding_options,
    freeze_gc,
    load_models,
    policy_of,
    with_evidence_cache,
    with_screens,
)
from clipmod_cli.banks.bank import Banks
from clipmod_cli.banks.records import RecordBanks
from clipmod_cli.cli.choosing import choose_models
from clipmod_cli.cli.exits import RunExits, exits_key, open_exits, runs_like, warn_of_statistics
from clipmod_cli.cli.output import Output, open_output
from clipmod_cli.cli.signals import Interrupted, StopRequest, catch_signals
from clipmod_cli.cli.terminal.progress import DownloadBar, choose_progress
from clipmod_cli.cli.terminal.stdout import RealStdout, say, take_stdout
from clipmod_cli.cli.terminal.summary import command_line, print_summary, say_how_to_resume
from clipmod_cli.cli.usage.effects import check_models, check_policy, check_values
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.errors import ClipmodError, ExitCode, OutputError, UsageError
from clipmod_cli.evidence.identity import EvidenceIdentity
from clipmod_cli.evidence.writer import EvidenceWriter
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.output.history.run import HistoryRun, open_rows
from clipmod_cli.output.resuming.card import COMPLETE
from clipmod_cli.output.resuming.exits import ExitReview
from clipmod_cli.output.resuming.names import folders_in, working_directory
from clipmod_cli.output.resuming.resume import DoneInputs, RunConditions
from clipmod_cli.pipeline import decoding_key
from clipmod_cli.records import to_line
from clipmod_cli.results import Result
from clipmod_cli.runs.facts import decoders, decoding_of, difference, screens_again
from clipmod_cli.runs.loaded import LoadedRun
from clipmod_cli.runs.tally import Tally
from clipmod_cli.settings.definition import Settings
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.sources.ahead import walk_ahead
from clipmod_cli.sources.base import Skipped
from clipmod_cli.types import Failure, Item

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The inputs of a run.

    Attributes:
        items: iterates over all items, counting skipped ones.
        walk_ahead: the items can be listed long before they are judged, so the total is known early.
        fetch: downloads and unpacks the items that are to be judged, in any order, counting skipped ones.
        received: returns the bytes downloaded so far; None if there are no downloads.
        resumable: the output stays, so that a stopped run can be continued.
        sources: the files and folders that the user named; None if they come from lists.
        are_urls: the items are URLs, not paths.
        abilities: what this run can read that another may not (`RunConditions`), besides decoders.
    """

    items: Callable[[Skipped], Iterator[Item | Failure]]
    walk_ahead: bool
    fetch: Callable[[Iterator[Item | Failure], Skipped], Iterator[Item | Failure]] = lambda items, _: items
    received: Callable[[], int] | None = None
    resumable: bool = True
    sources: Sequence[str] | None = None
    are_urls: bool = False
    abilities: frozenset[str] = frozenset()

    @property
    def conditions(self) -> RunConditions:
        """The conditions of this run."""
        directory = None if self.are_urls else working_directory()
        return RunConditions(
            directory=directory, abilities=self.abilities | decoders(), folders=folders_in(self.sources or ())
        )


def judge_inputs(resolved: Resolved, inputs: Inputs, stdout: RealStdout | None = None) -> ExitCode:
    """Judge the inputs, write their records, and return the exit code.

    Args:
        resolved: the settings.
        inputs: what to judge.
        stdout: what `take_stdout` gave, if the caller has called it.

    Raises:
        ClipmodError: if the run cannot start, or its output cannot be written.
    """
    settings = resolved.settings
    check_values(settings)
    specs = banks_of(resolved)
    policy = policy_of(resolved)
    check_policy(resolved, policy)
    with (
        nullcontext(stdout) if stdout else take_stdout() as stdout,
        catch_signals() as stop,
        ExitStack() as stack,
    ):
        output: Output | None = None
        try:
            output = stack.enter_context(open_output(settings, stdout))
            with stop.exiting_with(lambda exit_code: _exit_now(stack, exit_code)):
                banks = Banks.read(specs)
                choice, hub = choose_models(settings, policy, output.card)
                check_models(resolved, choice)
                with DownloadBar(quiet=settings.quiet) as progress:
                    ensemble, criteria = load_models(settings, choice, policy, hub, progress)
                    ensemble, criteria = with_screens(
                        ensemble, criteria, screens_again(settings, output.card), hub, progress
                    )
            ensemble = stack.enter_context(with_evidence_cache(ensemble, settings))
            if settings.evidence is not None:
                output.evidence = open_evidence(settings, inputs.conditions.directory, ensemble, policy)
            freeze_gc()
            return Run(inputs, output, LoadedRun.of(settings, ensemble, criteria, banks), stop).judge_all()
        except Interrupted as e:
            if output is not None and output.has_begun:
                _say_how_to_resume(settings, inputs, e.exit_code)
            else:
                _say_nothing_begun(e.exit_code)
            return e.exit_code


def _exit_now(stack: ExitStack, exit_code: ExitCode) -> None:
    try:
        stack.close()
        _say_nothing_begun(exit_code)
    finally:
        os._exit(exit_code)


def _say_nothing_begun(exit_code: ExitCode) -> None:
    say(f"clipmod: stopped ({exit_code}) before anything was judged")


def _say_how_to_resume(settings: Settings, inputs: Inputs, exit_code: ExitCode) -> None:
    if inputs.resumable:
        say_how_to_resume(settings, exit_code)


def open_evidence(
    settings: Settings, directory: str | None, ensemble: Ensemble, policy: Policy
) -> EvidenceWriter:
    """Return the writer of `--evidence`; `directory` is the working directory, None if the inputs are URLs.

    Raises:
        OutputMismatchError: the folder holds evidence of other models or settings.
        OutputError: it cannot be written.
    """
    identity = EvidenceIdentity.of(
        ensemble,
        decoding=decoding_of(settings),
        decoding_key=decoding_key(decoding_options(settings).decode),
        max_gap_s=policy.max_gap_s,
    )
    folder = Path(settings.evidence or "").expanduser()
    return EvidenceWriter.open(folder, identity, directory=directory, overwrite=settings.overwrite)


class Run:
    """A run whose models are loaded and whose output is open."""

    def __init__(self, inputs: Inputs, output: Output, loaded: LoadedRun, stop: StopRequest) -> None:
        self.settings = loaded.settings
        self.inputs = inputs
        self.output = output
        self.stop = stop
        self.tally = Tally()
        self.done = DoneInputs()
        self.dropped = 0
        self.skipped = Skipped()
        self.exits: RunExits | None = None
        if self.settings.early_exit == "calibrated":
            key = exits_key(loaded.facts.run_key, self.settings, loaded.ensemble)
            loaded = replace(loaded, facts=replace(loaded.facts, run_key=key))
        self.loaded = loaded

    def judge_all(self) -> ExitCode:
        """Judge all inputs and return the exit code."""
        self.done = done = self._begin()
        self._open_exits()
        items = self._not_done(done)
        start = time.monotonic()
        exit_code = ExitCode.OK
        models = [member.model.spec for member in self.loaded.ensemble.members]
        store = open_rows(self.settings, self.loaded.facts, models, command_line())
        try:
            self._judge(items, store, done.count)
        except BrokenPipeError:
            exit_code = ExitCode.CLOSED_PIPE
        except OutputError as e:
            log.error("%s", e)  # noqa: TRY400 — no traceback: a full disk is no bug
            exit_code = e.exit_code
        except Exception as e:
            exit_code = e.exit_code if isinstance(e, ClipmodError) else ExitCode.BUG
            raise
        finally:
            exit_code = self._finish(exit_code)
            store.finish(self.tally.counts(), exit_code)
        if not self.settings.quiet and exit_code != ExitCode.CLOSED_PIPE:
            received = self.inputs.received
            print_summary(
                self.tally,
                self.skipped,
                time.monotonic() - start,
                done=done.count,
                dropped=self.dropped,
                received=received() if received else None,
                early_exit=None if self.exits is None else self.exits.describe(self.tally.judged),
            )
        _say_how_to_resume(self.settings, self.inputs, exit_code)
        return exit_code

    def _begin(self) -> DoneInputs:
        """Open the output, write its run card, and return the inputs that it has records of."""
        conditions, card = self.inputs.conditions, self.output.card
        loaded, facts = self.loaded, self.loaded.describe()
        done = self.output.begin(
            loaded.facts.run_key,
            self.tally,
            conditions=conditions,
            sources=self.inputs.sources,
            difference="" if card is None else difference(card.facts, facts),
            record_banks=RecordBanks(loaded.facts, loaded.banks),
        )
        if card is not None:
            card.begin(facts, loaded.facts.run_id, command_line(), conditions)
        if (done.kept_count or done.retry_count) and not self.settings.quiet:
            say(f"clipmod: resuming {self.settings.output}: {_told(done)}")
        if done.stale_count:
            log.warning(
                "%d records were decided by banks that do not hold them any more. They keep that decision, "
                "since this run does not read their inputs",
                done.stale_count,
            )
        if done.undenied_count:
            log.warning(
                "%d records were NSFW by a deny bank, and models judge them again: no --bank of this run "
                "holds them",
                done.undenied_count,
            )
        return done

    def _open_exits(self) -> None:
        """Start or resume calibrated early exit, if a picture may exit after some model."""
        has_records = bool(self.done.kept_count or self.done.retry_count)
        loaded = self.loaded
        self.exits = open_exits(
            self.settings, loaded.criteria, self.output.path, loaded.facts.run_key, is_new=not has_records
        )
        if self.exits is not None:
            exits = self.exits.exits
            self.loaded = replace(
                loaded,
                options=replace(loaded.options, exits=exits),
                ensemble=replace(loaded.ensemble, unused_screens=lambda: exits.unused),
            )

    def _judge(self, items: Iterable[Item | Failure], store: HistoryRun, done: int) -> None:
        progress = choose_progress(
            self.settings.progress,
            quiet=self.settings.quiet,
            piped=self.output.stdout.is_pipe,
            done=done,
            received=self.inputs.received,
        )
        self.output.progress = progress
        results = self.loaded.results(items, stopped=self.stop.requested, keep=self.output.evidence)
        self.stop.in_flight = True
        try:
            for result in results:
                self._write(result, store)
                progress.advance(self.tally.kinds["nsfw"], self.tally.kinds["error"])
            self.output.show_rest()
        finally:
            progress.close()

    def _not_done(self, done: DoneInputs) -> Iterator[Item | Failure]:
        """Yield what has to be judged. It is matched once more after `fetch`, which expands archives."""
        left = (item for item in self._walk() if done.has_members_to_retry(item) or not done.match(item))
        return (item for item in self.inputs.fetch(left, self.skipped) if not done.match(item))

    def _walk(self) -> Iterator[Item | Failure]:
        found = (one for one in self.inputs.items(self.skipped) if not self.output.is_at(_name_of(one)))
        items = itertools.islice(found, self.settings.limit)
        if not self.inputs.walk_ahead:
            return items
        return walk_ahead(items, self.output.set_total)

    def _write(self, result: Result, store: HistoryRun) -> None:
        content = None if result.media is None else result.media.sha256
        known = self.done.knew(result.item, content, _outcome_of(result))
        record = self.loaded.record(result, known=known)
        if self.exits is not None:
            record = self.exits.before(record)
        kinds = self.tally.add(record)
        line = self.loaded.line(record)
        self.output.write(record, line, result.item.source)
        store.add(line if self.settings.record == "full" else to_line(record))
        self.output.show(record, line, kinds)

    def _finish(self, exit_code: ExitCode) -> ExitCode:
        """Flush the output and its run card; return the exit code that takes precedence."""
        if exit_code == ExitCode.OK and not self.stop.exit_code and self.settings.limit is None:
            self.done.end(self.skipped)
        exit_code = ExitCode.first(exit_code, _attempt(self._close))
        judged = self.tally.exit_code(self.settings.fail_on, self.skipped.has_media)
        exit_code = ExitCode.first(self.stop.exit_code, exit_code, judged)
        if exit_code in COMPLETE:
            exit_code = ExitCode.first(exit_code, _attempt(self._prune))
        if exit_code in COMPLETE:
            exit_code = ExitCode.first(exit_code, _attempt(self.output.complete))
        card, ended_with = self.output.card, exit_code
        if card is not None:
            written = _attempt(lambda: card.end(ended_with, self.tally.run_counts()))
            exit_code = ExitCode.first(exit_code, written)
        return exit_code

    def _close(self) -> None:
        self.output.finish()
        self._finish_exits()

    def _prune(self) -> None:
        self.dropped = self.output.prune(self.done, self.skipped, self.tally)

    def _finish_exits(self) -> None:
        if self.exits is not None and self.output.path is not None and self.output.lines_path is not None:
            self.exits.save()
            earlier = {} if self.output.card is None else self.output.card.conditions
            same = runs_like(self.inputs.conditions, earlier)
            review = ExitReview(run_id=self.loaded.facts.run_id, same_runs=same, gone=self.done.gone)
            self.exits.review(self.output.lines_path, review)
            self.tally.add_review("early_exit", review.count, review.unreviewed, review.renewed)
            if review.count and not self.settings.no_db:
                warn_of_statistics(self.output.path)


def _attempt(step: Callable[[], None]) -> ExitCode:
    """Take a step of ending a run; tell why it failed, and return the exit code."""
    try:
        step()
    except (OutputError, UsageError) as e:
        log.error("%s", e)  # noqa: TRY400 — no traceback: a full disk is no bug
        return e.exit_code
    return ExitCode.OK


def _told(done: DoneInputs) -> str:
    again = f" ({done.redecided_count} decided again by banks)" if done.redecided_count else ""
    gone = f", {done.gone_count} gone" if done.gone_count else ""
    moved = f", {done.moved_count} moved" if done.moved_count else ""
    return f"{done.count} done{again}, {done.retry_count} to retry{gone}{moved}"


def _name_of(given: Item | Failure) -> str:
    return (given.item if isinstance(given, Failure) else given).source


def _outcome_of(result: Result) -> str | None:
    """Return the decision, or the code of the error."""
    return result.code if isinstance(result, Failure) else result.decision
