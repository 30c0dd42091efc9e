"""Worker processes: a decoder that crashes, hangs or eats memory costs one record, and nothing leaks in."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from clipmod_cli.decode.limits import DecodeLimits, DecodeOptions
from clipmod_cli.decode.stills.opening import ungated
from clipmod_cli.decode.workers.child import TimeLimits, WorkerLimits
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.results import Settled
from clipmod_cli.types import Failure, Frame, Geometry, Item
from tests.decode.decoding import decode
from tests.decode.hurting import LIES, NAP_S, begun, misbehave
from tests.decode.pictures import CENTRE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the tests look into /proc")

GEOMETRY = Geometry(fit="squash", size=(8, 8))
OTHER = Geometry(fit="squash", size=(4, 6))
SHORT = TimeLimits(cpu_s=3.0, wall_s=10.0)
PATIENCE_S = 200
"""For what takes a second on an idle machine: only what hangs must reach it."""


def run(
    folder: Path, *names: str, limits: WorkerLimits | None = None, workers: int = 1
) -> dict[str, Frame | Settled]:
    """Decode good pictures of these names (some of which make the decoder misbehave); results by name."""
    for name in names:
        Image.new("RGB", (16, 16), "red").save(folder / f"{name}.png")
    items = [Item(source=str(folder / f"{name}.png"), index=i) for i, name in enumerate(names)]
    pool = WorkerPool(limits=limits or WorkerLimits(picture=SHORT), work=misbehave)
    results = list(decode(items, [GEOMETRY], DecodeOptions(coverage=CENTRE), workers, pool=pool))
    assert [one.item for one in results] == items
    return {Path(one.item.source).stem: one for one in results}


def code_of(result: Frame | Settled) -> str:
    return result.code if isinstance(result, Failure) else "ok"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("segfault", "decode_crash"),
        ("exit", "decode_crash"),
        ("sleep", "decode_timeout"),
        ("spin", "decode_timeout"),
        ("terminated", "internal_error"),
        ("hung up", "internal_error"),
        ("eat", "decode_crash" if sys.platform == "linux" else "internal_error"),  # elsewhere it may
    ],
)
def test_what_goes_wrong_costs_one_record(tmp_path: Path, name: str, code: str) -> None:
    results = run(tmp_path, "before", name, "after", "more")
    assert {n: code_of(r) for n, r in results.items()} == {
        "before": "ok",
        name: code,
        "after": "ok",
        "more": "ok",
    }


@pytest.mark.parametrize("lie", LIES)
def test_a_worker_that_lies_costs_one_record(tmp_path: Path, lie: str) -> None:
    limits = WorkerLimits(picture=TimeLimits(cpu_s=100.0, wall_s=100.0))
    results = run(tmp_path, f"lie.{lie}", "after", limits=limits)
    assert {n: code_of(r) for n, r in results.items()} == {f"lie.{lie}": "decode_crash", "after": "ok"}


def test_a_worker_that_stops_in_the_midst_of_its_answer_is_ended(tmp_path: Path) -> None:
    results = run(tmp_path, "half", "after")
    assert {n: code_of(r) for n, r in results.items()} == {"half": "decode_timeout", "after": "ok"}


def test_a_worker_that_dies_while_it_is_idle_costs_nothing(tmp_path: Path) -> None:
    for i in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    items = [Item(source=str(tmp_path / f"{i}.png"), index=i) for i in range(3)]
    pool = WorkerPool()
    stage = decode(items, [GEOMETRY], DecodeOptions(coverage=CENTRE), 1, ahead=1, pool=pool)
    results = [next(stage)]
    (handle,) = pool._handles
    handle._process.kill()
    handle._process.join()
    results += stage
    assert [code_of(one) for one in results] == ["ok"] * 3


def test_a_video_may_take_longer_than_a_picture(tmp_path: Path) -> None:
    limits = WorkerLimits(
        picture=TimeLimits(cpu_s=3.0, wall_s=NAP_S - 2.0), video=TimeLimits(cpu_s=50.0, wall_s=100.0)
    )
    results = run(tmp_path, "before", "sleep", limits=limits)
    assert code_of(results["sleep"]) == "decode_timeout"
    (tmp_path / "nap.mp4").write_bytes(b"\0\0\0\x10ftypisom" + bytes(2000))
    pool = WorkerPool(limits=limits, work=misbehave)
    items = [Item(source=str(tmp_path / name), index=i) for i, name in enumerate(("before.png", "nap.mp4"))]
    *_, film = decode(items, [GEOMETRY], DecodeOptions(coverage=CENTRE), 1, pool=pool)
    assert code_of(film) == "video_error"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pixels go through the pipe")
def test_a_worker_cannot_cut_what_it_shares(tmp_path: Path) -> None:
    tried = run(tmp_path, "cut")["cut"]
    assert isinstance(tried, Failure)
    assert tried.message == "EPERM EPERM EPERM"


def test_only_what_is_over_a_workers_own_share_is_asked_for(tmp_path: Path) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    item = Item(source=str(tmp_path / "a.png"), index=0)
    asked: list[int] = []

    @contextmanager
    def gate(pixels: int) -> Iterator[None]:
        asked.append(pixels)
        yield

    pool = WorkerPool()
    try:
        for free in (20_000, 19_999, 4_000, 0):
            (frame,) = pool.decode_item(
                item, [GEOMETRY], DecodeOptions(coverage=CENTRE), gate=gate, free_pixels=free
            )
            assert isinstance(frame, Frame)
    finally:
        pool.close()
    assert asked == [1, 16_000, 20_000]


def test_orders_that_change_are_followed(tmp_path: Path) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    item = Item(source=str(tmp_path / "a.png"), index=0)
    small = DecodeOptions(coverage=CENTRE, limits=DecodeLimits(max_pixels=10))
    pool = WorkerPool()
    try:
        found = [
            pool.decode_item(item, geometries, options, gate=ungated)[0]
            for geometries, options in (
                ([GEOMETRY], DecodeOptions(coverage=CENTRE)),
                ([OTHER], DecodeOptions(coverage=CENTRE)),
                ([OTHER], small),
            )
        ]
    finally:
        pool.close()
    assert [code_of(one) for one in found] == ["ok", "ok", "too_many_pixels"]
    assert [list(one.inputs) for one in found if isinstance(one, Frame)] == [[GEOMETRY], [OTHER]]


def test_results_are_those_of_this_process(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)) for _ in range(5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    frames[1].save(tmp_path / "b.png")
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8\xff garbage")
    (tmp_path / "d.png").write_bytes((tmp_path / "b.png").read_bytes()[:3000])
    geometries = [GEOMETRY, Geometry(fit="whole", size=(0, 0))]
    items = [Item(source=str(path), index=i) for i, path in enumerate(sorted(tmp_path.iterdir()))]
    items.append(Item(source="of an archive", member="b", index=9, data=(tmp_path / "b.png").read_bytes()))
    isolated = list(decode(items, geometries, DecodeOptions(coverage=CENTRE), 2, pool=WorkerPool()))
    here = list(decode(items, geometries, DecodeOptions(coverage=CENTRE), 2))
    assert len(isolated) == len(here)
    for one, other in zip(isolated, here, strict=True):
        assert type(one) is type(other)
        assert one.item is other.item
        assert one.last == other.last
        if isinstance(one, Frame) and isinstance(other, Frame):
            assert (one.number, one.time_s, one.media.sha256) == (
                other.number,
                other.time_s,
                other.media.sha256,
            )
            assert all(
                np.array_equal(one.inputs[geometry], other.inputs[geometry]) for geometry in geometries
            )
        elif isinstance(one, Failure) and isinstance(other, Failure):
            assert (one.code, one.message) == (other.code, other.message)


def test_a_worker_is_kept_and_then_replaced(tmp_path: Path) -> None:
    limits = WorkerLimits(items=2, picture=SHORT)
    for i in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"pid.{i}.png")
    items = [Item(source=str(tmp_path / f"pid.{i}.png"), index=i) for i in range(4)]
    pool = WorkerPool(limits=limits, work=misbehave)
    pids = [
        r.message
        for r in decode(items, [GEOMETRY], DecodeOptions(coverage=CENTRE), 1, pool=pool)
        if isinstance(r, Failure)
    ]
    assert pids[0] == pids[1] != pids[2] == pids[3]


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.2)
        monkeypatch.setenv("CANARY_PORT", str(server.getsockname()[1]))
        yield server


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="unprivileged namespaces may be off")
def test_a_worker_has_no_network(tmp_path: Path, canary: socket.socket) -> None:
    # in a process of its own: the server that workers are forked from keeps its first environment
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        from tests.decode.test_workers import run
        print(run(Path({str(tmp_path)!r}), "network")["network"].message)
        """
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S)
    assert out.stdout.startswith("refused"), out.stderr
    with pytest.raises(TimeoutError):
        canary.accept()


def test_a_worker_holds_no_file_of_its_parent(tmp_path: Path) -> None:
    with (tmp_path / "output.jsonl").open("wb") as output:
        os.set_inheritable(output.fileno(), True)
        seen = run(tmp_path, "descriptors")["descriptors"]
    assert isinstance(seen, Failure)
    assert "output.jsonl" not in seen.message
    assert seen.message


def test_workers_end_with_the_stage(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    items = [Item(source=str(tmp_path / "a.png"), index=i) for i in range(4)]
    pool = WorkerPool()  # held on to: a pool that nobody holds would end its workers by being collected
    before = _workers()
    stage = decode(items, [GEOMETRY], DecodeOptions(coverage=CENTRE), 1, pool=pool)
    next(stage)
    ours = _workers() - before
    assert ours
    assert len(list(stage)) == len(items) - 1
    _, alive = psutil.wait_procs(ours, timeout=PATIENCE_S)
    assert not alive
    assert pool._handles


def _workers() -> set[psutil.Process]:
    """Return the workers of this process: children of the server that it has them forked from."""
    return {p for p in psutil.Process().children(recursive=True) if p.ppid() != os.getpid()}


@pytest.mark.parametrize("name", ["sleep", "spin"])
def test_workers_end_with_a_killed_parent(tmp_path: Path, name: str) -> None:
    picture = tmp_path / f"{name}.png"
    Image.new("RGB", (8, 8)).save(picture)
    script = textwrap.dedent(
        f"""
        from clipmod_cli.decode.limits import DecodeOptions
        from tests.decode.decoding import decode
        from clipmod_cli.decode.workers.child import TimeLimits, WorkerLimits
        from clipmod_cli.decode.workers.pool import WorkerPool
        from clipmod_cli.types import Geometry, Item
        from tests.decode.hurting import FOR_EVER_S, misbehave
        items = [Item(source={str(picture)!r}, index=0)]
        pool = WorkerPool(WorkerLimits(picture=TimeLimits(cpu_s=FOR_EVER_S, wall_s=FOR_EVER_S)), misbehave)
        list(decode(items, [Geometry(fit="squash", size=(8, 8))], DecodeOptions(), 1, pool=pool))
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        _wait_until(begun(str(picture)).exists, "no worker began")
        busy = psutil.Process(parent.pid).children(recursive=True)
        assert any(one.ppid() != parent.pid for one in busy), "a worker is a child of its fork server"
        parent.send_signal(signal.SIGKILL)
        parent.wait(PATIENCE_S)
        _wait_until(lambda: not any(map(_lives, busy)), "a worker lives on")
    finally:
        parent.kill()


def _lives(process: psutil.Process) -> bool:
    """Return whether a process still runs; in a container there may be nobody to collect the dead."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_until(happened: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def test_a_worker_has_imported_what_its_views_need_and_no_more() -> None:
    # before its memory is limited; what one request needs is no reason to import it for the others
    script = textwrap.dedent(
        """
        import sys
        from clipmod_cli.decode.limits import DecodeOptions
        from clipmod_cli.decode.stills.opening import ungated
        from clipmod_cli.decode.workers.pool import WorkerPool
        from clipmod_cli.types import Geometry, Item
        from tests.decode.hurting import tell_modules
        light = Geometry(fit="squash", size=(8, 8), engine="opencv")
        pool = WorkerPool(work=tell_modules)
        def tell(geometry, **options):
            item, asked = Item(source="", index=0), DecodeOptions(**options)
            print(pool.decode_item(item, [geometry], asked, gate=ungated)[0].message)
        tell(light)
        tell(Geometry(fit="squash", size=(8, 8), fast="torch"))
        tell(light, exact=True)
        pool.close()
        assert "torch" not in sys.modules
        """
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S)
    assert out.stdout.splitlines() == ["", "torch", "torch cv2"], out.stderr


def test_workers_of_a_process_that_never_imported_torch_can_use_it(tmp_path: Path) -> None:
    Image.new("RGB", (600, 400), "red").save(tmp_path / "a.jpg")
    script = textwrap.dedent(
        f"""
        import sys
        from clipmod_cli.decode.limits import DecodeOptions
        from tests.decode.decoding import decode
        from clipmod_cli.decode.workers.pool import WorkerPool
        from clipmod_cli.types import Geometry, Item
        item = Item(source={str(tmp_path / "a.jpg")!r}, index=0)
        view = Geometry(fit="shortest", size=(224, 224), crop=(224, 224), fast="torch")
        frame, *_ = decode([item], [view], DecodeOptions(), 1, pool=WorkerPool())
        assert "torch" not in sys.modules
        print(frame.inputs[view].shape)
        """
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S)
    assert out.stdout == "(224, 224, 3)\n", out.stderr
