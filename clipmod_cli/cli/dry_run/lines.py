"""The plan of a run as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator

from clipmod_cli.bench.estimate import RunEstimate
from clipmod_cli.cli.dry_run.plan import RunPlan
from clipmod_cli.cli.terminal.progress import duration
from clipmod_cli.cli.terminal.stdout import plain


def no_estimate_line(reason: str) -> str:
    """Return what is said where the time cannot be estimated."""
    return f"no estimate of the time: {plain(reason)}"


def lines_of(plan: RunPlan, *, inputs: int, done: int) -> Iterator[str]:
    """Yield the lines below the counts.

    Args:
        plan: what the run would do.
        inputs: that are not invalid.
        done: of these, those that have a record in the output.
    """
    left = inputs - done
    if done:
        yield f"{'done':<20} {done:>9} inputs, {left:,} to judge"
    yield ""
    if plan.estimate is None or plan.figures is None:
        yield no_estimate_line(plan.reason)
        return
    one, report = plan.estimate, plan.figures.report
    yield f"time      {_time(one, left)}"
    names = ", ".join(plain(name) for name in report.forward)
    each = plan.costs.forward_ms if plan.costs is not None else 0.0
    yield f"models    {duration(one.models_s)}: {one.views:,.0f} views, {each:,.3g} ms each by {names}"
    if one.seconds is not None:
        yield f"decoding  {duration(one.decoding_s)}: {plan.options.workers} workers"
    yield f"start     {duration(one.start_s)}"
    at = f"{plan.figures.measured_at.astimezone():%Y-%m-%d}"
    of = f"{one.sampled:,} of {left:,} inputs and " if one.seconds is not None else ""
    yield f"from {of}figures of {at} on this machine ({report.setup.device}, {report.setup.dtype})"
    for note in plan.notes:
        yield f"- {note}"


def _time(one: RunEstimate, inputs: int) -> str:
    if one.seconds is None:
        return f"at least {duration(one.low_s)}"
    rate = f", {inputs / one.seconds:,.3g} inputs/s" if one.seconds else ""
    if one.high_s is None:
        return f"at least {duration(one.low_s)}; about {duration(one.seconds)} if films are like the sample"
    return f"about {duration(one.seconds)} (95 %: {duration(one.low_s)} to {duration(one.high_s)}){rate}"
