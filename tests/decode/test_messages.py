"""What a worker answers: read as it was written, and never believed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.workers.child import write_result
from clipmod_cli.decode.workers.shared_memory import SharedBlock, make_shared_block
from clipmod_cli.decode.workers.wire import MAX_PIXEL_BYTES, read_result
from clipmod_cli.results import Settled
from clipmod_cli.types import Frame, Geometry, Item
from tests.decode.pictures import CENTRE, RED, encode
from tests.decode.samples import moving

GEOMETRY = Geometry(fit="squash", size=(8, 8))
FREE = Geometry(fit="longest", size=(8, 8))
WHOLE = Geometry(fit="whole", size=(0, 0))
ITEM = Item(source="x", index=0, data=encode(Image.new("RGB", (16, 16), RED), "PNG"))

VIEW = ([0, 0, 8, 8], "plain", 1.0)
"""Box, reading and scale of a view, as a worker sends them."""


def answer(
    item: Item = ITEM, geometry: Geometry = GEOMETRY, block: SharedBlock | None = None
) -> tuple[dict[str, Any], list[bytes]]:
    """Return the header and the further messages of a good answer."""
    sent: list[bytes] = []
    write_result(decode_item(item, [geometry], DecodeOptions(coverage=CENTRE)), sent.append, block)
    return json.loads(sent[0]), sent[1:]


def read(
    header: dict[str, Any] | bytes,
    messages: list[bytes],
    geometry: Geometry = GEOMETRY,
    block: SharedBlock | None = None,
) -> list[Frame | Settled]:
    told = header if isinstance(header, bytes) else json.dumps(header).encode()
    return read_result(told, receiver(messages), ITEM, [geometry], block)


def receiver(messages: list[bytes]) -> Callable[[int], bytes]:
    """Return what gives one message after the other, as a pipe does."""
    left = iter(messages)

    def receive(most: int) -> bytes:
        message = next(left, None)
        if message is None:
            raise EOFError
        if len(message) > most:
            raise OSError("bad message length")
        return message

    return receive


@pytest.fixture
def block() -> Iterator[SharedBlock]:
    made = make_shared_block(10_000)
    if made is None:
        pytest.skip("this system has no memory that can be sealed")
    with_writing = SharedBlock(made._descriptor, made.size, writable=True)
    yield with_writing
    with_writing._memory.close()
    made.close()


def test_a_good_answer_is_read() -> None:
    (frame,) = read(*answer())
    assert isinstance(frame, Frame)
    assert frame.item is ITEM
    assert frame.inputs[GEOMETRY].shape == (8, 8, 3)
    assert (frame.media.format, frame.media.width) == ("PNG", 16)


def test_pixels_go_through_the_block_where_they_fit(block: SharedBlock) -> None:
    header, messages = answer(block=block)
    assert not messages
    (frame,) = read(header, messages, block=block)
    assert isinstance(frame, Frame)
    assert (frame.inputs[GEOMETRY] == RED).all()
    block.write([np.zeros(10_000, np.uint8)])
    assert (frame.inputs[GEOMETRY] == RED).all(), "what was read is a copy"


def test_pixels_that_do_not_fit_follow_in_messages(block: SharedBlock) -> None:
    item = Item(source="x", index=0, data=moving("GIF", 3))
    header, messages = answer(item, WHOLE, block)
    assert len(messages) == 3
    assert header["shared"] is False
    frames = read(header, messages, WHOLE, block)
    expected = decode_item(item, [WHOLE], DecodeOptions(coverage=CENTRE))
    for one, other in zip(frames, expected, strict=True):
        assert isinstance(one, Frame)
        assert isinstance(other, Frame)
        assert (one.number, one.time_s, one.last) == (other.number, other.time_s, other.last)
        assert np.array_equal(one.inputs[WHOLE], other.inputs[WHOLE])


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": [[0, 0.0, True, *VIEW, [[800, 800]]]]},
        {"frames": [[0, 0.0, True, *VIEW, [[-8, -8]]]]},
        {"frames": [[0, 0.0, True, *VIEW, [[4, 16]]]]},
        {"frames": [[0, 0.0, True, *VIEW, []]]},
        {"frames": [[0, 0.0, False, *VIEW, [[8, 8]]]]},
        {"frames": [[0, float("nan"), True, *VIEW, [[8, 8]]]]},
        {"frames": [[0, "soon", True, *VIEW, [[8, 8]]]]},
        {"frames": [[True, 0.0, True, *VIEW, [[8, 8]]]]},
        {"frames": [[-1, 0.0, True, *VIEW, [[8, 8]]]]},
        {"frames": [[1, 0.0, False, *VIEW, [[8, 8]]], [0, 0.0, True, *VIEW, [[8, 8]]]]},
        {"frames": [[0, 0.0, True]]},
        {"frames": []},
        {"frames": [[0, 0.0, True, [0, 0, 8], "plain", 1.0, [[8, 8]]]]},
        {"frames": [[0, 0.0, True, [-1, 0, 8, 8], "plain", 1.0, [[8, 8]]]]},
        {"frames": [[0, 0.0, True, [0, 0, 8, 8], "\n", 1.0, [[8, 8]]]]},
        {"frames": [[0, 0.0, True, [0, 0, 8, 8], "plain", None, [[8, 8]]]]},
        {"frames": [[0, 0.0, True, *VIEW, [[8, 8]]]] * 1100},
        {"frames": "many"},
        {"media": None},
        {"media": {}},
        {"media": []},
        {"shared": 1},
        {"shared": True},
        {"failures": [["no_such_code", "", "decode"]]},
        {"failures": [["decode_error", "", "nowhere"]]},
        {"failures": [["decode_error", "", "decode"]]},
        {"failures": [["decode_error", 5, "decode"]]},
        {"failures": [[["decode_error"], "", "decode"]]},
    ],
)
def test_a_worker_is_not_believed(changes: dict[str, object]) -> None:
    header, messages = answer()
    with pytest.raises(ValueError, match="invalid result"):
        read({**header, **changes}, messages)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "sound"),
        ("sha256", "a" * 63),
        ("sha256", "é" * 64),
        ("format", "P" * 100),
        ("format", "\ud800"),
        ("width", -1),
        ("width", 1 << 70),
        ("width", "16"),
        ("truncated", 0),
        ("truncated", None),
        ("duration_s", float("inf")),
        ("started", None),
        ("started", 10**400),
    ],
)
def test_what_is_said_of_the_input_is_checked(name: str, value: object) -> None:
    header, messages = answer()
    with pytest.raises(ValueError, match="invalid result"):
        read({**header, "media": {**header["media"], name: value}}, messages)


@pytest.mark.parametrize("length", [0, 191, 193])
def test_pixels_of_another_length_are_refused(length: int) -> None:
    header, _ = answer()
    with pytest.raises((ValueError, OSError)):
        read(header, [bytes(length)])


def test_a_view_behind_the_end_of_the_block_is_refused(block: SharedBlock) -> None:
    header, messages = answer(geometry=FREE, block=block)
    header["frames"][0][-1] = [[100, 100]]
    with pytest.raises(ValueError, match="outside"):
        read(header, messages, FREE, block)


def test_more_pixels_than_a_worker_can_hold_are_not_waited_for() -> None:
    header, _ = answer(geometry=FREE)
    frames = MAX_PIXEL_BYTES // (3 * 5000 * 5000) + 1
    header["frames"] = [[n, 0.0, n == frames - 1, *VIEW, [[5000, 5000]]] for n in range(frames)]
    with pytest.raises(ValueError, match="more pixels"):
        read(header, [], FREE)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["decode", "decode_error"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(
    changes=st.dictionaries(st.sampled_from(["media", "frames", "failures", "shared"]), VALUES, max_size=3),
    media=st.dictionaries(
        st.sampled_from(["kind", "sha256", "width", "format", "duration_s"]), VALUES, max_size=2
    ),
)
def test_any_header_is_read_or_refused(changes: dict[str, Any], media: dict[str, Any]) -> None:
    header, messages = answer()
    told = {**header, "media": {**header["media"], **media}, **changes}
    try:
        result = read(told, messages)
    except ValueError:
        return
    assert [one.last for one in result] == [*[False] * (len(result) - 1), True]


@pytest.mark.parametrize(
    "header", [b"{", b"{}", b"[]", b"\xff", b"{" + b'"a":{' * 100_000, b"{" + b"[" * 100_000]
)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(header, [])
