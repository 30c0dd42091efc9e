"""The guide to heads: its commands run one after the other, and lead to a policy that judges."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.command import ROOT, TINY_L, read_records
from tests.end_to_end.test_tune_head import draw

GUIDE = (ROOT / "docs" / "teach.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)


def test_the_commands_run_in_order(tmp_path: Path) -> None:
    for name, seed in (("labelled", 0), ("fresh", 10_000)):
        draw(tmp_path / name, 30, 20, seed=seed)
        (tmp_path / name / "star").rename(tmp_path / name / "cat")
    (policy,) = blocks("toml")
    (tmp_path / "cats.toml").write_text(policy, encoding="utf-8")
    programs = tmp_path / "programs"
    programs.mkdir()
    command = programs / "clipmod"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clipmod_cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    said = ""
    for block in blocks("sh"):
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path,
            env={
                "PATH": f"{programs}:/usr/bin:/bin",
                "HOME": str(tmp_path),
                "PYTHONPATH": str(ROOT),
                "CLIPMOD_MODELS": TINY_L,
                "CLIPMOD_NO_DB": "true",
                "CLIPMOD_ISOLATE": "false",
                "OMP_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert run.returncode == 0, run.stderr
        said += run.stdout
    assert "Average precision on inputs it was not learnt from (5 parts)" in said
    assert "50 of 50 labels matched" in said, "of the fresh pictures"
    records = read_records((tmp_path / "fresh.jsonl").read_bytes())
    flagged = ["/cat/" in one["source"] for one in records if one["final_decision"] == "NSFW"]
    assert sum(flagged) / len(flagged) > 0.8
