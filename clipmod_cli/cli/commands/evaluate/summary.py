"""The summary of `clipmod eval` as text that fits 80 columns."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clipmod_cli.cli.terminal.stdout import plain
from clipmod_cli.evaluate.intervals import Estimate
from clipmod_cli.evaluate.measures.comparing import Comparison, McNemar
from clipmod_cli.evaluate.measures.evaluation import Cost, Evaluation
from clipmod_cli.evaluate.measures.metrics import FEW_POSITIVES, AtPrevalence, Quality, Slice
from clipmod_cli.evaluate.measures.misjudged import ListedInput
from clipmod_cli.evaluate.report.words import (
    AREAS,
    Shown,
    count,
    interval,
    metric,
    number,
    percent,
    signed,
    signed_percent,
    verdict_of,
)
from clipmod_cli.evaluate.samples import ENSEMBLE, NSFW

COLUMNS: Final = 80
LISTED: Final = 5
"""Of a list of inputs; the report and the JSON have all."""


def as_text(evaluation: Evaluation, *, is_terminal: bool) -> str:
    """Return the summary, coloured for a terminal."""
    colour = is_terminal and "NO_COLOR" not in os.environ
    written = io.StringIO()
    console = Console(
        file=written, width=COLUMNS, force_terminal=colour, no_color=not colour, highlight=False
    )
    for part in _parts(evaluation):
        console.print(part)
    return written.getvalue()


def _parts(one: Evaluation) -> Iterator[Table | Text]:
    yield from _head(one)
    yield _quality(one.headline)
    yield _title(f"Label and outcome{'' if one.positive == NSFW else ' (NSFW or Safe)'}")
    yield _confusion(one.confusion)
    if len(one.category_confusion) > 1:
        yield _title("Labelled category (row) and the ensemble's (column)")
        yield _confusion(one.category_confusion)
    judges = one.quality[one.positive]
    if len(judges) > 2:  # one model is the ensemble
        yield _title("By model")
        yield _judges(judges.items())
    if len(one.quality) > 1:
        yield _title("By question (ensemble)")
        yield _judges((question, found[ENSEMBLE]) for question, found in one.quality.items())
    if one.prevalence is not None:
        yield from _prevalence(one.prevalence)
    for by, found in one.slices.items():
        yield _title(f"By {by}")
        yield _slices(found)
    if one.against is not None:
        yield from _against(one.against)
    yield from _lists(one)
    yield from _cost(one.cost)


def _head(one: Evaluation) -> Iterator[Text]:
    labels, quality = one.labels, one.headline
    yield Text(
        plain(f"{one.name}: policy {one.policy or 'not recorded'}, threshold {number(one.threshold)}"),
        style="bold",
    )
    left_out = {
        "without a record": labels.unmatched,
        "conflicting": labels.conflicting,
        "copies counted once": labels.copies,
        "records without a label": labels.unlabelled_records,
        "decided by banks, left out": labels.by_banks,
    }
    told = "; ".join(f"{count} {what}" for what, count in left_out.items() if count)
    yield Text(f"{labels.matched} of {labels.given} labels matched{f' ({told})' if told else ''}")
    yield Text(
        f"{quality.n} inputs evaluated: {quality.positives} {one.positive}, {quality.negatives} not"
        f"{f', {quality.errors} errors' if quality.errors else ''}{', weighted' if labels.weighted else ''}"
    )
    if quality.few:
        yield Text(
            f"Under {FEW_POSITIVES} {one.positive} inputs: the intervals tell how little that says.",
            style="yellow",
        )


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _table(names: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for place, name in enumerate(names):
        table.add_column(plain(name), justify="right" if place else "left", overflow="fold")
    return table


def _quality(one: Quality) -> Table:
    table = _table(["", "value", "95 % interval", "of"])
    for name, estimate in {
        "recall": one.recall,
        "  or sent to review": one.recall_with_review,
        "false-alarm rate": one.false_alarm_rate,
        "precision (at this mix)": one.precision,
        "flagged or to review": one.load,
        "accuracy": one.accuracy,
    }.items():
        of = f"{estimate.hits} of {estimate.n}" if estimate.hits is not None else ""
        table.add_row(name, percent(estimate.value), interval(estimate, percent), of)
    for name, estimate in {
        "F1": one.f1,
        "AUROC": one.auroc,
        "average precision": one.average_precision,
    }.items():
        table.add_row(name, number(estimate.value), interval(estimate, number), "")
    return table


def _confusion(counts: Mapping[str, Mapping[str, int]]) -> Table:
    outcomes = list(dict.fromkeys(outcome for row in counts.values() for outcome in row))
    table = _table(["label", *outcomes])
    for label, row in counts.items():
        table.add_row(plain(label), *(f"{row.get(outcome, 0)}" for outcome in outcomes))
    return table


def _judges(rows: Iterable[tuple[str, Quality]]) -> Table:
    table = _table(["", "n", "recall", "false alarms", "AUROC"])
    for name, one in rows:
        cells = [f"{one.n}", _both(one.recall), _both(one.false_alarm_rate), _both(one.auroc, number)]
        table.add_row(plain(name), *cells, style="dim" if one.few else "")
    return table


def _slices(rows: Iterable[Slice]) -> Table:
    table = _table(["", "n", "positives", "recall", "false alarms"])
    for one in rows:
        cells = [f"{one.n}", f"{one.positives}", _both(one.recall), _both(one.false_alarm_rate)]
        few = " (few)" if one.few else ""
        table.add_row(plain(one.name) + few, *cells, style="dim" if one.few else "")
    return table


def _prevalence(one: AtPrevalence) -> Iterator[Table | Text]:
    yield _title(f"Of a million inputs of which {one.prevalence:.2%} are positive")
    table = _table(["", "value", "95 % interval"])
    table.add_row("precision", percent(one.precision.value), interval(one.precision, percent))
    for name, estimate in {
        "flagged": one.flagged,
        "missed": one.missed,
        "flagged or to review": one.looked_at,
        f"hours of people, {one.seconds_each:g} s each": one.hours,
    }.items():
        table.add_row(name, count(estimate.value), interval(estimate, count))
    yield table


def _against(one: Comparison) -> Iterator[Table | Text]:
    yield _title(f"Against {one.name} ({one.n} inputs in both)")
    table = _table(["these less those", "difference", "95 % interval"])
    for name, estimate in one.differences.items():
        shown = signed if name in AREAS else signed_percent
        table.add_row(metric(name), shown(estimate.value), interval(estimate, shown))
    yield table
    yield Text(f"right on all inputs: {_mcnemar(one.accuracy)}")
    yield Text(f"on positives: {_mcnemar(one.caught)}")
    yield Text(f"on negatives: {_mcnemar(one.spared)}")
    yield Text(f"{len(one.flips)} inputs have another outcome" + (":" if one.flips else ""))
    for flip in one.flips[:LISTED]:
        yield Text(f"  {flip.before} to {flip.after}, label {flip.label}: {plain(flip.name)}")


def _mcnemar(one: McNemar) -> str:
    return f"{one.ours} only these, {one.theirs} only those; McNemar's p = {one.p:.2g}, {verdict_of(one)}"


def _lists(one: Evaluation) -> Iterator[Text]:
    lists: dict[str, list[ListedInput]] = {
        "Missed": one.misjudged.missed,
        "Only sent to review": one.misjudged.reviewed,
        "False alarms": one.misjudged.false_alarms,
        "Labels that may be wrong": one.suspect_labels,
    }
    for title, found in lists.items():
        if found:
            yield _title(f"{title}: {len(found)}")
        for listed in found[:LISTED]:
            score = listed.error or number(listed.score)
            yield Text(f"  {score}  {plain(listed.label)}  {plain(listed.name)}", overflow="fold")
        if len(found) > LISTED:
            yield Text(f"  and {len(found) - LISTED} more, in the report (-o) and the JSON (--json)")


def _cost(one: Cost) -> Iterator[Text]:
    parts = [
        ("latency per input including queueing: median", one.latency_median_ms, "ms"),
        ("95th percentile", one.latency_p95_ms, "ms"),
        ("own cost: median", one.compute_median_ms, "ms"),
        ("scan", one.wall_s, "s"),
        ("rate", one.inputs_per_s, "inputs/s"),
        ("peak memory", one.peak_memory_mb, "MB"),
    ]
    told = [f"{name} {value:,.4g} {unit}" for name, value, unit in parts if value is not None]
    if told:
        yield _title("Time and memory")
        yield from (Text(f"  {line}") for line in told)


def _both(one: Estimate, shown: Shown = percent) -> str:
    found = interval(one, shown).removesuffix(" %").replace(" to ", "-")
    return f"{shown(one.value)} ({found})" if found else shown(one.value)
