"""The page: every text escaped, no script, no remote address, no style but its own sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clipmod_cli import __version__
from clipmod_cli.evaluate.intervals import Estimate
from clipmod_cli.evaluate.measures.evaluation import Evaluation
from clipmod_cli.evaluate.measures.metrics import FEW_POSITIVES
from clipmod_cli.evaluate.measures.misjudged import ListedInput
from clipmod_cli.evaluate.report import plots
from clipmod_cli.evaluate.report.tables import (
    LISTED,
    against,
    few_note,
    judges,
    matrix,
    prevalence,
    rates,
    rest_of,
    slices,
)
from clipmod_cli.evaluate.report.words import (
    interval,
    number,
    percent,
)
from clipmod_cli.evaluate.samples import ENSEMBLE, NSFW
from clipmod_cli.review.html import facts_list, head, now, text_of
from clipmod_cli.review.thumbnails import Thumbnail

Pictures = Mapping[tuple[str, str | None], Thumbnail]


def page_of(one: Evaluation, pictures: Pictures) -> Iterator[str]:
    """Yield the pieces of the page.

    Args:
        one: what was measured.
        pictures: thumbnails of misjudged inputs, by source and member.
    """
    yield head(f"clipmod eval: {one.name}", "clipmod_cli.evaluate.report", "page.css") + "<main>"
    yield _summary(one)
    yield _tiles(one)
    yield _section("All rates", rates(one.headline), _mix_note(one))
    yield _section("What the labels came to", *_confusions(one))
    yield _section("Curves", _plots(one))
    yield from _tables(one)
    if one.against is not None:
        yield _section(f"Against {text_of(one.against.name)}", *against(one.against))
    yield from _lists(one, pictures)
    yield _foot()


def _summary(one: Evaluation) -> str:
    facts = {
        "Inputs": _inputs(one),
        "Labels": _labels(one),
        "Policy": (f"{one.policy} ({one.policy_hash})" if one.policy else "not recorded")
        + (f", NSFW from {one.threshold:g}" if one.threshold is not None else ""),
        "Models": ", ".join(name for name in one.quality[one.positive] if name != ENSEMBLE) or "not recorded",
        **_cost(one),
    }
    few = f"Under {FEW_POSITIVES} {one.positive} inputs are labelled: the intervals are wide."
    return (
        f"<header><h1>How good is it?</h1><p class=under>{text_of(one.name)} · "
        f"{now()}</p>"
        + (f"<p class=note>{text_of(few)}</p>" if one.headline.few else "")
        + f"{facts_list(facts)}</header>"
    )


def _inputs(one: Evaluation) -> str:
    quality = one.headline
    failed = f"; {quality.errors:,} could not be judged" if quality.errors else ""
    return (
        f"{quality.n:,} with a label: {quality.positives:,} {one.positive}, {quality.negatives:,} not{failed}"
    )


def _labels(one: Evaluation) -> str:
    labels = one.labels
    told = [
        f"{labels.matched:,} of {labels.given:,} matched",
        f"{labels.unmatched:,} without a record" if labels.unmatched else "",
        f"{labels.conflicting:,} that disagree, left out" if labels.conflicting else "",
        f"{labels.copies:,} copies, counted once" if labels.copies else "",
        "weighted: each stands for several inputs" if labels.weighted else "",
    ]
    return "; ".join(filter(None, told))


def _cost(one: Evaluation) -> dict[str, str]:
    cost = one.cost
    time = [
        f"{value:,.0f} ms {what}"
        for value, what in (
            (cost.latency_median_ms, "an input from start to record (median, queueing included)"),
            (cost.compute_median_ms, "its own cost"),
        )
        if value is not None
    ]
    if cost.inputs_per_s is not None:
        time.append(f"{cost.inputs_per_s:,.1f} inputs/s")
    found = {"Time": "; ".join(time)} if time else {}
    return found | ({"Memory": f"{cost.peak_memory_mb:,.0f} MB"} if cost.peak_memory_mb is not None else {})


def _tiles(one: Evaluation) -> str:
    quality = one.headline
    tiles = [
        ("Caught", quality.recall, f"of the {text_of(one.positive)} inputs are flagged"),
        ("Caught or to review", quality.recall_with_review, "are flagged or sent to people"),
        ("False alarms", quality.false_alarm_rate, "of the others are flagged"),
    ]
    if one.prevalence is not None:
        told = f"of the flagged are right, where {one.prevalence.prevalence:.2%} are {text_of(one.positive)}"
        tiles.append(("Precision in use", one.prevalence.precision, told))
    else:
        tiles.append(("To look at", quality.load, "of all labelled are flagged or sent to people"))
    inner = "".join(
        f"<div><h2>{title}</h2><b>{_headline(estimate)}</b><p>{told}</p>{plots.bar(estimate)}"
        f"<p class=range>{_range(estimate)}</p></div>"
        for title, estimate, told in tiles
    )
    return f"<div class=tiles>{inner}</div>"


def _headline(estimate: Estimate) -> str:
    """Return the value; the bound where it is computed from no false alarm at all, which says little."""
    if estimate.hits is None and estimate.value == 1 and estimate.low is not None:
        return f"over {percent(estimate.low)}"
    return percent(estimate.value)


def _range(estimate: Estimate) -> str:
    of = f"<span>{estimate.hits:,} of {estimate.n:,}</span>" if estimate.hits is not None else ""
    return f"<span>{interval(estimate, percent) or 'no interval'}</span>{of}"


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{title}</h2>{''.join(parts)}</section>"


def _mix_note(one: Evaluation) -> str:
    share = one.headline.positives / max(one.headline.n, 1)
    return (
        f"<p class=told>Precision, accuracy, F1, average precision and calibration hold for inputs of which "
        f"{share:.0%} are {text_of(one.positive)}, as among these labels. Inputs that could not be judged "
        "count as not caught and as wrong.</p>"
    )


def _confusions(one: Evaluation) -> Iterator[str]:
    yield matrix(one.confusion)
    if len(one.category_confusion) > 1:
        yield "<h3>By category</h3><p class=told>Rows: the label. Columns: the ensemble's first category.</p>"
        yield matrix(one.category_confusion)


def _plots(one: Evaluation) -> str:
    if one.curves is None:
        return "<p>Curves need inputs of both labels.</p>"
    quality = one.headline
    drawn = [
        plots.roc(one.curves, quality.recall, quality.false_alarm_rate),
        plots.precision_recall(one.curves, quality.recall, quality.precision),
        plots.histogram(one.curves, one.threshold if one.positive == NSFW else None, one.positive),
    ]
    told = ""
    if one.calibration is not None:
        drawn.append(plots.reliability(one.calibration))
        told = (
            f"<p class=told>Expected calibration error {one.calibration.ece:.3f} over "
            f"{len(one.calibration.bins)} bins of equal mass, Brier score {one.calibration.brier:.3f}.</p>"
        )
    return f"<div class=plots>{''.join(drawn)}</div>{told}"


def _tables(one: Evaluation) -> Iterator[str]:
    if one.prevalence is not None:
        yield _section(
            f"Of a million inputs of which {one.prevalence.prevalence:.2%} are {text_of(one.positive)}",
            prevalence(one.prevalence),
        )
    by_judge = one.quality[one.positive]
    if len(by_judge) > 2:  # one model is the ensemble
        yield _section("By model", judges(by_judge.items()))
    if len(one.quality) > 1:
        found = ((question, by_model[ENSEMBLE]) for question, by_model in one.quality.items())
        yield _section("By category", judges(found))
    for by, rows in one.slices.items():
        yield _section(f"By {by}", slices(rows), few_note(row.few for row in rows))


def _lists(one: Evaluation, pictures: Pictures) -> Iterator[str]:
    lists: list[tuple[str, str, list[ListedInput]]] = [
        ("Missed", "Neither flagged nor sent to review, the surest mistakes first.", one.misjudged.missed),
        ("Only sent to review", "Not flagged; a person sees them.", one.misjudged.reviewed),
        ("False alarms", "Flagged, and labelled otherwise.", one.misjudged.false_alarms),
        (
            "Labels that may be wrong",
            "They score as the other label does. Look at these first: some labels of every set are wrong.",
            one.suspect_labels,
        ),
    ]
    for title, told, found in lists:
        if found:
            cards = "".join(_card(listed, pictures) for listed in found[:LISTED])
            yield (
                f"<section><h2>{title} <small>{len(found):,}</small></h2><p class=told>{told}</p>"
                f"<ul class=cards>{cards}</ul>{rest_of(len(found))}</section>"
            )


def _card(listed: ListedInput, pictures: Pictures) -> str:
    thumbnail = pictures.get((listed.source, listed.member))
    if thumbnail is None:
        picture = ""
    elif thumbnail.uri:
        picture = (
            f'<div class=picture><img src="{thumbnail.uri}" alt="blurred thumbnail" width={thumbnail.width} '
            f"height={thumbnail.height} loading=lazy></div>"
        )
    else:
        picture = f"<div class=picture><span>No picture: {text_of(thumbnail.note)}</span></div>"
    score = number(listed.score) if listed.error is None else text_of(listed.error.replace("_", " "))
    category = f" · {text_of(listed.category.replace('_', ' '))}" if listed.category else ""
    return (
        f"<li class=card>{picture}<div class=text>"
        f"<p class=score><b>{score}</b> {text_of(listed.outcome)}{category}</p>"
        f"<p class=told>label {text_of(listed.label)}</p>"
        f"<bdi class=path dir=ltr>{text_of(listed.name)}</bdi></div></li>"
    )


def _foot() -> str:
    return (
        "<footer><p>Intervals hold 95 % of the time: Wilson's for rates, the bootstrap's for areas and "
        "differences, Jeffreys' posterior for what is computed from two rates. They tell what chance does to "
        "a sample of this size, not what a biased choice of inputs does.</p>"
        f"<p>Made by clipmod {__version__}. Pictures were reduced to a few grey pixels before they were put "
        "into this file, which has no script and needs no network. All numbers are in the JSON (--json).</p>"
        "</footer></main></body></html>\n"
    )
