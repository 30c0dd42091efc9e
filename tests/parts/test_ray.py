"""`--engine ray` by the real command on two logical nodes: whatever dies, one record an input.

Run by `pytest -m ray`, with the extra ray.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.command import SAMPLES, TINY, Command, read_records
from tests.parts.ray_nodes import RayNodes, ray_nodes
from tests.parts.test_runs_in_parts import without_run_fields

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SECRET = "s3cr3t-of-the-driver"
JUDGED = ("--models", "open_nsfw", "--no-cache", "--no-db")
PARTS = 24
PART_SIZE = 4


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ray")
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def nodes(home: Path) -> Iterator[RayNodes]:
    """A cluster whose processes die at an input that is named poison."""
    folder = Path(f"/tmp/clipmod-ray-{os.getpid()}")  # noqa: S108 — paths of sockets are short
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parent / "poison")}
    try:
        with ray_nodes(folder, environment) as cluster:
            yield cluster
        assert not cluster.processes()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def command(home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return Command(home, capfdbinary)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures for all parts; one of them takes its worker down."""
    folder = tmp_path_factory.mktemp("pictures")
    shapes = sorted(path for path in (TINY / "pictures").iterdir() if path.suffix != ".avif")
    for number in range(PARTS * PART_SIZE):
        shape = shapes[number % len(shapes)]
        name = "poison" if number == 21 else shape.stem
        shutil.copy(shape, folder / f"{number:03}-{name}{shape.suffix}")
    return folder


def done_count(out: Path) -> int:
    return len(list(out.glob("done/*.json")))


@contextmanager
def driving(
    command: Command, words: Sequence[str | Path], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Give a driver that ends with the context, whatever happens in it."""
    with command.start(words, environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as driver:
        try:
            yield driver
        finally:
            driver.kill()


def wait_until(is_true: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not is_true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_whatever_dies_each_input_has_one_record(
    command: Command, nodes: RayNodes, pictures: Path, tmp_path: Path
) -> None:
    out, merged, plain = tmp_path / "out", tmp_path / "merged.jsonl", tmp_path / "plain.jsonl"
    words = (
        "scan", pictures, "-o", f"{out}/", *JUDGED, "--part-size", str(PART_SIZE),
        "--engine", "ray", "--address", nodes.address, "--cpus-per-actor", "1",
    )  # fmt: skip
    with driving(command, words) as driver:
        wait_until(lambda: nodes.actors() and done_count(out) >= 2, driver)
        nodes.actors()[0].kill()
        before = done_count(out)
        wait_until(lambda: done_count(out) > before, driver)
        nodes.kill_node()
        driver.kill()
    wait_until_gone(nodes)
    assert done_count(out) < PARTS
    nodes.add_node()
    again = command.process(*words)
    assert again.code == 3, again.stderr
    assert "failed   1  (worker_lost 1)" in again.stderr
    assert command("merge", out, "-o", merged).code == 0
    assert command("scan", pictures, "-o", plain, *JUDGED).code == 0
    records, expected = read_records(merged.read_bytes()), read_records(plain.read_bytes())
    assert [record["index"] for record in records] == list(range(PARTS * PART_SIZE))
    lost = [record for record in records if record["status"] == "error"]
    assert [(Path(one["source"]).name[:10], one["error"]["code"]) for one in lost] == [
        ("021-poison", "worker_lost")
    ]
    assert without_run_fields(one for one in records if one not in lost) == without_run_fields(
        one for one in expected if "poison" not in one["source"]
    )


def wait_until_gone(nodes: RayNodes) -> None:
    """Wait until the actors of a driver that was killed have ended."""
    end = time.monotonic() + 60
    while nodes.actors():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_stopped_driver_leaves_no_actor_and_names_the_command_that_goes_on(
    command: Command, nodes: RayNodes, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = (
        "scan", pictures, "-o", f"{out}/", *JUDGED, "--part-size", "2", "--engine", "ray",
        "--address", nodes.address, "--cpus-per-actor", "1", "--exclude", "*poison*",
    )  # fmt: skip
    environment = {"AWS_SECRET_ACCESS_KEY": SECRET, "CLIPMOD_HEADER": f"Authorization: {SECRET}"}
    with driving(command, words, environment) as driver:
        wait_until(lambda: done_count(out) >= 3, driver)
        driver.send_signal(signal.SIGTERM)
        stdout, stderr = driver.communicate(timeout=120)
    told = stderr.decode()
    assert driver.returncode == 143, told
    assert not stdout
    assert "clipmod: stopped (143). To resume: clipmod scan" in told
    assert not [line for line in told.splitlines() if "ray" in line.lower() and "--engine ray" not in line]
    assert not list(out.glob("attempts/*"))
    wait_until_gone(nodes)
    done = done_count(out)
    assert 3 <= done < 48
    for file in [*nodes.folder.rglob("*"), *out.rglob("*")]:
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


def test_an_actor_of_another_run_takes_no_part(command: Command, nodes: RayNodes, tmp_path: Path) -> None:
    out = tmp_path / "out"
    part_size = ("--part-size", "5")
    assert command("scan", SAMPLES, "-o", f"{out}/", *JUDGED, *part_size, "--limit", "1").code == 0
    before = json.loads((out / "run.json").read_bytes())["run_key"]
    (out / "done" / "part-000000.json").unlink()
    run = command.process(
        "scan", SAMPLES, "-o", f"{out}/", *JUDGED, *part_size, "--limit", "1", "--threshold", "0.123",
        "--engine", "ray", "--address", nodes.address, "--cpus-per-actor", "1",
    )  # fmt: skip
    assert run.code == 2
    keys = set(re.findall(r"run_key ([0-9a-f]{8,})|process has ([0-9a-f]{8,})", run.stderr))
    assert before in {key for pair in keys for key in pair}
    assert len({key for pair in keys for key in pair if key}) == 2
    assert not done_count(out)


def test_a_cluster_of_its_own_ends_with_the_run(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = command.process(
        "scan", SAMPLES / "cat.png", "-o", f"{out}/", *JUDGED, "--engine", "ray", "--cpus-per-actor", "1",
    )  # fmt: skip
    assert (run.code, run.stdout) == (0, b""), run.stderr
    assert run.stderr.splitlines()[0].startswith("clipmod: a cluster on this machine with room for ")
    assert "done     1 of 1 parts" in run.stderr
    assert not [line for line in run.stderr.splitlines() if "Traceback" in line or line.startswith("[")]
