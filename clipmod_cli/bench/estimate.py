"""How long a run takes, from a sample of its inputs and the figures of `clipmod bench`.

On a CPU models and decoders use the same cores, so their times add up. Beside another device the slower of
the two bounds the rate. What else a view costs (hashing, judging, writing, waiting) is what the end-to-end
run of `clipmod bench` took beyond that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from clipmod_cli.bench.figures import Figures
from clipmod_cli.bench.sampling import Measured, MeasuredSample, Stratum

CONFIDENCE: Final = 0.95
T_QUANTILES: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Of Student's t at 0.975, for 1, 2, ... degrees of freedom."""
NORMAL_QUANTILE: Final = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a view costs on this machine.

    Attributes:
        forward_ms: through all models.
        least_forward_ms: where early exit asks the first of them only; otherwise as `forward_ms`.
        other_ms: beyond decoding and the models; may be negative.
        start_s: until the models are loaded, in seconds.
        shares_cores: decoders and models use the same cores.
        slower, faster: the slowest and the fastest run of `clipmod bench`, as factors of the time.
    """

    forward_ms: float
    least_forward_ms: float
    other_ms: float
    start_s: float
    shares_cores: bool
    slower: float = 1.0
    faster: float = 1.0

    @classmethod
    def of(cls, figures: Figures, *, screens: Figures | None = None, first: str | None = None) -> Self:
        """Return those of figures.

        Args:
            figures: of the models.
            screens: of the models that are asked before them; None if there are none.
            first: the spec of the model after which views may need no other one; None if all are asked.
        """
        report, end = figures.report, figures.report.end_to_end
        shares_cores = report.setup.device == "cpu"
        views = end.views_per_image or 1.0
        known = combined(report.stages["decoding"].ms, figures.ms_a_view * views, shares_cores=shares_cores)
        measured = (figures,) if screens is None else (figures, screens)
        forward_ms = sum(one.ms_a_view for one in measured)
        by_spec = {model.spec: model.ms for one in measured for model in one.report.forward.values()}
        return cls(
            forward_ms=forward_ms,
            least_forward_ms=forward_ms if first is None else by_spec[first],
            other_ms=(1000 / end.images_per_s - known) / views,
            start_s=sum(one.report.load_seconds for one in measured),
            shares_cores=shares_cores,
            slower=end.images_per_s / end.low_images_per_s,
            faster=end.images_per_s / end.high_images_per_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEstimate:
    """How long a run takes, in seconds.

    Attributes:
        seconds: the likely time; None if only the lower limit is known.
        low_s, high_s: the limits of the 95 % interval; `high_s` is None if it cannot be told.
        decoding_s: of all workers, if they did nothing else.
        models_s: of all models likewise.
        views: that the models are shown.
        sampled: inputs of the sample.
    """

    seconds: float | None
    low_s: float
    high_s: float | None
    decoding_s: float
    models_s: float
    start_s: float
    views: float
    sampled: int

    @property
    def bound(self) -> str:
        """What takes longer."""
        return "decoding" if self.decoding_s > self.models_s else "models"


def combined(decoding: float, models: float, *, shares_cores: bool) -> float:
    """Return the time of both at once."""
    return decoding + models if shares_cores else max(decoding, models)


@dataclass(frozen=True, slots=True)
class Total:
    """An estimated sum over all inputs."""

    value: float
    variance: float = 0.0
    degrees: float = math.inf


def estimate(sample: MeasuredSample, costs: Costs, workers: int) -> RunEstimate:
    """Return the estimate for all inputs of the strata.

    Args:
        sample: measured; each stratum that was not reached is taken to be as the others.
        costs: of a view.
        workers: that decode at once.
    """
    strata = _reached(sample.strata)
    decode_s = sample.overhead / workers / 1000  # for a millisecond of one worker
    decoding = _total(strata, (decode_s, 0.0)).value
    views = _total(strata, (0.0, 1.0)).value
    models = views * costs.forward_ms / 1000
    longest = max((one.ms / 1000 for stratum in strata for one in stratum.measured), default=0.0)

    def run(forward_ms: float) -> Total:
        weights = _weights(decoding, views * forward_ms / 1000, decode_s, forward_ms, costs)
        total = _total(strata, weights)
        floor = max(decoding, views * forward_ms / 1000, longest)
        return Total(max(floor, total.value), total.variance, total.degrees)

    likely, least = run(costs.forward_ms), run(costs.least_forward_ms)
    low = max(least.value - _margin(least), min(least.value, _least(strata, decode_s, costs)))
    is_cut = any(not one.complete for stratum in strata for one in stratum.measured)
    return RunEstimate(
        seconds=likely.value + costs.start_s,
        low_s=low * costs.faster + costs.start_s,
        high_s=None if is_cut else (likely.value + _margin(likely)) * costs.slower + costs.start_s,
        decoding_s=decoding,
        models_s=models,
        start_s=costs.start_s,
        views=views,
        sampled=sample.count,
    )


def at_least(views: int, costs: Costs) -> RunEstimate:
    """Return how long the models take at least, for so many views."""
    models = views * costs.least_forward_ms / 1000
    return RunEstimate(
        seconds=None,
        low_s=models * costs.faster + costs.start_s,
        high_s=None,
        decoding_s=0.0,
        models_s=models,
        start_s=costs.start_s,
        views=views,
        sampled=0,
    )


def _weights(
    decoding_s: float, models_s: float, decode_s: float, forward_ms: float, costs: Costs
) -> tuple[float, float]:
    """Return the seconds for a millisecond of decoding and for a view."""
    other = costs.other_ms / 1000
    if costs.shares_cores:
        return decode_s, forward_ms / 1000 + other
    return (decode_s, other) if decoding_s > models_s else (0.0, forward_ms / 1000 + other)


def _least(strata: Sequence[Stratum], decode_s: float, costs: Costs) -> float:
    """Return what the sample alone takes."""
    measured = [one for stratum in strata for one in stratum.measured]
    decoding = decode_s * sum(one.ms for one in measured)
    models = costs.least_forward_ms / 1000 * sum(one.views for one in measured)
    return combined(decoding, models, shares_cores=costs.shares_cores)


def _reached(strata: Sequence[Stratum]) -> list[Stratum]:
    """Return the strata with a sample; those without one are counted to one that has."""
    reached = [one for one in strata if one.measured]
    missed = [one for one in strata if not one.measured]
    if not reached or not missed:
        return reached
    largest = max(reached, key=lambda one: one.count)
    joined = Stratum(largest.name, largest.is_film)
    joined.count = largest.count + sum(one.count for one in missed)
    joined.size = largest.size + sum(one.size for one in missed)
    joined.measured = largest.measured
    return [joined if one is largest else one for one in reached]


def _total(strata: Sequence[Stratum], weights: tuple[float, float]) -> Total:
    """Return the sum of weighted milliseconds and views over all inputs of the strata."""
    parts = [_total_of(one, weights) for one in strata]
    variance = sum(part.variance for part in parts)
    # Welch and Satterthwaite
    spread = sum(part.variance**2 / part.degrees for part in parts)
    return Total(sum(part.value for part in parts), variance, variance**2 / spread if spread else math.inf)


def _total_of(stratum: Stratum, weights: tuple[float, float]) -> Total:
    """Return the sum over one stratum: by the mean, of films by size, since a longer one takes longer."""
    values = [one.ms * weights[0] + one.views * weights[1] for one in stratum.measured]
    n, count = len(values), stratum.count
    if n >= count:
        return Total(sum(values))
    sizes = _sizes(stratum.measured) if stratum.is_film else [1.0] * n
    ratio = sum(values) / sum(sizes)
    total = ratio * (stratum.size if stratum.is_film else count)
    if n == 1:  # its spread is unknown
        return Total(total, total**2, 1)
    residuals = [value - ratio * size for value, size in zip(values, sizes, strict=True)]
    deviation = sum(one**2 for one in residuals) / (n - 1)
    return Total(total, count**2 * (1 - n / count) * deviation / n, n - 1)


def _sizes(measured: Sequence[Measured]) -> list[float]:
    return [float(max(1, one.size)) for one in measured]


def _margin(total: Total) -> float:
    """Return half the width of the interval."""
    return t_quantile(total.degrees) * math.sqrt(total.variance)


def t_quantile(degrees: float) -> float:
    """Return the 0.975 quantile of Student's t; of broken degrees of freedom that of the next fewer."""
    if degrees < len(T_QUANTILES) + 1:
        return T_QUANTILES[max(0, int(degrees) - 1)]
    z = NORMAL_QUANTILE
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
