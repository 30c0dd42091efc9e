"""`clipmod eval`: how good the decisions are on labelled inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipmod_cli.cli.commands.evaluate.label_arguments import (
    AllowUnmatched,
    LabelColumn,
    LabelMap,
    Labels,
    Root,
)
from clipmod_cli.cli.options import WITHOUT_RISK, Flags, with_settings
from clipmod_cli.cli.usage.shares import read_share
from clipmod_cli.errors import UsageError

if TYPE_CHECKING:
    from clipmod_cli.evaluate.measures.evaluation import Wanted
    from clipmod_cli.judge.policy.values import Policy
    from clipmod_cli.settings.reading import Resolved

EXAMPLES = """
\b
Examples:
  clipmod eval ./labelled --labels ./labelled      scan, then evaluate: the
                                                   folders' names are labels
  clipmod eval out.jsonl --labels labels.csv       records that are there
  clipmod eval EV --labels l.csv --policy my.toml  stored evidence
  clipmod eval out.jsonl --labels l.csv --prevalence 0.5% -o report.html
  clipmod eval new.jsonl --labels l.csv --against old.jsonl
  clipmod eval out.jsonl --labels l.csv --json - | jq .quality
"""

OF_RECORDS = frozenset({"policy", "quiet", "verbose", "log_file", "config"})
OF_KIND = {
    "records": OF_RECORDS,
    "evidence": OF_RECORDS | {"sensitivity", "threshold", "allow_partial", "offline"},
}
"""Settings with an effect on records, which are judged already, and on evidence, which is decoded already."""


NSFW = "NSFW"


def _option(text: str, metavar: str | None, *names: str) -> Any:
    return typer.Option(*names, help=text, metavar=metavar, show_default=False, rich_help_panel="Evaluation")


@with_settings(
    "judging",
    "machine",
    "cache",
    "talk",
    without=frozenset({"json", "bank", "risk", "screen"}),
    choices=WITHOUT_RISK,
)
def evaluate(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT", help="records (.jsonl), a folder of `scan --evidence`, or what to scan first"
        ),
    ],
    *,
    labels: Labels,
    label_map: LabelMap = None,
    label_column: LabelColumn = "label",
    root: Root = None,
    allow_unmatched: AllowUnmatched = False,
    positive: Annotated[str, _option("What the report is about: NSFW, or a category [NSFW].", "NAME")] = NSFW,
    prevalence: Annotated[
        str | None, _option("Share of such inputs in real traffic, as 0.5% or 0.005.", "X")
    ] = None,
    seconds_each: Annotated[float, _option("How long a person looks at an input [10].", "S")] = 10.0,
    slice_by: Annotated[str, _option("Tell apart by these of format, size, kind.", "LIST", "--slice")] = "",
    against: Annotated[
        str | None, _option("Compare with other records of the same inputs.", "RECORDS")
    ] = None,
    output: Annotated[str | None, _option("Write a report (.html).", "FILE", "-o", "--output")] = None,
    pictures: Annotated[
        bool,
        _option("Show misjudged pictures in the report, blurred [on].", None, "--pictures/--no-pictures"),
    ] = True,
    json_to: Annotated[
        str | None, _option("Write all numbers as JSON; - is stdout.", "FILE", "--json")
    ] = None,
    records: Annotated[str | None, _option("Keep the records of the scan (.jsonl).", "FILE")] = None,
    overwrite: Annotated[bool, _option("Replace a report and JSON of these names.", None)] = False,
    flags: Flags,
) -> None:
    """Measure how good the decisions are on labelled pictures and videos, with 95 % intervals."""
    from clipmod_cli.cli.commands.evaluate.running import EvalCall, run
    from clipmod_cli.cli.terminal.logs import resolve_settings
    from clipmod_cli.evaluate.joining import LabelOptions, are_records, evidence_in
    from clipmod_cli.install import require_extra

    require_extra("eval", "evaluating")
    resolved = resolve_settings(flags, inputs)
    evidence = evidence_in(inputs)
    kind = "evidence" if evidence else "records" if are_records(inputs) else "sources"
    call = EvalCall(
        resolved=resolved,
        inputs=inputs,
        scanned=kind != "records",
        evidence=evidence,
        labels=LabelOptions(
            names=labels,
            label_map=label_map,
            column=label_column,
            root=root,
            allow_unmatched=allow_unmatched,
            policy=_policy(resolved, flags, kind),
        ),
        wanted=_wanted(positive, prevalence, seconds_each, slice_by),
        against=against,
        report=output,
        pictures=pictures,
        json_to=json_to,
        records=records,
        overwrite=overwrite,
    )
    call.check()
    raise typer.Exit(run(call))


def _policy(resolved: Resolved, flags: Flags, kind: str) -> Policy | None:
    """Return the policy that the inputs are or were judged by; None if the records have to tell.

    Raises:
        UsageError: an option has no effect on records, or on evidence.
    """
    from clipmod_cli.assemble import policy_of
    from clipmod_cli.settings.definition import flag_of

    for name in sorted(flags.keys() - OF_KIND.get(kind, flags.keys())):
        raise UsageError(f"{flag_of(name)} has no effect on {kind}")
    return policy_of(resolved) if kind != "records" or "policy" in flags else None


def _wanted(positive: str, prevalence: str | None, seconds_each: float, slice_by: str) -> Wanted:
    from clipmod_cli.evaluate.measures.evaluation import Wanted
    from clipmod_cli.evaluate.measures.metrics import SLICES

    slices = [one.strip() for one in slice_by.split(",") if one.strip()]
    if unknown := [one for one in slices if one not in SLICES]:
        raise UsageError(f"--slice may list {', '.join(SLICES)}, not {', '.join(unknown)}")
    if not 0 < seconds_each < 1e6:
        raise UsageError(f"--seconds-each must be over 0, not {seconds_each:g}")
    return Wanted(
        positive=positive,
        prevalence=None if prevalence is None else read_share(prevalence),
        seconds_each=seconds_each,
        slices=list(dict.fromkeys(slices)),
    )
