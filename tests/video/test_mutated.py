"""A thousand mutated videos through worker processes: `pytest -m slow`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from clipmod_cli.decode.limits import DecodeOptions, parse_frames
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.results import Settled
from clipmod_cli.types import Failure, Frame, Geometry, Item
from tests.decode.decoding import decode
from tests.video.films import KINDS, moving, scene, write_film

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COUNT = 1000
SECONDS = 4.0

CODES = {"video_error", "encrypted", "too_many_pixels", "unsupported_format", "out_of_memory"}
"""What a damaged film may end with; anything else is a fault of ours. A broken head is no known format.
FFmpeg asks for as much memory as a header says."""

BLIND = {"ts", "m2ts", "mpg"}
"""Containers without a length: one that was cut between two packets is a shorter film."""

Mutation = Callable[[bytearray, random.Random], None]


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(1, len(data)) :]


def _drop(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) - 1)
    del data[at : at + rng.choice((1, 7, 100, 1000))]


def _swap(data: bytearray, rng: random.Random) -> None:
    size = rng.choice((16, 188, 500))
    one, other = sorted(rng.randrange(0, len(data) - size) for _ in range(2))
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]


def _blank(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    size = min(rng.choice((4, 64, 1000)), len(data) - at)
    data[at : at + size] = bytes(size)


def _edit_head(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 3))):  # headers hold sizes and counts
        data[rng.randrange(min(700, len(data)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))


def _edit_index(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 3))):  # an MP4's moov, a Matroska's cues, an AVI's idx1 are at the end
        data[-rng.randrange(1, min(900, len(data)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))


MUTATIONS: tuple[Mutation, ...] = (_flip, _cut, _drop, _swap, _blank, _edit_head, _edit_index)
SHORTENING = {"cut", "drop"}


def _films(folder: Path) -> dict[str, bytes]:
    pictures = moving(scene(round(SECONDS * 10), range(15, 25)))
    return {
        extension: write_film(
            folder / f"film.{extension}", pictures, keys=(15, 25), sound=extension in {"mkv", "avi", "mov"}
        ).read_bytes()
        for extension in KINDS
    }


def _mutate(films: dict[str, bytes], count: int, rng: random.Random) -> list[Item]:
    """Return items whose source says what was done to what."""
    items = []
    for index in range(count):
        extension, mutation = rng.choice(sorted(films)), rng.choice(MUTATIONS)
        data = bytearray(films[extension])
        mutation(data, rng)
        what = f"{extension} {mutation.__name__[1:]} {index}"
        items.append(Item(source=what, index=index, data=bytes(data)))
    return items


def _watch(items: list[Item], frames: str) -> dict[Item, list[Frame | Settled]]:
    found: dict[Item, list[Frame | Settled]] = {item: [] for item in items}
    geometries = [Geometry(fit="shortest", size=(64, 64), crop=(64, 64))]
    options = DecodeOptions(frames=parse_frames(frames))
    for one in decode(items, geometries, options, 2, pool=WorkerPool()):
        found[one.item].append(one)
    return found


def _is_unnoticed(item: Item, end: Frame | Settled) -> bool:
    """Return whether a film that lost bytes was watched as if it were whole."""
    extension, mutation, _ = item.source.split()
    return isinstance(end, Frame) and mutation in SHORTENING and extension not in BLIND


def _is_short(item: Item, end: Frame | Settled) -> bool:
    """Return whether more than a second of a film is gone without a word: see `video_watch._SHORT_S`."""
    whole = item.source.split()[0] in BLIND or isinstance(end, Failure) or end.media.truncated
    return not whole and isinstance(end, Frame) and end.time_s < SECONDS - 1.25


@pytest.mark.parametrize("frames", ["key", "dense"])
def test_every_mutated_video_has_one_end(
    tmp_path: Path, frames: str, capsys: pytest.CaptureFixture[str]
) -> None:
    films = _films(tmp_path)
    rng = random.Random(frames)
    found = _watch(_mutate(films, COUNT // 2, rng), frames)
    counts: Counter[str] = Counter()
    for item, results in found.items():
        assert [one.last for one in results] == [False] * (len(results) - 1) + [True], item.source
        end = results[-1]
        mutation = item.source.split()[1]
        counts[f"{mutation} {end.code if isinstance(end, Failure) else 'watched'}"] += 1
        if isinstance(end, Failure):
            assert end.code in CODES, (item.source, end.message)
    with capsys.disabled():
        print(frames, dict(sorted(counts.items())))
    assert [item.source for item, results in found.items() if _is_unnoticed(item, results[-1])] == []
    assert [item.source for item, results in found.items() if _is_short(item, results[-1])] == []
