"""Runs printed requests as they stand: curl's lines by a shell, Python by Python, JavaScript by Node.

Each runs as a process in a folder with the files that it names; every host that it names is a port of
loopback. Nothing of a request is read or changed on the way, but for the file names of a section, which
its curl line prints and its page would have a person choose.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.curl import read_curl

AS_PRINTED = Path(__file__).with_name("as_printed")
TIMEOUT_S = 120
CURL_OPTIONS = """
silent
show-error
noproxy = "*"
connect-to = "::127.0.0.1:{port}"
max-time = 100
"""
"""What curl reads of its own accord, so that the printed line can stay as it is."""


@dataclass(frozen=True)
class Place:
    """Where requests run: a folder with pictures, and the port of the service."""

    folder: Path
    port: int

    def run(self, request: Mapping[str, str], files: list[str]) -> list[Any]:
        """Return the answers that a printed request shows: one, or the events of a stream.

        Args:
            request: its language and text.
            files: what a person would choose where the page asks for files.
        """
        return _WAYS[request["language"]](self, request["text"], files)

    def start(self, argv: list[str], **variables: str) -> str:
        """Return what a command writes; it has to end well."""
        kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        run = subprocess.run(
            argv,
            cwd=self.folder,
            env={**kept, "PRINTED_PORT": str(self.port), **variables},
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        assert run.returncode == 0, run.stderr.decode(errors="replace")
        return run.stdout.decode()


def files_of(requests: list[dict[str, Any]], section: str) -> list[str]:
    """Return the file names that the curl line of a section prints."""
    texts = (one["text"] for one in requests if (one["section"], one["language"]) == (section, "curl"))
    return [name for _, name, _ in read_curl(next(texts)).files]


def events_of(text: str) -> list[Any]:
    """Return the answer of a text, or the events of a stream."""
    if not text.startswith("data: "):
        return [json.loads(text)]
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]


def _run_curl(place: Place, text: str, _files: list[str]) -> list[Any]:
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine: apt-get install curl")
    (place.folder / ".curlrc").write_text(CURL_OPTIONS.format(port=place.port), encoding="utf-8")
    return events_of(place.start(["sh", "-c", text], CURL_HOME=str(place.folder)))


def _run_python(place: Place, text: str, _files: list[str]) -> list[Any]:
    script = place.folder / "example.py"
    script.write_text(text, encoding="utf-8")
    said = place.start([sys.executable, str(script)], PYTHONPATH=str(AS_PRINTED), PYTHONIOENCODING="utf-8")
    return [ast.literal_eval(line.removeprefix("Processed: ")) for line in said.splitlines()]


def _run_javascript(place: Place, text: str, files: list[str]) -> list[Any]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node on this machine: apt-get install nodejs")
    script = place.folder / "example.js"
    script.write_text(text, encoding="utf-8")
    shim = str(AS_PRINTED / "browser.cjs")
    said = place.start([node, "--require", shim, str(script)], PRINTED_FILES=json.dumps(files))
    return [json.loads(line)[-1] for line in said.splitlines()]


_WAYS = {"curl": _run_curl, "python": _run_python, "javascript": _run_javascript}
