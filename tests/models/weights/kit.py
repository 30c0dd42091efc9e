"""What the tests of weights share: one small repository, and a process of their own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from random import Random

from clipmod_cli.models.hub.cache import RepoFolder
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.hub.weights import WeightFiles
from clipmod_cli.models.specs import parse_spec

REPO = "owner/name"
SPEC = parse_spec(f"hf:{REPO}")
WEIGHTS = Random(7).randbytes(300_000)
FILES = {"config.json": b'{"a": 1}', "preprocessor_config.json": b"{}", "model.safetensors": WEIGHTS}
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()

PATIENCE_S = 200
"""For a process that takes a second or ten on an idle machine."""


class Heard:
    """Keeps what a download tells."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.steps: list[tuple[str, int, int]] = []

    def advance(self, name: str, done: int, total: int) -> None:
        self.steps.append((name, done, total))

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


def contents(files: WeightFiles) -> dict[str, bytes]:
    """Return what the files hold, by name."""
    return {name: path.read_bytes() for name, path in files.paths.items()}


def spoil(path: Path) -> None:
    """Change a file's content, but not its size."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def folder_of(hub: Hub) -> RepoFolder:
    """Return the repository's folder in the cache."""
    return RepoFolder(hub.cache_dir, REPO)


RUN = """
import sys
from clipmod_cli.errors import ClipmodError
from clipmod_cli.cli.commands.models import app
try:
    app(sys.argv[1:], standalone_mode=False)
except ClipmodError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def environment(endpoint: str, home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a process with a hub and a cache of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "CLIPMOD_"))}
    return kept | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home)} | more


def run(endpoint: str, home: Path, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `clipmod models ARGS` in a process of its own."""
    command = [sys.executable, "-c", RUN, *args]
    own = environment(endpoint, home, **more)
    return subprocess.run(command, env=own, capture_output=True, text=True, timeout=PATIENCE_S)


BY_OTHERS = """
from huggingface_hub import hf_hub_download
for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
    print(hf_hub_download("owner/name", name))
"""
