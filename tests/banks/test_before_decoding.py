"""Banks decide before anything is decoded, by the hash of the whole input, and in its place in the line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.banks.bank import NO_BANKS, Banks
from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.stage import Decoders, decode_with
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.decode.workers.wire import read_result
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.pipeline import Options, run
from clipmod_cli.results import BankDecision, BankMatch, BankVerdict, Result, Settled
from clipmod_cli.types import Failure, Frame, Item, Media, Verdict
from tests.banks.making import banks_of, sha
from tests.colour_models import POLICY, RedClassifier
from tests.decode.containers import blue, film
from tests.decode.heif import Still, write
from tests.decode.pictures import BLUE, CENTRE, RED, WHOLE, encode, quarters
from tests.on_device import ensemble_of

NO_PICTURE = b"\x89PNG\r\n\x1a\n and nothing that a decoder could read"
RED_PNG, BLUE_PNG = (encode(quarters([colour] * 4), "PNG") for colour in (RED, BLUE))
OPTIONS = DecodeOptions(coverage=CENTRE)


def item(data: bytes, index: int = 0) -> Item:
    return Item(source=f"{index}.png", index=index, data=data)


@contextmanager
def decoders(*, isolate: bool) -> Iterator[Decoders]:
    """Give two decoders, in worker processes or in this one."""
    with Decoders(2, pool=WorkerPool() if isolate else None) as made:
        yield made


@pytest.mark.parametrize("isolate", [False, True])
def test_what_is_in_a_bank_is_not_decoded(isolate: bool, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(NO_PICTURE)
    video = tmp_path / "film.mp4"
    video.write_bytes(film()[:-1000])
    banks = banks_of(tmp_path, deny=[sha(NO_PICTURE)], allow=[sha(video.read_bytes())])
    items = [
        item(NO_PICTURE),
        Item(source=str(path), index=1),
        Item(source=str(video), index=2),
        item(BLUE_PNG, 3),
        Item(source="archive.zip", member="a.png", index=4, data=NO_PICTURE),
        Item(source="url", spilled=str(path), index=5),
    ]
    with decoders(isolate=isolate) as made:
        found = list(decode_with(made, items, [WHOLE], OPTIONS, compare=banks.decide))
    assert [one.item for one in found] == items
    decided = [one.by.decided_by if isinstance(one, BankVerdict) else type(one).__name__ for one in found]
    assert decided == ["deny", "deny", "allow", "Frame", "deny", "deny"]
    first, second, third = (one.media for one in found[:3])
    assert first is not None
    assert (first.sha256, first.bytes, first.mtime_ns) == (sha(NO_PICTURE), len(NO_PICTURE), None)
    assert second is not None
    assert (second.format, second.mtime_ns) == ("PNG", path.stat().st_mtime_ns)
    assert third is not None
    assert (third.sha256, third.format) == (sha(video.read_bytes()), "MP4")


@pytest.mark.parametrize("isolate", [False, True])
def test_one_byte_more_or_less_is_judged(isolate: bool, tmp_path: Path) -> None:
    banks = banks_of(tmp_path, allow=[sha(RED_PNG)])
    others = [RED_PNG + b"\0", b"\0" + RED_PNG, RED_PNG[:-1], RED_PNG[:-1] + b"\0", RED_PNG]
    with decoders(isolate=isolate) as made:
        found = list(decode_with(made, map(item, others), [WHOLE], OPTIONS, compare=banks.decide))
    assert [isinstance(one, BankVerdict) for one in found] == [False] * 4 + [True]


def test_the_hash_of_a_part_decides_nothing(tmp_path: Path) -> None:
    """A picture that carries an allowed film is not allowed for it."""
    red = film()
    carrying = write([Still(blue())], "AVIF", film=red, brand=b"avis")
    asked: list[str] = []
    banks = banks_of(tmp_path, allow=[sha(red), sha(RED_PNG)])

    def compare(sha256: str) -> BankDecision | None:
        asked.append(sha256)
        return banks.decide(sha256)

    found = decode_item(item(carrying), [WHOLE], OPTIONS, compare=compare)
    assert asked == [sha(carrying)]
    assert len(found) > 1
    assert all(isinstance(one, Frame) for one in found)


def test_what_cannot_be_read_is_an_error_whatever_banks_say(tmp_path: Path) -> None:
    banks = banks_of(tmp_path, allow=[sha(b"")])
    for one in (item(b""), Item(source=str(tmp_path / "none.png"), index=0)):
        (failed,) = decode_item(one, [WHOLE], OPTIONS, compare=banks.decide)
        assert isinstance(failed, Failure)


DECISION = BankDecision(decided_by="allow", matches=(BankMatch(bank="b"),))
HASH = sha(RED_PNG)


def told(**changes: Any) -> bytes:
    """Return the last message of a worker that was told to stop, with changes."""
    media = {
        "started": 0.0, "kind": "image", "sha256": HASH, "bytes": 9, "mtime_ns": None, "width": None,
        "height": None, "format": "PNG", "truncated": False, "duration_s": None, "coverage": None, "views": 0,
        "frames_total": None, "largest_gap_s": None, "frames_sampling": None, "unseen": [], "pdq": None,
        "decode_time_ms": None,
    }  # fmt: skip
    header = {"media": media, "frames": [], "failures": [], "shared": False, "stopped": True}
    return json.dumps(header | changes).encode()


def read(message: bytes, known: tuple[str, BankDecision] | None) -> list[Frame | Settled]:
    return read_result(message, lambda _: b"", item(RED_PNG), [WHOLE], known=known)


def test_a_worker_does_not_say_what_banks_decide() -> None:
    (verdict,) = read(told(), (HASH, DECISION))
    assert isinstance(verdict, BankVerdict)
    assert verdict.by is DECISION
    media = json.loads(told())["media"]
    for message, known in (
        (told(), None),  # it claims to be told to stop
        (told(stopped=False), (HASH, DECISION)),  # it does not stop
        (told(media=None), (HASH, DECISION)),
        (told(media=media | {"sha256": sha(b"other")}), (HASH, DECISION)),
        (told(failures=[["decode_error", "x", "decode"]]), (HASH, DECISION)),
        (told(failures=[["decode_error", "x", "decode"]], stopped=False), (HASH, DECISION)),
    ):
        with pytest.raises(ValueError, match="invalid result"):
            read(message, known)


def claim_another(item: Item, *_: Any, compare: Any, **__: Any) -> list[Frame | Settled]:
    """Answer for any input with the hash of an allowed one, as a worker could that its input took over."""
    by = compare(HASH)
    assert by is not None
    media = Media(started=0.0, sha256=HASH, bytes=9, format="PNG")
    return [BankVerdict(item=item, media=media, by=by)]


def test_a_worker_that_claims_the_hash_of_allowed_content_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "other.png"
    path.write_bytes(BLUE_PNG)
    banks = banks_of(tmp_path, allow=[HASH])
    items = [item(BLUE_PNG), Item(source=str(path), index=1), item(RED_PNG, 2)]
    with Decoders(1, pool=WorkerPool(work=claim_another)) as made:
        first, second, third = decode_with(made, items, [WHOLE], OPTIONS, compare=banks.decide)
    assert isinstance(first, Failure)
    assert isinstance(second, Failure)
    assert "another hash" in second.message
    assert isinstance(third, BankVerdict), "this one has it"


def judge(datas: list[bytes], banks: Banks = NO_BANKS) -> list[Result]:
    ensemble = ensemble_of(RedClassifier(), batch_size=3)
    criteria = prepare(ensemble, POLICY, threshold=0.5)
    items = [item(data, index) for index, data in enumerate(datas)]
    return list(run(items, ensemble, criteria, Options(workers=2, decode=OPTIONS), banks=banks))


def outcome(result: Result) -> str | None:
    return result.code if isinstance(result, Failure) else result.decision


KINDS = {"red": RED_PNG, "blue": BLUE_PNG, "broken": NO_PICTURE}
USUAL = {"red": "NSFW", "blue": "Safe", "broken": "decode_error"}


@given(
    kinds=st.lists(st.sampled_from(sorted(KINDS)), max_size=8),
    deny=st.sets(st.sampled_from(sorted(KINDS))),
    allow=st.sets(st.sampled_from(sorted(KINDS))),
)
def test_law_banks_change_the_outcome_of_their_content_alone(
    kinds: list[str], deny: set[str], allow: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One result for each input, in order; in no bank, as without banks."""
    folder = tmp_path_factory.mktemp("banks")
    banks = banks_of(folder, deny=[sha(KINDS[one]) for one in deny], allow=[sha(KINDS[one]) for one in allow])
    found = judge([KINDS[kind] for kind in kinds], banks)
    assert [one.item.index for one in found] == list(range(len(kinds)))
    for kind, result in zip(kinds, found, strict=True):
        expected = "NSFW" if kind in deny else "Safe" if kind in allow else USUAL[kind]
        assert outcome(result) == expected
        assert isinstance(result, BankVerdict) == (kind in deny | allow)


def test_no_model_is_asked_about_what_is_in_a_bank(tmp_path: Path) -> None:
    model = RedClassifier()
    ensemble = ensemble_of(model, batch_size=3)
    criteria = prepare(ensemble, POLICY, threshold=0.5)
    banks = banks_of(tmp_path, deny=[sha(BLUE_PNG)])
    items = [item(BLUE_PNG, 0), item(RED_PNG, 1), item(BLUE_PNG, 2)]
    first, second, third = run(items, ensemble, criteria, Options(workers=1, decode=OPTIONS), banks=banks)
    assert isinstance(first, BankVerdict)
    assert isinstance(second, Verdict)
    assert isinstance(third, BankVerdict)
    assert sum(model.calls) == 1
    assert first.total_ms is not None
    assert first.total_ms >= 0


def test_hashes_are_those_of_the_bytes() -> None:
    assert sha(RED_PNG) == hashlib.sha256(RED_PNG).hexdigest()
