"""What bounds the rate and what can be done about it; what looks wrong."""

from __future__ import annotations

from collections.abc import Iterator

from clipmod_cli.bench.report import EndToEnd, Forward, Setup, Stage, Verdict

MOSTLY = 0.9
"""From this share of the time on, models compute nearly all of it, and nothing else can bound the rate."""

SLOWER_IN_BATCHES = 1.5
"""A picture in a batch never costs so much more than one alone, unless a library falls into a slow path."""


def find_bound(stages: dict[str, Stage], end: EndToEnd, setup: Setup) -> Verdict:
    """Return which stage bounds the rate of the whole line."""
    slowest = max(("decoding", "forward", "judge", "write"), key=lambda name: stages[name].ms)
    if end.busy_share >= MOSTLY or slowest == "forward":
        return Verdict(by="forward", says=_on_forward(end, setup))
    if slowest == "decoding":
        return Verdict(
            by="decode",
            says=f"Decoding bounds it: {setup.workers} workers bring {stages['decoding'].images_per_s:.0f} "
            f"images/s and the models could take {stages['forward'].images_per_s:.0f}. More cores help, with "
            "--workers for each; so does --decode fast, if it is off.",
        )
    if slowest == "judge":
        return Verdict(
            by="judge",
            says=f"Judging bounds it ({stages['judge'].ms:.2f} ms an image, on one core): fewer models "
            "(--models) help, and so do several runs, each on a part of the inputs.",
        )
    return Verdict(
        by="write",
        says=f"Writing records bounds it ({stages['write'].ms:.1f} ms an image): a faster disk helps.",
    )


def _on_forward(end: EndToEnd, setup: Setup) -> str:
    said = f"The forward pass bounds it: models compute for {end.busy_share:.0%} of the time."
    if setup.device == "cpu":
        return (
            f"{said} A GPU, or a CPU that multiplies bfloat16 (AMX), helps most; fewer or smaller models "
            "(--models) and --early-exit exact do too."
        )
    return f"{said} Fewer or smaller models (--models), --early-exit exact or a second GPU help."


def find_oddities(models: dict[str, Forward], end: EndToEnd, setup: Setup, skipped: int) -> Iterator[str]:
    """Yield a sentence on each thing that looks wrong."""
    for name, model in models.items():
        if setup.forward_batch > 1 and model.ms > SLOWER_IN_BATCHES * model.ms_alone:
            yield (
                f"{name} takes {model.ms:.0f} ms an image in batches of {setup.forward_batch} and "
                f"{model.ms_alone:.0f} ms alone: a batch should not be slower. Please report it"
            )
    if end.errors:
        yield f"{end.errors} of {end.images} pictures could not be judged, which may take less or more time"
    if skipped:
        yield (
            f"{skipped} of the files looked at are no still pictures; the stages read, decode and view leave "
            "them out"
        )
    if setup.forward_batch < setup.batch_size:
        yield (
            f"the forward stage was measured with batches of {setup.forward_batch}, not {setup.batch_size}, "
            "to be done in time"
        )
