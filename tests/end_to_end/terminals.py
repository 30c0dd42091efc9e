"""Runs the command with terminals of its own for stdout and stderr."""

from __future__ import annotations

import os
import re
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread

from tests.end_to_end.command import Command
from tests.end_to_end.killing import PATIENCE_S

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A terminal that keeps what was written to it."""

    def __init__(self, columns: int = 200) -> None:
        self._master, self.slave = os.openpty()
        termios.tcsetwinsize(self.slave, (24, columns))
        self._seen = b""
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._master, 65536)
            except OSError:  # nobody holds the other end any more
                return
            self._seen += chunk

    def text(self) -> str:
        """Return all that came, once every writer has left."""
        os.close(self.slave)
        self._reader.join(PATIENCE_S)
        os.close(self._master)
        return self._seen.decode().replace("\r\n", "\n")


def look(
    clipmod: Command,
    words: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    *,
    stdin: bytes = b"",
    columns: int = 200,
) -> tuple[int, str, str]:
    """Run the command at terminals; return the exit code and what stdout's and stderr's showed."""
    stdout, stderr = Terminal(columns), Terminal(columns)
    variables = {"TERM": "xterm-256color", **(env or {})}
    options = {"stdin": subprocess.PIPE, "stdout": stdout.slave, "stderr": stderr.slave}
    with clipmod.start(words, env=variables, **options) as process:
        process.communicate(stdin, PATIENCE_S)
        code = process.returncode
    return code, stdout.text(), stderr.text()
