"""`clipmod models`, run as a process against a hub on the loopback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import FakeHub
from tests.models.backends import TINY
from tests.models.weights.kit import FILES, REPO, SPEC, environment, run, spoil

LAION = {
    f"laion/CLIP-ViT-{name}": {"open_clip_model.safetensors": name.encode() * 500}
    for name in ("L-14-laion2B-s32B-b82K", "H-14-laion2B-s32B-b79K", "g-14-laion2B-s34B-b88K")
}
# Nothing listens there, and no test that uses it may find that out.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as server:
        server.add(REPO, FILES)
        for repo, files in LAION.items():
            server.add(repo, files)
        yield server


def _rows(output: str) -> dict[str, dict[str, object]]:
    return {row["spec"]: row for row in map(json.loads, output.splitlines())}


def test_a_bare_machine_s_list_tells_what_there_is(tmp_path: Path) -> None:
    done = run(NOWHERE, tmp_path, "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = _rows(done.stdout)
    assert rows["open_clip:ViT-L-14/laion2b_s32b_b82k"] == {
        "spec": "open_clip:ViT-L-14/laion2b_s32b_b82k",
        "about": "text-image, 0.40 of ensemble and fallback",
        "size_bytes": 1_710_000_000,
        "licence": "MIT",
        "revision": None,
        "locked": False,
        "on_this_machine": False,
        "folder": None,
        "tower_bytes": None,
    }
    assert rows["nudenet"]["on_this_machine"] is True
    assert rows["nudenet"]["licence"] == "AGPL-3.0 (metadata: MIT)"
    assert not list(tmp_path.iterdir())


def test_the_list_knows_what_was_downloaded(fake: FakeHub, tmp_path: Path) -> None:
    assert run(fake.endpoint, tmp_path, "download", "fallback", SPEC.spec).returncode == 0
    rows = _rows(run(NOWHERE, tmp_path, "list").stdout)
    first, other = rows["open_clip:ViT-L-14/laion2b_s32b_b82k"], rows[SPEC.spec]
    assert first["on_this_machine"] is first["locked"] is other["on_this_machine"] is True
    assert first["size_bytes"] == sum(map(len, LAION["laion/CLIP-ViT-L-14-laion2B-s32B-b82K"].values()))
    assert len(str(other["revision"])) == 40
    assert Path(str(other["folder"]), "model.safetensors").exists()
    assert rows["open_clip:ViT-H-14/laion2b_s32b_b79k"]["on_this_machine"] is False


def test_the_list_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; from clipmod_cli.cli.commands.models import app; app(['list'], standalone_mode=False);"
        "heavy = {'torch', 'open_clip', 'transformers', 'onnxruntime', 'httpx2', 'PIL', 'duckdb'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(NOWHERE, tmp_path), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_a_terminal_gets_a_table_with_whole_specs(tmp_path: Path) -> None:
    if not hasattr(os, "openpty"):
        pytest.skip("needs a pseudo-terminal")
    outer, inner = os.openpty()
    command = [sys.executable, "-c", "from clipmod_cli.cli.commands.models import app; app()", "list"]
    own = environment(NOWHERE, tmp_path, COLUMNS="80", NO_COLOR="1", TERM="xterm")
    with subprocess.Popen(command, env=own, stdout=inner) as process:
        os.close(inner)
        shown = b""
        with open(outer, "rb", buffering=0) as terminal:  # noqa: PTH123 - a descriptor
            try:
                while chunk := terminal.read(4096):
                    shown += chunk
            except OSError:  # Linux's end of a pseudo-terminal
                pass
    assert process.returncode == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()
    assert lines[0].split() == ["downloaded", "size", "model"]
    assert ["no", "1.71", "GB", "open_clip:ViT-L-14/laion2b_s32b_b82k"] in [line.split() for line in lines]
    assert any(line.startswith("yes ") and line.split()[-1] == "nudenet" for line in lines)
    assert max(map(len, lines)) <= 80


def test_downloading_the_ensemble_says_where_it_put_things(fake: FakeHub, tmp_path: Path) -> None:
    done = run(fake.endpoint, tmp_path, "download", "ensemble", "fallback")
    assert done.returncode == 0, done.stderr
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(told) == [
        "open_clip:ViT-L-14/laion2b_s32b_b82k",
        "open_clip:ViT-H-14/laion2b_s32b_b79k",
        "open_clip:ViT-g-14/laion2b_s34b_b88k",
    ]
    for folder, files in zip(told.values(), LAION.values(), strict=True):
        assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == files
    assert "open_clip_model.safetensors" in done.stderr
    assert "Traceback" not in done.stderr


def test_verify_says_good_and_then_what_is_wrong_and_what_mends_it(fake: FakeHub, tmp_path: Path) -> None:
    run(fake.endpoint, tmp_path, "download", SPEC.spec)
    good = run(NOWHERE, tmp_path, "verify")
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.splitlines() == [f"{SPEC.spec}: verified", "nudenet: verified", "open_nsfw: verified"]
    (weights,) = tmp_path.rglob("snapshots/*/model.safetensors")
    spoil(weights)
    bad = run(NOWHERE, tmp_path, "verify")
    assert bad.returncode == 4
    assert "1 of 3 models failed" in bad.stderr
    assert f"clipmod models download {SPEC.spec}" in bad.stderr
    assert str(weights) in bad.stdout
    assert run(fake.endpoint, tmp_path, "download", SPEC.spec).returncode == 0
    assert run(NOWHERE, tmp_path, "verify", SPEC.spec).returncode == 0


def test_verify_of_what_is_not_here(tmp_path: Path) -> None:
    done = run(NOWHERE, tmp_path, "verify", "fallback")
    assert done.returncode == 4
    assert "is not on this machine" in done.stdout
    assert "clipmod models download open_clip:ViT-L-14/laion2b_s32b_b82k" in done.stderr


def test_verify_of_a_folder_that_is_not_there_says_to_put_it_right(tmp_path: Path) -> None:
    done = run(NOWHERE, tmp_path, "verify", f"hf:{tmp_path}/none")
    assert done.returncode == 4
    assert f"Correct the files in {tmp_path}/none" in done.stderr


@pytest.mark.parametrize("word", ["auto", "nudnet", "open_clip:ViT-L-14"])
def test_a_word_that_names_nothing_to_download_is_wrong_usage(tmp_path: Path, word: str) -> None:
    done = run(NOWHERE, tmp_path, "download", word)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "open_clip:" in done.stderr or "ensemble" in done.stderr


def test_offline_says_what_is_missing(fake: FakeHub, tmp_path: Path) -> None:
    done = run(fake.endpoint, tmp_path, "download", "fallback", "--offline")
    assert done.returncode == 4
    assert "offline" in done.stderr
    assert fake.requests == []


def test_a_download_writes_the_16_bit_tower_and_verify_looks_at_it(tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    spec = f"open_clip:local-dir:{TINY / 'tiny-l'}"
    done = run(NOWHERE, tmp_path, "download", spec, **cache)
    assert done.returncode == 0, done.stderr
    assert "16-bit vision tower" in done.stderr
    (tower,) = (tmp_path / "cache").rglob("*.v1.safetensors")
    assert run(NOWHERE, tmp_path, "verify", spec, **cache).stdout == f"{spec}: verified\n"
    good = tower.read_bytes()
    spoil(tower)
    bad = run(NOWHERE, tmp_path, "verify", spec, **cache)
    assert bad.returncode == 4
    assert str(tower) in bad.stdout
    assert f"To repair: clipmod models download {spec}." in bad.stderr
    assert "Correct" not in bad.stderr
    assert run(NOWHERE, tmp_path, "download", spec, **cache).returncode == 0
    assert tower.read_bytes() == good
