"""`apply` and `undo` killed at any moment: the folder is given back bit for bit."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.applying.conftest import Judged
from tests.applying.trees import files_in, judge, make_tree, other_device, snapshot
from tests.end_to_end.command import ROOT, Command

MOMENTS = 8


@pytest.mark.parametrize(
    ("words", "elsewhere"),
    [
        (("move",), False),
        (("move",), True),
        (("copy",), False),
        (("delete",), False),
        (("move", "undo"), False),
        (("move", "undo"), True),
    ],
    ids=["move", "other device", "copy", "delete", "undo", "undo from another device"],
)
def test_killed_at_moments_all_over_its_code(tmp_path: Path, words: tuple[str, ...], elsewhere: bool) -> None:
    with ExitStack() as stack:
        target = stack.enter_context(other_device(tmp_path)) if elsewhere else tmp_path
        action, *undo = words
        argv = [sys.executable, "-m", "tests.applying.kill_everywhere", tmp_path, target / "kept"]
        run = subprocess.run(
            [*map(str, argv), action, str(MOMENTS), *undo],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[0]) >= MOMENTS


def test_the_real_command_killed_at_random(clipmod: Command, tmp_path: Path) -> None:
    """Most of its time goes into many files, so most of these kills fall between them."""
    tree, output = tmp_path / "tree", tmp_path / "out.jsonl"
    judge(output, make_tree(tree, tuple(f"{number % 7}/{number}.jpg" for number in range(400))), tree)
    before, chance = snapshot(tree), random.Random(0)
    killed = 0
    with other_device(tmp_path) as target:
        kept = target / "kept"
        for _ in range(4):
            words = ("apply", output, "--nsfw", "--move", kept, "--yes")
            with clipmod.start(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                while not (kept / "manifest.jsonl").exists() and process.poll() is None:
                    time.sleep(0.001)
                time.sleep(chance.random() * 0.1)
                process.send_signal(signal.SIGKILL)
            killed += process.returncode == -signal.SIGKILL
            run = clipmod("apply", "undo", kept)
            assert run.code == 0, run.stderr + run.stdout.decode()
            assert snapshot(tree) == before
            assert files_in(kept) == []
    assert killed


def test_a_second_apply_goes_on(clipmod: Command, judged: Judged) -> None:
    """The state that a kill between the two steps of a rename by links leaves: the file has both names."""
    words = ("apply", judged.output, "--nsfw", "--move", judged.kept, "--yes")
    assert clipmod(*words).code == 0
    lines = judged.manifest.read_bytes().splitlines(keepends=True)
    judged.manifest.write_bytes(b"".join(lines[: len(judged.paths)]))
    judged.paths[0].hardlink_to(judged.kept / "a.jpg")
    assert clipmod(*words).code == 0
    assert files_in(judged.tree) == []
    assert clipmod("apply", "undo", judged.kept).code == 0
    assert snapshot(judged.tree) == judged.before
