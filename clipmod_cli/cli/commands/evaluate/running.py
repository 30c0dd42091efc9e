"""One call of `clipmod eval`: scans if it must, evaluates, and writes what was asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from clipmod_cli.cli.commands.evaluate.summary import as_text
from clipmod_cli.cli.output_paths import check_output_paths, check_result_path, write_document
from clipmod_cli.cli.terminal.stdout import RealStdout, say, take_stdout
from clipmod_cli.errors import ExitCode, UsageError
from clipmod_cli.evaluate.joining import LabelOptions, cards_of, join, open_judged, policies_of_cards, read
from clipmod_cli.evaluate.labels import Label
from clipmod_cli.evaluate.measures.evaluation import Evaluation, LabelCounts, ScanCost, Wanted, evaluate
from clipmod_cli.output.jsonl import StreamSink
from clipmod_cli.output.reading.cards import RunCards
from clipmod_cli.output.resuming.files import whole_records
from clipmod_cli.settings.reading import Resolved

STDOUT: Final = "-"
REPORT_SUFFIXES: Final = (".html", ".htm")
GOES_ON: Final = frozenset({ExitCode.OK, ExitCode.SOME_FAILED, ExitCode.NOTHING_JUDGED})
"""Exit codes of a scan whose records are all there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalCall:
    """The options of a call.

    Attributes:
        inputs: records, or what to scan if `scanned`.
        evidence: the folder of stored evidence that is judged instead of scanning.
        against: other records.
        report: the HTML file to write.
        pictures: whether the report shows the misjudged ones.
        json_to: the JSON file to write; `-` is stdout.
        records: the file in which the records of the scan are kept.
        overwrite: replace a report and JSON of these names.
    """

    resolved: Resolved
    inputs: Sequence[str]
    scanned: bool
    labels: LabelOptions
    wanted: Wanted
    evidence: Path | None = None
    against: str | None = None
    report: str | None = None
    pictures: bool = True
    json_to: str | None = None
    records: str | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Check the outputs before anything costly is done.

        Raises:
            UsageError: an output is an input, exists, is of no known kind, or has no effect.
        """
        if self.records is not None and not self.scanned:
            raise UsageError("--records has no effect: the inputs are records already")
        if self.report is not None and not self.report.lower().endswith(REPORT_SUFFIXES):
            raise UsageError(f"-o {self.report}: the report is HTML, so its name must end in .html")
        against = [self.against] if self.against is not None else []
        inputs = [*self.inputs, *self.labels.names, *against]
        for option, output in (("-o", self.report), ("--json", self.json_to)):
            if output is not None and output != STDOUT:
                path = Path(output).expanduser()
                check_result_path(path, inputs, overwrite=self.overwrite, option=option)
        if self.records is not None:
            check_output_paths(replace(self.resolved.settings, output=self.records, no_db=True), inputs)


def run(call: EvalCall) -> ExitCode:
    """Evaluate, write what was asked for, and return the exit code.

    Raises:
        ClipmodError: the inputs cannot be scanned or read, the labels do not fit, or an output cannot be
            written.
    """
    with take_stdout() as stdout:
        if not call.scanned:
            _finish(call, _evaluate(call, call.inputs), stdout)
            return ExitCode.OK
        labels = read(call.labels, call.labels.policy)  # before the scan: they may be faulty
        # late: it knows the models
        from clipmod_cli.cli.commands.evaluate.scanning import records_file, rescore, scan

        with records_file(call.records) as records:
            cost: ScanCost | None = None
            if call.evidence is not None:
                exit_code = rescore(call.resolved, call.evidence, records, stdout)
            else:
                exit_code, cost = scan(
                    call.resolved, list(call.inputs), records, stdout, kept=call.records is not None
                )
            if exit_code in GOES_ON:
                _finish(call, _evaluate(call, [str(whole_records(records))], labels, cost), stdout)
            else:
                _say(call, "the scan did not finish, so nothing was evaluated")
            return exit_code


def _evaluate(
    call: EvalCall, records: Sequence[str], labels: list[Label] | None = None, scan: ScanCost | None = None
) -> Evaluation:
    name = ", ".join(call.inputs)
    with open_judged(records) as judged:
        joined = join(name, judged, call.labels, labels, known=policies_of_cards(records))
    for one, disagreeing in joined.matches.conflicting:
        texts = ", ".join(sorted({label.row.text for label in disagreeing}))
        _say(call, f"the labels of {one.name} disagree ({texts}); it is left out")
    wanted = replace(call.wanted, scan=scan)
    if call.against is not None:
        options = replace(call.labels, policy=None)
        with open_judged([call.against]) as judged:
            others = join(call.against, judged, options, joined.labels).labelled
        wanted = replace(wanted, against=(call.against, replace(others, policy=joined.labelled.policy)))
    return evaluate(name, joined.labelled, LabelCounts.of(joined.matches), wanted)


def _say(call: EvalCall, text: str) -> None:
    if not call.resolved.settings.quiet:
        say(f"clipmod: {text}")


def _finish(call: EvalCall, evaluation: Evaluation, stdout: RealStdout) -> None:
    document = (
        json.dumps(evaluation.to_json(), ensure_ascii=False, indent=2, allow_nan=False).encode() + b"\n"
    )
    if call.json_to not in {None, STDOUT}:
        write_document(Path(str(call.json_to)).expanduser(), document)
    if call.report is not None:
        write_document(Path(call.report).expanduser(), _report(evaluation, call))
    if call.json_to == STDOUT:
        StreamSink(stdout.descriptor).write(document)
    elif not call.resolved.settings.quiet:
        text = as_text(evaluation, is_terminal=stdout.is_terminal)
        StreamSink(stdout.descriptor).write(text.encode(errors="replace"))


def _report(evaluation: Evaluation, call: EvalCall) -> bytes:
    # late: it decodes pictures
    from clipmod_cli.evaluate.report.page import page_of
    from clipmod_cli.evaluate.report.pictures import thumbnails

    cards = RunCards() if call.scanned else cards_of(call.inputs)
    return "".join(page_of(evaluation, thumbnails(evaluation, cards) if call.pictures else {})).encode()
