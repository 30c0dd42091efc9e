"""The recipe "Add an exit code or an error code": entries in errors.py alone; commands and docs follow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import clipmod_cli

PACKAGE = Path(clipmod_cli.__file__).parent

# text in errors.py, and what the recipe has one write before it
EDITS = {
    "    OK = 0,": '    TEAPOT = 42, "the device is a teapot"\n',
    '    "internal_error",\n]': '    "too_blue",\n',
    '    "internal_error": ': '    "too_blue": ErrorInfo("It is too blue.", "Warm it up.", True, 418),\n',
    "class ItemError(": """class TeapotError(ClipmodError):
    \"\"\"The device is a teapot.\"\"\"

    exit_code = ExitCode.TEAPOT


""",
}

SCRIPT = """
import sys
from clipmod_cli.cli.main import app, run
from clipmod_cli.errors import TeapotError
from clipmod_cli.records import to_record
from clipmod_cli.server.problems import status_of
from tests.results import RUN, plain_failure
from tests.write_cli_docs import write_errors_page

failure = plain_failure(code="too_blue")
assert (failure.retryable, status_of(failure.code)) == (True, 418)
assert to_record(failure, RUN).error.code == "too_blue"

page = write_errors_page()
assert "| 42 | the device is a teapot |" in page
assert "| `too_blue` | It is too blue. | Warm it up. | yes | 418 |" in page
assert "| `TeapotError` | The device is a teapot. | 42 | 500 |" in page

@app.command()
def brew() -> None:
    raise TeapotError("the device is a teapot: use --device cpu")

sys.argv = ["clipmod", "brew"]
run()
"""


def test_entries_in_one_file_are_enough(tmp_path: Path) -> None:
    copy = tmp_path / "clipmod_cli"
    copy.mkdir()
    for entry in PACKAGE.iterdir():
        if entry.name not in {"errors.py", "__pycache__"}:
            (copy / entry.name).symlink_to(entry)
    text = (PACKAGE / "errors.py").read_text(encoding="utf-8")
    for place, added in EDITS.items():
        assert text.count(place) == 1, place
        text = text.replace(place, added + place)
    (copy / "errors.py").write_text(text, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGE.parent}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.stderr == "clipmod: error: the device is a teapot: use --device cpu\n"
    assert ended.returncode == 42
