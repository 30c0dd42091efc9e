"""Ten thousand mutated pictures through worker processes: `pytest -m slow`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.types import Failure, Geometry, Item
from tests.decode.decoding import decode
from tests.decode.pictures import CENTRE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

SAMPLES = Path(__file__).parent.parent.parent / "sample_images"
COUNT = 10_000


def _mutate(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes with some flipped, cut out, doubled, or the end missing."""
    buffer = bytearray(data)
    for _ in range(rng.choice((1, 2, 5, 50))):
        at = rng.randrange(len(buffer))
        match rng.randrange(4):
            case 0:
                buffer[at] = rng.randrange(256)
            case 1:
                del buffer[at : at + rng.choice((1, 4, 1000))]
            case 2:
                buffer[at:at] = buffer[at : at + rng.choice((1, 4, 1000))]
            case _:
                # headers hold sizes and counts
                buffer[min(at, 64)] = rng.choice((0, 0x7F, 0xFF))
        if len(buffer) < 100:
            break
    return bytes(buffer[: rng.randrange(50, len(buffer))] if rng.random() < 0.2 else buffer)


def _items() -> Iterator[Item]:
    rng = random.Random(0)
    originals = [path.read_bytes() for path in sorted(SAMPLES.iterdir()) if path.suffix != ".md"]
    for index in range(COUNT):
        yield Item(source=f"mutated {index}", index=index, data=_mutate(rng.choice(originals), rng))


def test_every_mutated_picture_has_one_end(capsys: pytest.CaptureFixture[str]) -> None:
    geometries = [Geometry(fit="shortest", size=(224, 224), crop=(224, 224))]
    ends: Counter[int] = Counter()
    codes: Counter[str] = Counter()
    for one in decode(_items(), geometries, DecodeOptions(coverage=CENTRE), 2, pool=WorkerPool()):
        ends[one.item.index] += one.last
        if isinstance(one, Failure):
            codes[one.code] += 1
        elif one.last:
            codes["truncated" if one.media.truncated else "decoded"] += 1
    with capsys.disabled():
        print(dict(codes))
    assert ends == Counter(range(COUNT))
    assert not {"internal_error", "decode_crash", "decode_timeout"} & set(codes)
