"""The real ensemble's verdicts on the samples. Downloads 11 GB: `pytest -m weights`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.end_to_end.command import SAMPLES, by_name, read_records

pytestmark = [pytest.mark.weights, pytest.mark.timeout(7200)]

HOUR_S = 3600


def test_the_ensemble_judges_the_samples() -> None:
    words = ["scan", str(SAMPLES), "--models", "ensemble", "--policy", "female-presence", "--no-db", "-q"]
    run = subprocess.run(
        [sys.executable, "-m", "clipmod_cli", *words], stdout=subprocess.PIPE, timeout=HOUR_S, check=True
    )
    records = by_name(read_records(run.stdout))
    assert records["astronaut.jpg"]["models_used"] == ["ViT-L-14", "ViT-H-14", "ViT-g-14"]
    assert records["astronaut.jpg"]["ensemble_category"] == "female_present"
    assert records["astronaut-pan.gif"]["final_decision"] == "NSFW"
    for name in ("cat.png", "coffee.webp", "galaxies.avif", "rocket-rotated.jpg"):
        assert records[name]["final_decision"] == "Safe", name
        assert records[name]["ensemble_category"] == "no_person", name


def test_what_was_downloaded_is_whole() -> None:
    words = ["models", "verify", "ensemble"]
    run = subprocess.run([sys.executable, "-m", "clipmod_cli", *words], timeout=HOUR_S)
    assert run.returncode == 0
