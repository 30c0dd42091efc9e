"""The tables of the page; every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from clipmod_cli.evaluate.intervals import Estimate
from clipmod_cli.evaluate.measures.comparing import Comparison, McNemar
from clipmod_cli.evaluate.measures.metrics import FEW_POSITIVES, AtPrevalence, Quality, Slice
from clipmod_cli.evaluate.report.words import (
    AREAS,
    count,
    interval,
    metric,
    number,
    percent,
    signed,
    signed_percent,
    verdict_of,
)
from clipmod_cli.review.html import text_of

LISTED: Final = 60
"""Of each list of inputs; the JSON has all."""


def rates(one: Quality) -> str:
    """Return all rates and areas of one judge's answers."""
    rows = [
        ("Recall", one.recall, percent),
        ("Recall, or sent to review", one.recall_with_review, percent),
        ("False-alarm rate", one.false_alarm_rate, percent),
        ("Precision", one.precision, percent),
        ("Accuracy", one.accuracy, percent),
        ("Flagged or to review", one.load, percent),
        ("F1", one.f1, number),
        ("AUROC", one.auroc, number),
        ("Average precision", one.average_precision, number),
    ]
    cells = [
        [
            name,
            shown(estimate.value),
            interval(estimate, shown) or "not bounded",
            f"{estimate.hits:,} of {estimate.n:,}" if estimate.hits is not None else "",
        ]
        for name, estimate, shown in rows
    ]
    return _table(["", "value", "95 % interval", "inputs"], cells)


def matrix(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return a table of counts; the deeper a cell, the larger its share of its row."""
    columns = list(dict.fromkeys(name for row in counts.values() for name in row))
    rows = []
    for label, row in counts.items():
        total = sum(row.values())
        cells = "".join(
            f"<td class=heat{round(9 * row.get(name, 0) / total) if total else 0}>{row.get(name, 0):,}</td>"
            for name in columns
        )
        rows.append(f"<tr><th scope=row>{text_of(label)}</th>{cells}<td class=total>{total:,}</td></tr>")
    head = "".join(f"<th scope=col>{text_of(name)}</th>" for name in columns)
    return (
        f"<div class=wide><table class=matrix><thead><tr><th>label</th>{head}<th>all</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def prevalence(one: AtPrevalence) -> str:
    """Return what to expect of a million inputs."""
    rows = [
        ("Precision", one.precision, percent),
        ("Flagged", one.flagged, count),
        ("Missed", one.missed, count),
        ("Flagged or to review", one.looked_at, count),
        (f"Hours of people, at {one.seconds_each:g} s an input", one.hours, count),
    ]
    cells = [[name, shown(estimate.value), interval(estimate, shown)] for name, estimate, shown in rows]
    return _table(["", "value", "95 % interval"], cells)


def judges(rows: Iterable[tuple[str, Quality]]) -> str:
    """Return the quality of several judges, or of answers to several questions, by name."""
    found = list(rows)
    cells = [
        [
            name,
            f"{one.n:,}",
            f"{one.positives:,}",
            _both(one.recall),
            _both(one.precision),
            _both(one.false_alarm_rate),
            f"{number(one.auroc.value)} ({interval(one.auroc, number) or '-'})",
        ]
        for name, one in found
    ]
    names = ["", "n", "positives", "recall", "precision", "false alarms", "AUROC"]
    return _table(names, cells, [one.few for _, one in found]) + few_note(one.few for _, one in found)


def slices(rows: Sequence[Slice]) -> str:
    """Return the quality on parts of the inputs."""
    cells = [
        [
            one.name,
            f"{one.n:,}",
            f"{one.positives:,}",
            _both(one.recall),
            _both(one.recall_with_review),
            _both(one.false_alarm_rate),
            f"{one.errors:,}",
        ]
        for one in rows
    ]
    names = ["", "n", "positives", "recall", "or to review", "false alarms", "errors"]
    return _table(names, cells, [one.few for one in rows])


def few_note(few: Iterable[bool]) -> str:
    """Return why rows are grey, if some are."""
    return f"<p class=told>Grey: under {FEW_POSITIVES} positives.</p>" if any(few) else ""


def _both(one: Estimate) -> str:
    told = interval(one, percent)
    return f"{percent(one.value)} ({told})" if told else percent(one.value)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], few: Sequence[bool] = ()) -> str:
    head = "".join(f"<th scope=col>{text_of(name)}</th>" for name in names)
    body = []
    for place, row in enumerate(rows):
        grey = " class=few" if few and few[place] else ""
        cells = "".join(f"<td>{text_of(cell)}</td>" for cell in row[1:])
        body.append(f"<tr{grey}><th scope=row>{text_of(row[0])}</th>{cells}</tr>")
    return (
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def against(one: Comparison) -> Iterator[str]:
    """Yield the pieces of a comparison."""
    yield f"<p>{one.n:,} inputs are in both. Differences are these records less those.</p>"
    cells = []
    for name, estimate in one.differences.items():
        shown = signed if name in AREAS else signed_percent
        cells.append([metric(name), shown(estimate.value), interval(estimate, shown)])
    yield _table(["", "difference", "95 % interval"], cells)
    tests: list[tuple[str, McNemar]] = [
        ("all inputs", one.accuracy),
        ("positives", one.caught),
        ("negatives", one.spared),
    ]
    yield _table(
        ["right on", "only these", "only those", "McNemar's p", ""],
        [
            [name, f"{test.ours:,}", f"{test.theirs:,}", f"{test.p:.2g}", verdict_of(test)]
            for name, test in tests
        ],
    )
    if one.flips:
        rows = [[flip.name, flip.label, flip.before, flip.after] for flip in one.flips[:LISTED]]
        yield (
            f"<details><summary>{len(one.flips):,} inputs have another outcome</summary>"
            f"{_table(['input', 'label', 'those', 'these'], rows)}{rest_of(len(one.flips))}</details>"
        )


def rest_of(total: int) -> str:
    """Return how many inputs of a list are not shown; empty if none."""
    if total <= LISTED:
        return ""
    return f"<p class=told>{total - LISTED:,} more are in the JSON (--json).</p>"
