"""The estimate of `--dry-run`: its laws, its interval, its sample, and the figures that it is made from."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipmod_cli import __version__
from clipmod_cli.bench import figures, sampling
from clipmod_cli.bench.estimate import Costs, RunEstimate, at_least, estimate, t_quantile
from clipmod_cli.bench.figures import Figures, NoFigures
from clipmod_cli.bench.report import EndToEnd, Forward, Machine, Report, Setup, Stage
from clipmod_cli.bench.sampling import InputSample, Measured, MeasuredSample, Stratum
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.stage import Decoders
from clipmod_cli.models.device.processor import name_cpu
from clipmod_cli.pipeline import default_workers
from clipmod_cli.settings.definition import Settings
from clipmod_cli.types import Geometry, Item

COSTS = Costs(forward_ms=20, least_forward_ms=20, other_ms=1, start_s=0, shares_cores=True)
AT = datetime(2026, 11, 2, tzinfo=UTC)
MODELS = ["nudenet", "open_nsfw"]
PICTURES = st.lists(st.tuples(st.floats(0.1, 500), st.integers(0, 5)), min_size=2, max_size=30)


def stratum_of(pictures: list[tuple[float, int]], count: int, *, is_film: bool = False) -> Stratum:
    """Return a measured stratum of `count` inputs of 1,000 bytes."""
    stratum = Stratum("JPEG", is_film, count=count, size=1000 * count)
    stratum.measured = [Measured(ms, views, 1000) for ms, views in pictures]
    return stratum


def estimate_of(stratum: Stratum, costs: Costs = COSTS, workers: int = 2) -> RunEstimate:
    return estimate(MeasuredSample([stratum]), costs, workers)


def likely(one: RunEstimate) -> float:
    assert one.seconds is not None
    return one.seconds


@given(PICTURES, st.integers(2, 1000), st.booleans(), st.booleans())
def test_twice_as_many_inputs_take_twice_as_long(
    pictures: list[tuple[float, int]], factor: int, shares_cores: bool, is_film: bool
) -> None:
    costs = replace(COSTS, shares_cores=shares_cores)
    one = estimate_of(stratum_of(pictures, 100 * factor, is_film=is_film), costs)
    two = estimate_of(stratum_of(pictures, 200 * factor, is_film=is_film), costs)
    assert likely(two) == pytest.approx(2 * likely(one))
    assert two.views == pytest.approx(2 * one.views)
    assert two.decoding_s == pytest.approx(2 * one.decoding_s)


@given(PICTURES, st.integers(0, 100_000), st.booleans(), st.floats(-50, 50))
def test_the_interval_holds_the_estimate(
    pictures: list[tuple[float, int]], more: int, shares_cores: bool, other_ms: float
) -> None:
    costs = replace(COSTS, shares_cores=shares_cores, slower=1.2, faster=0.9, start_s=3.0, other_ms=other_ms)
    one = estimate_of(stratum_of(pictures, len(pictures) + more), costs)
    assert one.high_s is not None
    assert 3.0 <= one.low_s <= likely(one) <= one.high_s


def test_a_sample_of_all_inputs_leaves_no_doubt() -> None:
    one = estimate_of(stratum_of([(10.0, 1), (30.0, 2)], 2))
    assert one.low_s == likely(one) == one.high_s == pytest.approx((40 / 2 + 3 * 21) / 1000)


def test_beside_a_gpu_the_slower_of_both_bounds() -> None:
    gpu = replace(COSTS, shares_cores=False, other_ms=0)
    models = estimate_of(stratum_of([(10.0, 1)] * 9, 1000), gpu)
    assert models.bound == "models"
    assert likely(models) == pytest.approx(20.0)
    decoding = estimate_of(stratum_of([(100.0, 1)] * 9, 1000), gpu)
    assert decoding.bound == "decoding"
    assert likely(decoding) == pytest.approx(50.0)
    assert likely(estimate_of(stratum_of([(100.0, 1)] * 9, 1000), gpu, workers=5)) == pytest.approx(20.0)


def test_one_long_film_is_decoded_by_one_worker() -> None:
    one = estimate_of(stratum_of([(60_000.0, 10)], 1, is_film=True), workers=16)
    assert likely(one) >= 60


def test_a_film_counts_by_its_size() -> None:
    stratum = Stratum("MP4", True, count=4, size=10_000)
    stratum.measured = [Measured(1000.0, 10, 1000), Measured(2000.0, 20, 2000)]
    assert estimate_of(stratum).views == pytest.approx(100)


def test_a_film_that_was_cut_short_leaves_no_upper_limit() -> None:
    stratum = Stratum("MP4", True, count=4, size=4000)
    stratum.measured = [Measured(9000.0, 0, 1000, complete=False), Measured(900.0, 3, 1000)]
    assert estimate_of(stratum).high_s is None


def test_a_format_that_was_not_reached_counts_as_the_others() -> None:
    missed = Stratum("PNG", False, count=900, size=9)
    sample = MeasuredSample([stratum_of([(10.0, 1)] * 5, 100), missed])
    assert estimate(sample, COSTS, 2).views == pytest.approx(1000)


def test_with_early_exit_only_the_lower_limit_moves() -> None:
    stratum = stratum_of([(10.0, 1)] * 9, 1000)
    off, exits = (estimate_of(stratum, replace(COSTS, least_forward_ms=ms)) for ms in (20, 4))
    assert (likely(off), off.high_s) == (likely(exits), exits.high_s)
    assert exits.low_s == pytest.approx(off.low_s - 16)


def test_of_urls_only_the_least_is_known() -> None:
    one = at_least(1000, COSTS)
    assert (one.seconds, one.high_s) == (None, None)
    assert one.low_s == pytest.approx(20.0)


@pytest.mark.parametrize("share_of_gifs", [0.0, 0.01, 0.1])
def test_the_interval_covers_the_truth(share_of_gifs: float) -> None:
    """300 collections of 5,000 skewed inputs: 95 % is promised, and skewed ones give some less."""
    rng, covered = np.random.default_rng(7), 0
    for _ in range(300):
        sample, truth = _collection(rng, 5000, share_of_gifs)
        one = estimate(sample, COSTS, 2)
        assert one.high_s is not None
        covered += one.low_s <= truth <= one.high_s
    assert covered >= 0.9 * 300


def _collection(rng: np.random.Generator, count: int, share_of_gifs: float) -> tuple[MeasuredSample, float]:
    """Return a sample of pictures of log-normal cost and some animations, and what all of them take."""
    parts, truth = [], 0.0
    for name, number, views_of in (
        ("JPEG", round(count * (1 - share_of_gifs)), lambda n: rng.choice([1, 2, 3], n)),
        ("GIF", round(count * share_of_gifs), lambda n: rng.integers(5, 80, n)),
    ):
        ms = rng.lognormal(2.5, 0.8, number)
        views: NDArray[np.int64] = np.asarray(views_of(number))
        truth += (ms.sum() / 2 + views.sum() * (COSTS.forward_ms + COSTS.other_ms)) / 1000
        drawn = rng.permutation(number)[: max(3, round(50 * number / count))]
        part = Stratum(name, False, count=number, size=number)
        part.measured = [Measured(float(ms[i]), int(views[i]), 1) for i in drawn]
        parts += [part] if number else []
    return MeasuredSample(parts), truth


def test_quantiles_are_those_of_student() -> None:
    known = {1: 12.706, 4: 2.776, 10: 2.228, 11: 2.201, 30: 2.042, 120: 1.980, math.inf: 1.960}
    for degrees, quantile in known.items():
        assert t_quantile(degrees) == pytest.approx(quantile, abs=0.003)


def test_all_inputs_are_equally_likely_to_be_drawn() -> None:
    counts: Counter[int] = Counter()
    for seed in range(400):
        sample = InputSample(seed)
        for index in range(200):
            sample.add(Item(source="", index=index), "JPEG", 1, is_film=False)
        (stratum,) = sample.choose()
        counts.update(item.index for item, _ in stratum.drawn)
    assert counts.total() == 400 * sampling.MOST
    assert all(60 < counts[index] < 145 for index in range(200))  # 100, give or take five deviations


def test_a_rare_format_is_sampled_and_the_sample_is_bounded() -> None:
    sample = InputSample()
    for index in range(3000):
        name, is_film = (
            ("MP4", True) if index % 1000 == 7 else ("GIF", False) if index % 50 == 3 else ("JPEG", False)
        )
        sample.add(Item(source="", index=index), name, 10, is_film=is_film)
    strata = {one.name: one for one in sample.choose()}
    assert {name: len(one.drawn) for name, one in strata.items()} == {"JPEG": 49, "GIF": 3, "MP4": 3}
    assert sum(one.count for one in strata.values()) == 3000


def test_members_of_archives_take_a_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "HELD_BYTES", 10_000)
    sample, sizes = InputSample(), random.Random(1)
    for index in range(500):
        data = bytes(sizes.choice([10, 3000]))
        sample.add(Item(source="a.zip", index=index, data=data), "JPEG", len(data), is_film=False)
    (stratum,) = sample.choose()
    assert stratum.drawn
    assert stratum.count == 500
    assert sum(len(item.data or b"") for item, _ in stratum.drawn) <= 10_000


def test_a_spilled_member_that_is_not_drawn_is_removed(tmp_path: Path) -> None:
    sample = InputSample()
    for index in range(20):
        path = tmp_path / f"{index}"
        path.write_bytes(b"film")
        sample.add(Item(source="a.zip", index=index, spilled=str(path)), "MP4", 4, is_film=True)
    (stratum,) = sample.choose()
    assert {Path(item.spilled or "") for item, _ in stratum.drawn} == {*tmp_path.iterdir()}


def test_the_sample_is_decoded_by_the_real_decoder(tmp_path: Path) -> None:
    from PIL import Image

    geometry = Geometry(fit="shortest", size=(224, 224), crop=(224, 224))
    sample = InputSample()
    for index in range(12):
        path = tmp_path / f"{index}.jpg"
        Image.new("RGB", (640, 480) if index else (900, 300), (index, 0, 0)).save(path)
        sample.add(Item(source=str(path), index=index), "JPEG", path.stat().st_size, is_film=False)
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    sample.add(Item(source=str(tmp_path / "bad.jpg"), index=12), "JPEG", 3, is_film=False)
    with Decoders(2) as decoders:
        measured = sampling.measure(sample.choose(), decoders, [geometry], DecodeOptions())
    views = [one.views for one in measured.strata[0].measured]
    assert sorted(views) == [0, *[2] * 11, 5]
    assert measured.overhead >= 1


def report_of(*, ms: float = 17.0, version: str = __version__, cores: int | None = None) -> Report:
    """Return what `clipmod bench` would have measured here."""
    stage = Stage(ms=ms, low_ms=ms, high_ms=ms, images_per_s=1000 / ms)
    decoding = Stage(ms=5.0, low_ms=5.0, high_ms=5.0, images_per_s=200.0)
    forward = {
        name: Forward(spec=name, ms=part, ms_alone=part, gflop=None, share_of_peak=None)
        for name, part in (("open_nsfw", 7.0), ("nudenet", 10.0))
    }
    return Report(
        version=version,
        machine=Machine(
            cpu=name_cpu(), cores=cores or default_workers(), instructions=[], device=name_cpu(), devices=1,
            torch=None, python="3", system="Linux", peak_tflops=None,
        ),
        setup=Setup(
            models=["open_nsfw", "nudenet"], random_weights=False, device="cpu", dtype="float32",
            batch_size=8, forward_batch=8, workers=2, isolate=True, decode="fast", coverage="full",
            compiled=False, pictures="1280x853", repeats=3,
        ),
        stages={"forward": stage, "decoding": decoding},
        forward=forward,
        load_seconds=1.5,
        end_to_end=EndToEnd(
            images=100, runs=3, images_per_s=40.0, low_images_per_s=32.0, high_images_per_s=50.0,
            busy_share=0.9, share_of_peak=None, views_per_image=1.0, errors=0,
        ),
        seconds=30.0,
    )  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


GEOMETRIES = [Geometry(fit="squash", size=(224, 224)), Geometry(fit="corner", size=(320, 320))]


def test_figures_come_back_as_they_were_kept(cache: Path) -> None:
    path = figures.save(report_of(), GEOMETRIES, Settings(), AT)
    assert path is not None
    assert path.is_relative_to(cache)
    found = figures.find(MODELS, Settings())
    assert isinstance(found, Figures)
    assert (found.report, found.geometries, found.measured_at) == (report_of(), GEOMETRIES, AT)
    figures.save(report_of(ms=20), GEOMETRIES, Settings(), AT)
    newer = figures.find(MODELS, Settings())
    assert isinstance(newer, Figures)
    assert newer.ms_a_view == 20
    assert [*path.parent.iterdir()] == [path]


def why_not(models: list[str], settings: Settings) -> str:
    found = figures.find(models, settings)
    assert isinstance(found, NoFigures)
    return found.reason


@pytest.mark.usefixtures("cache")
def test_figures_of_something_else_are_not_used() -> None:
    figures.save(report_of(), GEOMETRIES, Settings(), AT)
    others = (
        Settings(device="cuda"),
        Settings(dtype="bfloat16"),
        Settings(batch_size="1"),
        Settings(compile=True),
    )
    for settings in others:
        assert "no figures" in why_not(MODELS, settings)
    assert "no figures" in why_not(["nudenet"], Settings())
    figures.save(report_of(version="0.0.1"), GEOMETRIES, Settings(), AT)
    assert f"clipmod 0.0.1, and this is {__version__}" in why_not(MODELS, Settings())
    figures.save(report_of(cores=999), GEOMETRIES, Settings(), AT)
    assert "999 cores" in why_not(MODELS, Settings())


@pytest.mark.usefixtures("cache")
def test_figures_of_another_library_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_versions", lambda: iter([("onnxruntime", "1.0")]))
    figures.save(report_of(), GEOMETRIES, Settings(), AT)
    monkeypatch.setattr(figures, "_versions", lambda: iter([("onnxruntime", "2.0")]))
    assert "onnxruntime 1.0, and here is 2.0" in why_not(MODELS, Settings())
    monkeypatch.setattr(figures, "_versions", lambda: iter([]))
    assert "onnxruntime 1.0, which is not installed here" in why_not(MODELS, Settings())


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff", b'{"schema": "clipmod-figures/2"}'])
def test_a_broken_file_is_ignored_with_a_message(content: bytes) -> None:
    path = figures.save(report_of(), GEOMETRIES, Settings(), AT)
    assert path is not None
    path.write_bytes(content)
    assert f"broken: {path}" in why_not(MODELS, Settings())


def test_figures_that_cannot_be_kept_are_no_error(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    (cache / "clipmod").write_text("in the way")
    assert figures.save(report_of(), GEOMETRIES, Settings(), AT) is None
    assert "not kept" in caplog.text


def test_costs_come_from_figures() -> None:
    found = Figures(measured_at=AT, libraries={}, geometries=GEOMETRIES, report=report_of())
    costs = Costs.of(found)
    assert (costs.forward_ms, costs.least_forward_ms, costs.start_s) == (17.0, 17.0, 1.5)
    assert costs.other_ms == pytest.approx(25.0 - 5.0 - 17.0)
    assert costs.slower == pytest.approx(1.25)
    assert costs.faster == pytest.approx(0.8)
    assert Costs.of(found, first="open_nsfw").least_forward_ms == 7.0
    assert Costs.of(found, screens=found, first="nudenet").forward_ms == 34.0
