"""What `scan` does with the file of a picture: two opens (docs/adr/0004), one read and one hash of its bytes.

The first open, that of the walk, looks at 1,024 bytes to tell the kind of the file.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.pipeline import Options, run
from clipmod_cli.sources.base import Rules
from clipmod_cli.sources.registry import expand
from clipmod_cli.types import Item, Verdict
from tests.colour_models import POLICY, RedEmbedder
from tests.decode.pictures import RED, encode, quarters
from tests.test_flow import PLENTY_S

FEW = 3


def _folder(tmp_path: Path) -> Path:
    for number in range(FEW):
        data = encode(quarters([RED] * 4), "PNG") + bytes([number])
        (tmp_path / f"{number}.png").write_bytes(data)
    return tmp_path


def _judge(items: Iterator[Any], options: Options) -> list[Any]:
    ensemble = Ensemble([Member(RedEmbedder(), 1.0)], batch_size=4)
    return list(run(items, ensemble, prepare(ensemble, POLICY, threshold=0.5), options))


def test_bytes_are_read_and_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path)
    real_open, real_read, real_hash = os.open, os.read, hashlib.sha256
    opened: list[str] = []
    by_descriptor: dict[int, str] = {}
    read: dict[str, int] = {}
    hashed: list[bytes] = []
    lock = threading.Lock()

    def open_(path: Any, *rest: Any, **named: Any) -> int:
        descriptor = real_open(path, *rest, **named)
        with lock:
            by_descriptor[descriptor] = str(path)
            opened.append(str(path))
        return descriptor

    def read_(descriptor: int, count: int) -> bytes:
        data = real_read(descriptor, count)
        with lock:
            name = by_descriptor.get(descriptor, "")
            read[name] = read.get(name, 0) + len(data)
        return data

    def sha256(data: bytes = b"") -> Any:
        hashed.append(bytes(data))
        return real_hash(data)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "read", read_)
    monkeypatch.setattr(hashlib, "sha256", sha256)
    results = _judge(expand([str(folder)], Rules()), Options(workers=1))
    assert all(isinstance(result, Verdict) for result in results)
    sizes = {str(path): path.stat().st_size for path in sorted(folder.iterdir())}
    assert {name: opened.count(name) for name in sizes} == dict.fromkeys(sizes, 2)
    assert {name: read.get(name) for name in sizes} == sizes
    assert [hashed.count(Path(name).read_bytes()) for name in sizes] == [1] * FEW


def test_workers_decode_while_inputs_are_still_listed(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    first_judged = threading.Event()

    def listed() -> Iterator[Item]:
        for number, path in enumerate(sorted(folder.iterdir())):
            if number == FEW - 1:
                assert first_judged.wait(PLENTY_S), "nothing was decoded before all inputs were listed"
            yield Item(source=str(path), index=number)

    ensemble = Ensemble([Member(RedEmbedder(), 1.0)], batch_size=4)
    criteria = prepare(ensemble, POLICY, threshold=0.5)
    results = []
    for result in run(listed(), ensemble, criteria, Options(workers=1, isolate=True)):
        results.append(result)
        first_judged.set()
    assert [type(result) for result in results] == [Verdict] * FEW
