"""Ctrl-C before anything is judged: exit 130 with one line, no traceback, and no command to resume."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.command import SAMPLES, Command
from tests.end_to_end.killing import ALONE, PATIENCE_S

AT_IMPORT = """
import importlib.abc, os, signal, sys

class Interrupter(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
            import time
            time.sleep(SLEEP)
        return None

MODULE, SLEEP = sys.argv[1], float(sys.argv[2])
sys.argv[1:3] = []
from clipmod_cli.__main__ import run
sys.meta_path.insert(0, Interrupter())
run()
"""
"""Sends SIGINT to itself when a module is imported."""


def interrupt_at(
    clipmod: Command, module: str, words: list[str], wait_s: float = 0
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AT_IMPORT, module, str(wait_s), *words],
        env=clipmod.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize("module", ["typer", "clipmod_cli.cli.main", "pydantic", "clipmod_cli.assemble"])
def test_ctrl_c_while_it_starts(clipmod: Command, module: str, out: Path) -> None:
    run = interrupt_at(clipmod, module, ["scan", str(SAMPLES / "cat.png"), "-o", str(out), *ALONE])
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "clipmod: stopped\n")
    assert not out.exists()


def test_ctrl_c_while_models_are_loaded(clipmod: Command, out: Path) -> None:
    """With --overwrite, so a command to resume would have to repeat it: nothing is discarded yet."""
    out.write_text("")
    words = ["scan", str(SAMPLES / "cat.png"), "-o", str(out), "--overwrite", *ALONE]
    run = interrupt_at(clipmod, "onnxruntime", words, wait_s=30)
    assert run.returncode == 130
    assert run.stderr.splitlines()[-1] == "clipmod: stopped (130) before anything was judged"
    assert "To resume" not in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("words", [["policies", "show", "nsfw"], ["config", "show"]], ids=" ".join)
def test_ctrl_c_in_another_command(clipmod: Command, words: list[str]) -> None:
    run = interrupt_at(clipmod, "pydantic", words)
    assert (run.returncode, run.stderr) == (130, "clipmod: stopped\n")


def test_an_ignored_sigint_stays_ignored(clipmod: Command) -> None:
    """As of a job that a script starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = interrupt_at(clipmod, "typer", ["--version"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.returncode == 0
