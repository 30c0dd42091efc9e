"""Downloads that break off: taken up where they broke, and never a wrong file."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub.cache import RepoFolder
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.hub.download import download
from clipmod_cli.models.hub.weights import locate
from tests.hub import FakeHub
from tests.models.weights.kit import (
    FILES,
    PATIENCE_S,
    REPO,
    RUN,
    SHA256,
    SPEC,
    WEIGHTS,
    Heard,
    contents,
    environment,
    folder_of,
)


def test_a_cut_connection_is_taken_up_where_it_broke(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    fake.faults.cut_after, fake.faults.cuts = 100_000, 2
    assert contents(download(SPEC, hub=hub)) == FILES
    ranges = [r.headers.get("Range") for r in fake.asked("/cdn/")]
    assert ranges == [None, "bytes=100000-", "bytes=200000-"]


def test_a_later_call_resumes_what_an_earlier_one_left(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    fake.faults.cut_after = 120_000
    with pytest.raises(MissingModelError, match="120000 of 300000 bytes are kept"):
        download(SPEC, hub=replace(hub, retries=-1))
    assert locate(SPEC, hub=hub) is None
    fake.requests.clear()
    assert contents(download(SPEC, hub=hub)) == FILES
    assert [r.headers.get("Range") for r in fake.asked("/cdn/")] == ["bytes=120000-"]


@settings(max_examples=15)
@given(cut=st.integers(1, 20_000), ignore=st.booleans(), seed=st.integers(0, 9))
def test_wherever_it_breaks_the_result_is_the_file(
    tmp_path_factory: pytest.TempPathFactory, cut: int, ignore: bool, seed: int
) -> None:
    data = Random(seed).randbytes(20_000)
    with FakeHub() as fake:
        fake.add(REPO, FILES | {"model.safetensors": data})
        fake.faults.cut_after, fake.faults.ignore_range = cut, ignore
        cache = tmp_path_factory.mktemp("cache")
        files = download(SPEC, hub=Hub(endpoint=fake.endpoint, cache_dir=cache, retry_pause_s=0))
        assert files.weights.read_bytes() == data


def test_what_an_earlier_try_left_damaged_is_fetched_anew(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    partial = folder_of(hub).partial(SHA256)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(1000))
    heard = Heard()
    assert contents(download(SPEC, hub=hub, progress=heard)) == FILES
    assert any("damaged" in sentence for sentence in heard.sentences)


@pytest.mark.parametrize("length", [300_001, 400_000])
def test_an_overlong_rest_is_begun_anew(fake: FakeHub, hub: Hub, length: int) -> None:
    fake.add(REPO, FILES)
    partial = folder_of(hub).partial(SHA256)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(length))
    assert contents(download(SPEC, hub=hub)) == FILES


def test_a_stalled_download_fails_and_goes_on_later(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    fake.faults.stall_after = 50_000
    with pytest.raises(MissingModelError, match=r"no answer within 1\.5 s.*50000 of 300000 bytes are kept"):
        download(SPEC, hub=replace(hub, timeout_s=1.5, retries=-1))
    fake.faults.stall_after = None
    assert contents(download(SPEC, hub=hub)) == FILES
    assert fake.asked("/cdn/")[-1].headers["Range"] == "bytes=50000-"


def test_a_killed_download_goes_on_where_it_was(fake: FakeHub, tmp_path: Path) -> None:
    fake.add(REPO, FILES)
    fake.faults.stall_after = 200_000
    hub = Hub(endpoint=fake.endpoint, cache_dir=tmp_path / "hub")
    partial = RepoFolder(hub.cache_dir, REPO).partial(SHA256)
    command = [sys.executable, "-c", RUN, "download", SPEC.spec]
    with subprocess.Popen(command, env=environment(fake.endpoint, tmp_path)) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    kept = partial.stat().st_size
    assert 0 < kept < len(WEIGHTS)
    fake.faults.stall_after = None
    assert contents(download(SPEC, hub=hub)) == FILES
    assert fake.asked("/cdn/")[-1].headers["Range"] == f"bytes={kept}-"
