"""What records and store cost a run: the run loop over verdicts made in advance, into three outputs in turn.

    python -m benchmarks.records [--records 20000] [--rounds 5] [--rate 2000]

Everything from a verdict onwards is what `clipmod scan` does: making the record and its line, counting, the
file with its syncs, the file of the statistics, and sealing it at the end. Before that stands nothing: the
verdicts are those of three members under `female-presence`. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from clipmod_cli.banks.bank import NO_BANKS
from clipmod_cli.cli import run as one_run
from clipmod_cli.cli.output import open_output
from clipmod_cli.cli.signals import StopRequest
from clipmod_cli.cli.terminal.stdout import RealStdout
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.results import Result
from clipmod_cli.runs import loaded
from clipmod_cli.settings.definition import Settings
from clipmod_cli.types import Box, FrameScore, Item, Media, ModelScore, Verdict, View

POLICY = load_policy("female-presence")
NAMES = tuple(category.name for category in POLICY.categories)
MODELS = {"ViT-L-14": 0.40, "ViT-H-14": 0.35, "ViT-g-14": 0.25}
THRESHOLD = 0.5
DIFFERENT = 500
"""Verdicts with scores of their own; beyond that they differ by name, hash and place."""


@dataclass(frozen=True)
class Cost:
    """What one run of the loop took, for one record, in microseconds.

    Attributes:
        wall_us: by the clock; with `--rate` mostly waiting.
        cpu_us: processor time of all threads.
        end_us: of the wall time, what passed after the last record: the last sync, and sealing.
    """

    wall_us: float
    cpu_us: float
    end_us: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.0, help="verdicts a second; 0 does not wait")
    wanted = parser.parse_args()
    drawn = [drawn_verdict(index) for index in range(DIFFERENT)]
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "null, no store": _settings(os.devnull, None),
            "file, no store": _settings(f"{folder}/out.jsonl", None),
            "file and store": _settings(f"{folder}/out.jsonl", f"{folder}/store.duckdb"),
        }
        rounds = [
            {name: _run(one, drawn, wanted.records, wanted.rate) for name, one in settings.items()}
            for _ in range(wanted.rounds)
        ]
    print(json.dumps(_report(rounds, wanted.rate)))


def _settings(output: str, store: str | None) -> Settings:
    return Settings(output=output, overwrite=True, quiet=True, no_db=store is None, db=store)


def _report(rounds: list[dict[str, Cost]], rate: float) -> dict[str, object]:
    plain, full = "null, no store", "file and store"
    on_top = [one[full].wall_us - one[plain].wall_us for one in rounds]
    cpu_on_top = [one[full].cpu_us - one[plain].cpu_us for one in rounds]
    period_us = 1e6 / (rate or 2000.0)
    return {
        "us_a_record": {name: _medians([one[name] for one in rounds]) for name in rounds[0]},
        "on_top_wall_us": round(statistics.median(on_top), 1),
        "on_top_cpu_us": round(statistics.median(cpu_on_top), 1),
        # paced, the clock itself tells; unpaced, what it adds is held against the time that a record has
        "on_top_share": round(statistics.median(on_top) / period_us, 3),
        "rate": rate or None,
        "rounds": len(rounds),
        "cores": os.cpu_count(),
    }


def _medians(costs: list[Cost]) -> dict[str, float]:
    return {name: round(statistics.median(getattr(c, name) for c in costs), 1) for name in asdict(costs[0])}


def _run(settings: Settings, drawn: list[Verdict], count: int, rate: float) -> Cost:
    """Return what a whole run costs, from its beginning to its exit code."""
    ended: list[float] = []
    with (
        patch.object(loaded, "run", lambda *_, **__: _verdicts(drawn, count, rate, ended)),
        open_output(settings, RealStdout(descriptor=2, is_terminal=False)) as output,
    ):
        criteria = Criteria(policy=POLICY, threshold=THRESHOLD, judges=())
        inputs = one_run.Inputs(items=lambda _: iter(()), walk_ahead=False)
        begun, used = time.perf_counter(), time.process_time()
        models = loaded.LoadedRun.of(settings, Ensemble([]), criteria, NO_BANKS)
        one_run.Run(inputs, output, models, StopRequest()).judge_all()
        over, spent = time.perf_counter(), time.process_time()
    if settings.output != os.devnull and Path(settings.output or "").read_bytes().count(b"\n") != count:
        raise AssertionError("records are missing from the output")
    each = 1e6 / count
    return Cost(wall_us=(over - begun) * each, cpu_us=(spent - used) * each, end_us=(over - ended[0]) * each)


def _verdicts(drawn: list[Verdict], count: int, rate: float, ended: list[float]) -> Iterator[Result]:
    """Yield so many verdicts; with a rate no earlier than each is due."""
    begun = time.perf_counter()
    for index in range(count):
        if rate and (early := begun + index / rate - time.perf_counter()) > 0:
            time.sleep(early)
        one = drawn[index % len(drawn)]
        yield replace(one, item=Item(source=f"photos/2024/holiday-{index:06d}.jpg", index=index))
    ended.append(time.perf_counter())


def drawn_verdict(index: int) -> Verdict:
    rng = np.random.default_rng(index)
    shares = {name: rng.dirichlet(np.ones(len(NAMES))) for name in MODELS}
    total = np.sum([weight * shares[name] for name, weight in MODELS.items()], axis=0)
    by_model = {name: _score(one, rng) for name, one in shares.items()}
    top = _score(total, rng)
    unsafe = float(sum(p for p, c in zip(total, POLICY.categories, strict=True) if c.safety == "UNSAFE"))
    frame = FrameScore(
        number=0,
        time_s=0.0,
        view=View(box=Box(0, 0, 1280, 853)),
        hit=unsafe >= THRESHOLD,
        category=top.category,
        confidence=top.confidence,
        unsafe_score=unsafe,
        probabilities=top.probabilities,
        agreement=sum(w for name, w in MODELS.items() if by_model[name].category == top.category),
        by_model=by_model,
    )
    media = Media(
        started=0.0, sha256=rng.bytes(32).hex(), bytes=250_000 + index, mtime_ns=17 * 10**17 + index,
        width=1280, height=853, format="JPEG",
    )  # fmt: skip
    return Verdict(
        item=Item(source="", index=0), media=media, decision="NSFW" if frame.hit else "Safe",
        review_reasons=("low_agreement",) if frame.agreement < POLICY.agreement_threshold else (),
        degraded=False, deciding=frame, frames=(frame,), views_scored=1, segments=(), unseen_categories=(),
        inference_ms=1.9, total_ms=61.0 + index / 7,
    )  # fmt: skip


def _score(shares: np.ndarray, rng: np.random.Generator) -> ModelScore:
    top = int(np.argmax(shares))
    return ModelScore(
        category=NAMES[top],
        confidence=float(shares[top]),
        probabilities=dict(zip(NAMES, shares.tolist(), strict=True)),
        forward_ms=float(rng.uniform(0.4, 0.9)),
    )


if __name__ == "__main__":
    main()
