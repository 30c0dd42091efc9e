"""What `clipmod tune` says: what is promised, what it costs, or why nothing can be promised."""

from __future__ import annotations

import math
from collections.abc import Iterator

from clipmod_cli.evaluate.samples import LabelledSet
from clipmod_cli.evaluate.tuning.platt import CalibrationCheck
from clipmod_cli.evaluate.tuning.thresholds import Target, TuningRefused, cost_of
from clipmod_cli.judge.calibration import calibrated
from clipmod_cli.judge.policy.tuning import PlattCalibration, Promise
from clipmod_cli.judge.policy.values import Policy


def promises(policy: Policy, per_day: float | None = None) -> Iterator[str]:
    """Yield a sentence for each promise of a tuned policy; `per_day` inputs come, if that is known."""
    for one in policy.tuned.promises if policy.tuned else ():
        yield f"With {percent(1 - one.delta)} confidence, {_promise(one, per_day)}."


def calibration_lines(
    found: PlattCalibration, check: CalibrationCheck | None, policy: Policy
) -> Iterator[str]:
    """Yield what a calibration says of scores, and how it fits labels that it was not fitted on."""
    share = (
        found.positives / (found.positives + found.negatives)
        if found.prevalence is None
        else found.prevalence
    )
    shown = sorted({0.1, 0.5, 0.9, policy.thresholds["medium"]})
    means = ", ".join(f"{score:.6g} is {percent(float(calibrated(score, found)))}" for score in shown)
    yield (
        f"Calibrated on {found.positives} NSFW and {found.negatives} other inputs, for {percent(share)} NSFW "
        f"among all: a score of {means}."
    )
    if check is None:
        yield "No labels are left to check the calibration on: both kinds are needed."
        return
    before, after = check.before, check.after
    yield (
        f"On the inputs of the threshold: ECE {before.ece:.4f} before, {after.ece:.4f} after; "
        f"Brier score {before.brier:.4f} before, {after.brier:.4f} after."
    )
    if after.brier >= before.brier:
        yield "Note: there the probabilities are no better than the scores. Do not rely on them."
    yield "Records tell it as nsfw_probability, beside unsafe_score. No decision depends on it."


def _promise(one: Promise, per_day: float | None) -> str:
    what, start = one.category or "NSFW", f"from {one.threshold:.6g} on"
    match one.rate:
        case "recall":
            return f"at least {percent(one.target)} of all {what} inputs are flagged, {start}"
        case "precision":
            flags = f"what {one.category or 'the unsafe score'} flags {start}"
            share = f"if {percent(one.prevalence)} of the inputs are"
            return f"at least {percent(one.target)} of {flags} is {what}, {share}"
        case "flagged":
            count = "" if per_day is None else f" ({one.target * per_day:,.0f} of {per_day:,.0f} a day)"
            return f"at most {percent(one.target)} of all inputs{count} are flagged on average, {start}"
    raise AssertionError(one.rate)


def cost(labelled: LabelledSet, before: Policy, policy: Policy) -> Iterator[str]:
    """Yield what the thresholds of a tuned policy do on the labelled inputs, and did before."""
    then = labelled.threshold if labelled.threshold is not None else before.thresholds["medium"]
    is_sum = policy.tuned is not None and policy.tuned.threshold_of(None) is not None
    old = cost_of(labelled.pairs, before, then)
    new = cost_of(labelled.pairs, policy, policy.thresholds["medium"] if is_sum else then)
    shares = (
        ("all", new.flagged, old.flagged),
        ("the NSFW ones", new.caught, old.caught),
        ("the others", new.alarms, old.alarms),
    )
    told = ", ".join(f"{percent(now)} of {what} (before {percent(earlier)})" for what, now, earlier in shares)
    yield f"Of the {len(labelled.pairs):,} labelled inputs it was found on, it flags {told}."


def thinned(used: LabelledSet, every: LabelledSet) -> str:
    """Return how many labels are used of how many, and why."""
    largest = max(pair.weight for pair in every.pairs)
    return (
        f"{len(used.pairs):,} of {len(every.pairs):,} labelled inputs are used: they were drawn with "
        "different probabilities, and a promise needs the same one for all. Each is kept with chance "
        f"{1 / largest:.4g} / p, which is the smallest probability over its own, by the hash of its content. "
        "To have all used, draw all alike: `clipmod review --audit 100%` with a new file of decisions, or a "
        "random sample"
    )


def refusal(
    one: TuningRefused,
    target: Target,
    per_day: float | None,
    calibration: PlattCalibration | None = None,
    *,
    is_thinned: bool = False,
) -> str:
    """Return why nothing is promised, how many inputs are missing, and what can be promised.

    Args:
        one: the refusal.
        target: what was to be promised.
        per_day: how many inputs come, with a budget.
        calibration: the one that took a part of the labels.
        is_thinned: whether the labels are a part of those that there were; see `thin`.
    """
    sure, what, short = percent(1 - target.delta), one.category or "NSFW", one.shortfall
    labels = f"{one.inputs} labelled inputs, {one.positives} of them {what},"
    match target.rate:
        case "recall":
            said = f"{labels} are too few to promise with {sure} confidence that {percent(target.value)}"
            said += f" of all {what} inputs are flagged"
            kind, instead = f"that are {what}", f"--recall {_down(short.possible):g}"
        case "precision":
            said = f"{labels} do not promise with {sure} confidence that {percent(target.value)} of what is"
            said += f" flagged is {what}"
            kind, instead = f"that are not {what}", f"--precision {_down(short.possible):g}"
        case "flagged":
            said = f"{one.inputs} records do not promise with {sure} confidence that at most"
            said += f" {percent(target.value)} of all inputs are flagged"
            kind, instead = "", f"--budget {math.ceil(short.possible * (per_day or 1.0))}/day"
    more = f". At least {short.missing} more {kind}".rstrip() + " are needed" if short.missing else ""
    if more and is_thinned:
        more += " among the labels used: decide on more that are drawn (`clipmod review --audit 100%`)"
    if calibration is not None:
        more += f", and half as many again for the calibration, which took {calibration.positives} NSFW ones"
    return f"{said}{more}. Can be promised: {instead if 0 < short.possible < 1 else 'nothing'}"


def percent(share: float | None) -> str:
    """Return a share as per cent, to four digits."""
    return "-" if share is None else f"{100 * share:.4g} %"


def _down(share: float) -> float:
    return math.floor(share * 1e4) / 1e4
