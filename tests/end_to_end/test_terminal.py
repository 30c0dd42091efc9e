"""What a person sees: the command with terminals of its own for stdout and stderr."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.command import SAMPLES, Command, read_records
from tests.end_to_end.killing import ALONE, NUDENET, PATIENCE_S, make_pictures, records_in, sources
from tests.end_to_end.terminals import ESCAPE, Terminal, look
from tests.models.backends import save_random_vit

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")

CHART = SAMPLES / "color-chart.png"
POLICY = """
name = "two"
[[categories]]
name = "fine"
safety = "SAFE"
labels = {{ "{spec}" = ["normal"] }}
[[categories]]
name = "bad"
safety = "UNSAFE"
labels = {{ "{spec}" = ["nsfw"] }}
"""


def test_a_person_sees_a_line_for_what_is_not_safe_and_a_bar(
    clipmod: Command, folder: Path, out: Path
) -> None:
    safe = make_pictures(folder, 21)
    shutil.copy(CHART, folder / "chart\x1b[2J\x07\n.png")
    (folder / "empty.png").write_bytes(b"")
    code, stdout, stderr = look(clipmod, ("scan", folder, "-o", out, *ALONE))
    assert code == 3
    assert len(records_in(out)) == 23
    shown = stdout.splitlines()
    assert len(shown) == 2
    flagged, failed = (line for line in shown)
    assert flagged.startswith("\x1b[1;31mNSFW")
    assert re.search(r"nudity +0\.\d\d  nudenet: BUTTOCKS_EXPOSED 0\.7\d", flagged), flagged
    assert flagged.endswith(r"chart\x1b[2J\x07\n.png")
    assert "empty_file" in failed
    assert not any(path in stdout for path in safe)
    assert set(ESCAPE.findall(stdout)) == {"\x1b[1;31m", "\x1b[35m", "\x1b[0m"}
    assert "%|" in stderr
    assert "23/23" in stderr
    assert "nsfw=1" in stderr
    assert "\x1b[2J" not in stdout + stderr
    assert "NSFW" in stderr  # the summary


def test_of_few_inputs_a_person_sees_all(clipmod: Command, folder: Path) -> None:
    safe = make_pictures(folder, 2)
    shutil.copy(CHART, folder / "chart.png")
    for words, stdin in (
        (["scan", folder], b""),
        (["scan", "-"], b"\n".join(map(os.fsencode, folder.iterdir()))),
    ):
        code, stdout, _ = look(clipmod, (*words, *ALONE), stdin=stdin)
        assert code == 0
        lines = stdout.splitlines()
        assert sorted(re.split(r"\s\s", ESCAPE.sub("", line))[0] for line in lines) == [
            "NSFW",
            "Safe",
            "Safe",
        ]
        assert all(any(line.endswith(path) for line in lines) for path in safe)


def test_a_line_fits_the_terminal(clipmod: Command, folder: Path) -> None:
    deep = folder / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    shutil.copy(CHART, deep / "chart.png")
    _, stdout, _ = look(clipmod, ("scan", folder, *ALONE), columns=80)
    (line,) = ESCAPE.sub("", stdout).splitlines()
    assert len(line) <= 80
    assert line.endswith("y/chart.png")
    assert "BUTTOCKS_EXPOSED" in line


def test_no_bar_is_drawn_over_the_lines_of_the_next_program(clipmod: Command, folder: Path) -> None:
    paths = make_pictures(folder, 3)
    stderr = Terminal()
    words = ("scan", folder, *ALONE)
    with clipmod.start(words, stdout=subprocess.PIPE, stderr=stderr.slave) as process:
        stdout, _ = process.communicate(timeout=PATIENCE_S)
    assert sources(read_records(stdout)) == paths
    seen = stderr.text()
    assert "%|" not in seen
    assert "inputs/s" not in seen
    assert "\r" not in seen


@pytest.mark.parametrize("words", [["-q"], ["--progress", "none"], ["--progress", "plain"]], ids=str)
def test_the_bars_of_libraries_are_not_shown(
    clipmod: Command, folder: Path, out: Path, words: list[str]
) -> None:
    classifier = save_random_vit(out.parent / "vit", labels=("normal", "nsfw"))
    policy = out.parent / "two.toml"
    policy.write_text(POLICY.format(spec=f"hf:{classifier}"))
    make_pictures(folder, 1)
    code, _, stderr = look(
        clipmod, ("scan", folder, "--models", f"hf:{classifier}", "--policy", policy, "--no-isolate", *words)
    )
    assert code == 0, stderr
    assert "it/s" not in stderr
    assert "%|" not in stderr
    assert "\r" not in stderr
    if words == ["-q"]:
        assert stderr == ""


def test_without_colour_if_nobody_wants_it(clipmod: Command) -> None:
    code, stdout, stderr = look(clipmod, ("scan", CHART, *ALONE), {"NO_COLOR": "1"})
    assert code == 0
    assert stdout.startswith("NSFW ")
    assert "\x1b" not in stdout
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", stderr)


def test_json_for_a_person(clipmod: Command) -> None:
    code, stdout, stderr = look(clipmod, ("scan", CHART, "--json", "--progress", "plain", *ALONE))
    assert code == 0
    (record,) = read_records(stdout.encode())
    assert record["final_decision"] == "NSFW"
    assert "%|" not in stderr


def test_no_bar_where_stderr_is_no_terminal(clipmod: Command, folder: Path) -> None:
    make_pictures(folder, 2)
    run = clipmod("scan", folder, *NUDENET)
    assert "\r" not in run.stderr
    assert "\x1b" not in run.stderr
    assert "it/s" not in run.stderr


def test_quiet_is_silent(clipmod: Command, folder: Path) -> None:
    paths = make_pictures(folder, 2)
    run = clipmod("scan", folder, "--progress", "none", "-q", *NUDENET)
    assert (run.code, run.stderr, sources(run.records)) == (0, "", paths)


def test_a_terminal_that_is_gone_does_not_end_the_run(clipmod: Command, folder: Path, out: Path) -> None:
    paths = make_pictures(folder, 5)
    master, slave = os.openpty()
    words = ("scan", folder, "-o", out, "--batch-size", "1", *ALONE)
    # Not its controlling terminal, as after `disown`: there is no SIGHUP, only errors at each write.
    with clipmod.start(words, stdout=subprocess.DEVNULL, stderr=slave) as process:
        os.close(slave)
        os.close(master)
        assert process.wait(PATIENCE_S) == 0
    assert sources(records_in(out)) == paths
