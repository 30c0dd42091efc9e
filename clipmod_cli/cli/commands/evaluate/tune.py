"""`clipmod tune`: thresholds that keep a promise, from labelled records to a policy file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clipmod_cli.cli.commands.evaluate.label_arguments import (
    PANEL,
    AllowUnmatched,
    LabelColumn,
    LabelMap,
    Root,
)
from clipmod_cli.cli.options import Flags, with_settings
from clipmod_cli.cli.usage.help import RecordsGroup
from clipmod_cli.cli.usage.shares import read_share
from clipmod_cli.errors import UsageError

if TYPE_CHECKING:
    from clipmod_cli.evaluate.tuning.thresholds import Target

EXAMPLES = """
\b
Examples:
  clipmod tune out.jsonl --labels l.csv --recall 0.95 -o tuned.toml
  clipmod tune out.jsonl --labels ./labelled --recall 0.95 --per-category \\
    -o tuned.toml
  clipmod tune out.jsonl --labels l.csv --precision 0.5 --prevalence 0.5% \\
    -o tuned.toml
  clipmod tune out.jsonl --budget 500/day --rate 100000/day -o tuned.toml
  clipmod tune EV --policy my.toml --labels l.csv --recall 0.95 \\
    --calibrate platt -o tuned.toml
  clipmod scan ./uploads --policy ./tuned.toml     use it
"""

PER_DAY: Final = {"second": 86_400.0, "minute": 1_440.0, "hour": 24.0, "day": 1.0, "week": 1 / 7}
_RATE: Final = re.compile(r"([\d_,]*\.?\d+)\s*/\s*([a-z]+)")


def _option(text: str, metavar: str | None, *names: str) -> Any:
    return typer.Option(*names, help=text, metavar=metavar, show_default=False, rich_help_panel="Tuning")


Share = str | None

app = typer.Typer(
    cls=RecordsGroup,
    invoke_without_command=True,
    subcommand_metavar="RECORDS | head ...",
    epilog=EXAMPLES,
)


OF_EVIDENCE: Final = frozenset({"policy", "allow_partial", "offline"})
"""Settings with an effect on evidence; records are judged already."""


@app.callback()
@with_settings("judging", "machine", only=OF_EVIDENCE)
def tune(
    *,
    context: typer.Context,
    output: Annotated[
        str | None, _option("Write the tuned policy (.toml).", "FILE", "-o", "--output")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABELS",
            help="A folder a class, or a table with sha256 or source, and label; repeatable.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    label_map: LabelMap = None,
    label_column: LabelColumn = "label",
    root: Root = None,
    allow_unmatched: AllowUnmatched = False,
    recall: Annotated[Share, _option("Flag at least this share of what is NSFW, as 0.95.", "X")] = None,
    precision: Annotated[Share, _option("Of what is flagged, at least this share is NSFW.", "X")] = None,
    prevalence: Annotated[
        Share, _option("Share of NSFW in use, as 0.5% (--precision, --calibrate).", "X")
    ] = None,
    budget: Annotated[Share, _option("Flag at most so many; needs no labels, but --rate.", "N/day")] = None,
    rate: Annotated[Share, _option("With --budget: how many inputs come.", "N/day")] = None,
    delta: Annotated[str, _option("The chance that the promise is broken [0.05].", "X")] = "0.05",
    per_category: Annotated[
        bool, _option("A threshold for each UNSAFE category that labels name.", None, "--per-category")
    ] = False,
    calibrate: Annotated[
        str | None, _option("Calibrate the NSFW score too, on a third of the labels.", "platt")
    ] = None,
    overwrite: Annotated[bool, _option("Replace a policy of this name.", None, "--overwrite")] = False,
    flags: Flags,
) -> None:
    """Find a threshold that keeps a promise on your pictures, and write it into a policy.

    RECORDS is the output of a scan (.jsonl), or EV, a folder of `scan --evidence EV`, which --policy judges;
    one that is named `head` is given as `./head`.
    The promise holds for inputs that come as the labelled ones did, and for the models that gave the scores.
    A recall of 95 % needs 59 labelled inputs that must be flagged, one of 99 % needs 299.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    from clipmod_cli.cli.output_paths import check_result_path
    from clipmod_cli.cli.terminal.logs import resolve_settings
    from clipmod_cli.evaluate.joining import LabelOptions
    from clipmod_cli.install import require_extra

    name = _only(context.args)
    require_extra("eval", "tuning")
    path = _policy_path(output)
    check_result_path(path, [name, *(labels or [])], overwrite=overwrite)
    given = {"--recall": recall, "--precision": precision, "--budget": budget}
    _check_together(given, prevalence=prevalence, rate=rate, calibrate=calibrate)
    _check_labels(labels, budget=budget, per_category=per_category, calibrate=calibrate)
    _check_settings(name, flags)
    target = _target(recall, precision, prevalence, budget, rate, read_share(delta, "--delta"))
    # late: needs the packages of the extra
    from clipmod_cli.cli.commands.evaluate.tuning import TuneCall, inputs_named

    TuneCall(
        inputs=inputs_named(name, resolve_settings(flags, [name])),
        output=path,
        target=target,
        labels=LabelOptions(
            names=labels or [],
            label_map=label_map,
            column=label_column,
            root=root,
            allow_unmatched=allow_unmatched,
        ),
        per_category=per_category,
        calibrated=calibrate is not None,
        prevalence=None if prevalence is None else read_share(prevalence),
        per_day=None if rate is None else _per_day(rate, "--rate"),
    ).run()


def _check_settings(name: str, flags: Flags) -> None:
    """Refuse options that have no effect on records."""
    from clipmod_cli.evaluate.joining import evidence_in
    from clipmod_cli.settings.definition import flag_of

    if evidence_in([name]) is None:
        for setting in sorted(flags):
            raise UsageError(f"{flag_of(setting)} has no effect on records: their run card tells the policy")


def _refuse_options(context: typer.Context) -> None:
    """Refuse options that stand before a subcommand, where they would have no effect."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} has no effect before {context.invoked_subcommand}: put it after")


def _only(records: list[str]) -> str:
    if len(records) != 1:
        given = f", not {len(records)}: {', '.join(records)}" if records else ""
        raise UsageError(f"name one output of a scan (RECORDS) to tune on{given}")
    return records[0]


def _policy_path(output: str | None) -> Any:
    from pathlib import Path

    if output is None:
        raise UsageError("-o FILE is missing: the policy to write (.toml)")
    if not output.endswith(".toml"):
        raise UsageError(f"-o {output}: a policy's name must end in .toml")
    return Path(output).expanduser()


def _check_together(
    given: dict[str, str | None], *, prevalence: str | None, rate: str | None, calibrate: str | None
) -> None:
    """Raise UsageError for options that miss another one, or have no effect beside another."""
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise UsageError(
            f"give one of --recall, --precision and --budget{', not ' * bool(named)}{', '.join(named)}"
        )
    (promise,) = named
    if calibrate not in {None, "platt"}:
        raise UsageError(f"--calibrate must be platt, not {calibrate!r}")
    if promise == "--precision" and prevalence is None:
        raise UsageError("--precision needs --prevalence: what share of the inputs in use is NSFW")
    if promise != "--precision" and prevalence is not None and calibrate is None:
        raise UsageError("--prevalence goes with --precision or --calibrate")
    if (promise == "--budget") != (rate is not None):
        raise UsageError("--rate goes with --budget, and --budget needs it")


def _check_labels(
    labels: list[str] | None, *, budget: str | None, per_category: bool, calibrate: str | None
) -> None:
    """Raise UsageError if labels are missing, or given where they have no effect."""
    if budget is None and not labels:
        raise UsageError("--recall, --precision and --calibrate need --labels")
    of_labels = {"--labels": labels, "--per-category": per_category, "--calibrate": calibrate}
    named = [name for name, value in of_labels.items() if value]
    if budget is not None and named:
        raise UsageError(f"--budget is of all inputs, so {' and '.join(named)} would have no effect")


def _target(
    recall: str | None,
    precision: str | None,
    prevalence: str | None,
    budget: str | None,
    rate: str | None,
    delta: float,
) -> Target:
    from clipmod_cli.evaluate.tuning.thresholds import Target

    if recall is not None:
        return Target(rate="recall", value=read_share(recall, "--recall"), delta=delta)
    if precision is not None and prevalence is not None:
        share = read_share(prevalence)
        return Target(
            rate="precision", value=read_share(precision, "--precision"), delta=delta, prevalence=share
        )
    most, inputs = _per_day(str(budget), "--budget"), _per_day(str(rate), "--rate")
    if most >= inputs:
        raise UsageError(
            f"--budget {budget} is enough for all inputs of --rate {rate}: nothing has to be tuned"
        )
    return Target(rate="flagged", value=most / inputs, delta=delta)


def _per_day(text: str, option: str) -> float:
    """Return how many a day a text such as `500/day` says."""
    found = _RATE.fullmatch(text.strip())
    if found is None or found[2] not in PER_DAY:
        raise UsageError(f"{option} must be a number by {', '.join(PER_DAY)}, as 500/day, not {text!r}")
    count = float(found[1].replace(",", "").replace("_", "")) * PER_DAY[found[2]]
    if count <= 0:
        raise UsageError(f"{option} must be over 0, not {text!r}")
    return count
