"""Runs the real command: in this process for speed, or as a process of its own where that matters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import jsonschema
import pytest

from clipmod_cli.cli import main
from clipmod_cli.records import json_schema

ROOT = Path(__file__).parent.parent.parent
SAMPLES = ROOT / "sample_images"
TINY = ROOT / "tests" / "tiny"
SHAPES = TINY / "shapes.toml"
TINY_L, TINY_H, TINY_G = (
    f"open_clip:local-dir:{TINY / 'models' / name}" for name in ("tiny-l", "tiny-h", "tiny-g")
)
TINY_ENSEMBLE = f"{TINY_L}=0.40,{TINY_H}=0.35,{TINY_G}=0.25"
SHAPE_OPTIONS = ("--policy", str(SHAPES), "--models", TINY_L)
TIMEOUT_S = 240

Record = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def records(self) -> list[Record]:
        """The records on stdout, each checked against the schema."""
        return read_records(self.stdout)


class Command:
    """The command line with a home of its own, so that nothing of this machine is read or left."""

    def __init__(self, home: Path, capture: pytest.CaptureFixture[bytes]) -> None:
        self.home = home
        self._capture = capture

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a process: the home, and no hub to talk to."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CLIPMOD_", "HF_", "XDG_"))}
        folders = {
            name: str(self.home / name) for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
        }
        return {**kept, **folders, "HOME": str(self.home), "HF_ENDPOINT": "http://127.0.0.1:9"}

    def __call__(self, *words: str | Path, env: Mapping[str, str] | None = None) -> Outcome:
        """Run `clipmod WORDS` in this process."""
        self._capture.readouterr()
        argv = ["clipmod", *map(str, words)]
        with (
            mock.patch.object(sys, "argv", argv),
            mock.patch.dict(os.environ, {**self.environment, **(env or {})}, clear=True),
            _own_stdout(),
            pytest.raises(SystemExit) as ended,
        ):
            main.run()
        out, err = self._capture.readouterr()
        code = ended.value.code
        return Outcome(
            code if isinstance(code, int) else int(code is not None), out, err.decode(errors="replace")
        )

    def process(
        self, *words: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> Outcome:
        """Run `clipmod WORDS` as a process of its own."""
        run = subprocess.run(
            [sys.executable, "-m", "clipmod_cli", *map(str, words)],
            input=stdin,
            capture_output=True,
            env={**self.environment, **(env or {})},
            timeout=TIMEOUT_S,
        )
        return Outcome(run.returncode, run.stdout, run.stderr.decode(errors="replace"))

    def start(
        self, words: Sequence[str | Path], env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start `clipmod WORDS` as a process of its own; the caller ends it."""
        argv = [sys.executable, "-m", "clipmod_cli", *map(str, words)]
        return subprocess.Popen(argv, env={**self.environment, **(env or {})}, **options)


@contextmanager
def _own_stdout() -> Iterator[None]:
    """Put stdout back afterwards: a scan points it elsewhere for the rest of its process."""
    kept = os.dup(1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema())


def read_records(lines: bytes) -> list[Record]:
    """Return the records in JSON Lines; each must agree with the schema, each line must be whole."""
    assert not lines or lines.endswith(b"\n")
    records = [json.loads(line) for line in lines.splitlines()]
    for record in records:
        _validator().validate(record)
    return records


def by_name(records: Sequence[Record]) -> dict[str, Record]:
    """Return records by the file's name."""
    named = {Path(record["source"]).name: record for record in records}
    assert len(named) == len(records)
    return named
