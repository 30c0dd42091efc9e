"""Add an output format: one class and one entry of `SINKS` are used by `clipmod scan -o`."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import pytest

from clipmod_cli.output.base import SINKS
from clipmod_cli.output.jsonl import clear_or_refuse
from clipmod_cli.output.resuming.resume import DoneInputs, ResumeOptions
from clipmod_cli.records import Record
from tests.end_to_end.command import SAMPLES, SHAPE_OPTIONS, Command


class TsvSink:
    """Source and decision, tab-separated; cannot resume."""

    _file: TextIO

    def __init__(self, path: Path, options: ResumeOptions) -> None:
        self.lines_path = self._path = path
        self._options = options

    def begin(self, run_key: str) -> DoneInputs:  # noqa: ARG002
        clear_or_refuse(self._path, self._options)
        self._file = self._path.open("a")
        return DoneInputs()

    def write(self, record: Record, line: bytes) -> None:  # noqa: ARG002
        self._file.write(f"{record.source}\t{record.final_decision}\n")

    def close(self) -> None:
        self._file.close()

    def complete(self) -> None: ...


def test_scan_writes_by_a_new_sink(clipmod: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, output = SAMPLES / "cat.png", tmp_path / "OUT.TSV"
    words = ("scan", picture, "-o", output, *SHAPE_OPTIONS)
    refused = clipmod(*words)
    assert (refused.code, output.exists()) == (2, False)
    endings = ".jsonl, .jsonl.gz, .jsonl.zst, .parquet"
    assert f"--output must end in {endings} or .csv, not" in refused.stderr
    assert "clipmod export" in refused.stderr

    monkeypatch.setitem(SINKS, ".tsv", TsvSink)
    run = clipmod(*words)
    assert (run.code, run.stdout) == (0, b""), run.stderr
    assert output.read_text() == f"{picture}\tSafe\n"

    assert clipmod(*words, "--no-resume").code == 2
    refused = clipmod("scan", picture, "-o", tmp_path / "out.txt", *SHAPE_OPTIONS)
    assert refused.code == 2
    assert f"--output must end in {endings}, .csv or .tsv, not" in refused.stderr
