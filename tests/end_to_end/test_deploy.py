"""The files in `deploy/`: a nightly scan that tells only what is new, as the units run it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.command import ROOT, SHAPE_OPTIONS, Command
from tests.tiny.shapes import draw_clear

UNITS = ROOT / "deploy" / "systemd"
SCRIPT = UNITS / "clipmod-nightly"


def draw(path: Path, colour: str, size: int = 96) -> Path:
    draw_clear(colour, "circle" if colour == "red" else "square", (size, size)).save(path)
    return path


def value_of(unit: str, key: str) -> str:
    """Return the only value of a key of a unit, `%i` being `uploads`."""
    lines = (UNITS / unit).read_text(encoding="utf-8").splitlines()
    (value,) = [line.partition("=")[2] for line in lines if line.partition("=")[0] == key]
    return value.replace("%i", "uploads")


class Night:
    """The commands of the units, with the state in a folder of the test's."""

    def __init__(self, clipmod: Command, state: Path, uploads: Path) -> None:
        self.state, self.uploads, self.clipmod = state, uploads, clipmod
        self.out = state / "uploads.jsonl"
        self.mails = state / "mails"
        self.mails.mkdir()
        self.sendmail = self._program("sendmail", f'cat > "{self.mails}/$$"')
        self.command = self._program("clipmod", f'exec {sys.executable} -m clipmod_cli "$@"')

    def _program(self, name: str, text: str) -> Path:
        path = self.state / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def run(self) -> int:
        """Scan as `clipmod-nightly@.service` does, and tell what is new; return the exit code of the scan."""
        words = shlex.split(value_of("clipmod-nightly@.service", "ExecStart"))
        assert words[0] == "/usr/local/bin/clipmod"
        start = words.index("--")
        assert words[start:] == ["--", "$SOURCES"]
        options = [*words[1:start], *SHAPE_OPTIONS, "--no-isolate", "--no-db"]
        options = [word.replace("/var/lib/clipmod", str(self.state)) for word in options]
        code = self.clipmod(*options, "--", self.uploads).code
        self.tell("exited", str(code))
        return code

    def tell(self, code: str, status: str) -> None:
        command = value_of("clipmod-nightly@.service", "ExecStopPost")
        self._call(command, {"EXIT_CODE": code, "EXIT_STATUS": status}).check_returncode()

    def mail(self) -> tuple[int, list[str]]:
        """Mail as `clipmod-mail@.service` does; return its exit code and the mails that were sent."""
        for old in self.mails.iterdir():
            old.unlink()
        command = value_of("clipmod-mail@.service", "ExecStart").replace("${MAIL_TO}", "us@example.org")
        code = self._call(command, {}).returncode
        return code, [one.read_text(encoding="utf-8") for one in sorted(self.mails.iterdir())]

    def _call(self, command: str, changes: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
        words = [word.replace("/var/lib/clipmod", str(self.state)) for word in shlex.split(command)]
        assert words[0] == "/usr/local/lib/clipmod/clipmod-nightly"
        environment = {
            **self.clipmod.environment,
            "CLIPMOD": str(self.command),
            "SENDMAIL": str(self.sendmail),
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.run([SCRIPT, *words[1:]], env={**environment, **changes}, timeout=60)


@pytest.fixture
def night(clipmod: Command, folder: Path, out: Path) -> Night:
    return Night(clipmod, out.parent, folder)


def test_only_what_is_new_is_told(night: Night) -> None:
    draw(night.uploads / "red.png", "red")
    draw(night.uploads / "blue.png", "blue")
    assert night.run() == 1
    code, mails = night.mail()
    assert code == 0
    (mail,) = mails
    head, _, body = mail.partition("\n\n")
    assert "To: us@example.org\n" in head
    assert "Subject: clipmod uploads: 1 NSFW\n" in head
    assert body == f"New, NSFW: 1\n  {night.uploads / 'red.png'}\n\n"

    assert night.run() == 0
    assert night.mail() == (0, [])

    (night.uploads / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    draw(night.uploads / "red 2.png", "red", 97)
    assert night.run() == 1
    ((_, [mail]),) = [night.mail()]
    assert "Subject: clipmod uploads: 1 NSFW, 1 not judged\n" in mail
    assert f"New, not judged: 1\n  {night.uploads / 'bad.png'}\n" in mail
    assert "red.png" not in mail


def test_a_name_is_no_command_and_no_second_line(night: Night) -> None:
    for number, name in enumerate(("~!touch x", "a\nb\tc\r", "caf\u00e9")):
        draw(night.uploads / f"{name}.png", "red", 96 + number)
    draw(Path(os.fsdecode(os.fsencode(night.uploads) + b"/\xff.png")), "blue")
    night.run()
    _, (mail,) = night.mail()
    lines = mail.partition("\n\n")[2].splitlines()
    assert lines[0] == "New, NSFW: 3"
    assert {line.rpartition("/")[2] for line in lines[1:4]} == {
        "~!touch x.png",
        "a?b?c?.png",
        "caf\u00e9.png",
    }
    assert all(line.startswith(f"  {night.uploads}/") for line in lines[1:4])


def test_a_message_that_cannot_be_sent_is_kept(night: Night) -> None:
    draw(night.uploads / "red.png", "red")
    night.run()
    works = night.sendmail.read_text()
    night.sendmail.write_text("#!/bin/sh\nexit 75\n")
    code, mails = night.mail()
    assert (code != 0, mails) == (True, [])
    night.sendmail.write_text(works)
    assert night.run() == 0
    code, mails = night.mail()
    assert code == 0
    assert "red.png" in mails[0]
    assert night.mail() == (0, [])


@pytest.mark.parametrize("ended", [("killed", "KILL"), ("exited", "4"), ("", "")])
def test_a_run_that_failed_is_told(night: Night, ended: tuple[str, str]) -> None:
    night.tell(*ended)
    _, (mail,) = night.mail()
    assert "Subject: clipmod uploads: failed\n" in mail
    assert " ".join(ended).strip() in mail
    assert sorted(path.name for path in night.state.iterdir() if "tell" in path.name) == []


def test_an_output_that_cannot_be_listed_is_told(night: Night) -> None:
    night.tell("exited", "1")
    _, (mail,) = night.mail()
    assert "Subject: clipmod uploads: failed\n" in mail
    assert "its output could not be listed" in mail


def test_wrong_calls_of_the_script() -> None:
    for words in ([], ["tell"], ["mail", "out.jsonl"], ["tell", "out.jsonl", "x"], ["other", "out.jsonl"]):
        run = subprocess.run([SCRIPT, *words], capture_output=True, timeout=60)
        assert run.returncode == 2
        assert b"usage:" in run.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    for unit in UNITS.glob("*@.*"):
        text = unit.read_text(encoding="utf-8")
        for program in ("/usr/local/bin/clipmod", "/usr/local/lib/clipmod/clipmod-nightly"):
            text = text.replace(program, "/bin/true")
        (tmp_path / unit.name).write_text(text)
        (tmp_path / unit.name.replace("@", "@uploads")).write_text(text)
    names = sorted(str(path) for path in tmp_path.glob("*@uploads.*"))
    assert len(names) == 3
    run = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
