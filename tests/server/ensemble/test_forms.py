"""Laws of the form reader and of the pile."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from clipmod_cli.server.forms.multipart import Event, FormError, FormReader, PartBegin, PartData, PartEnd
from clipmod_cli.server.forms.spooled import SpooledPieces
from tests.server.ensemble.pictures import BLUE_SQUARE, RED_CIRCLE
from tests.server.listening import CONTENT_TYPE, form_of

FILES = st.lists(
    st.tuples(st.text("abcäß .-_", min_size=1, max_size=12), st.binary(max_size=300)), max_size=6
)


def parts_of(events: list[Event]) -> list[tuple[str | None, bytes]]:
    """Return (name, content) of each complete part."""
    found: list[tuple[str | None, bytes]] = []
    name: str | None = None
    data = b""
    for event in events:
        match event:
            case PartBegin(filename=filename):
                name, data = filename, b""
            case PartData(data=more):
                data += more
            case PartEnd():
                found.append((name, data))
    return found


@given(files=FILES, cuts=st.lists(st.integers(0, 3000), max_size=12))
def test_a_form_reads_the_same_however_it_is_cut(files: list[tuple[str, bytes]], cuts: list[int]) -> None:
    body = form_of("files", files)
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    reader = FormReader(CONTENT_TYPE)
    events: list[Event] = []
    for start, end in pairwise(places):
        events += reader.feed(body[start:end])
    reader.finish()
    assert parts_of(events) == files


@given(body=st.binary(max_size=400), cut=st.integers(0, 400))
def test_anything_is_a_form_or_an_error(body: bytes, cut: int) -> None:
    reader = FormReader(CONTENT_TYPE)
    with suppress(FormError):  # and nothing else
        reader.feed(body[:cut])
        reader.feed(body[cut:])
        reader.finish()
        assert reader.ended


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "x; boundary=b"],
)
def test_a_header_that_promises_no_form(content_type: str) -> None:
    with pytest.raises(FormError, match="multipart/form-data"):
        FormReader(content_type)


def test_a_name_in_extended_notation() -> None:
    reader = FormReader("multipart/form-data; boundary=b")
    head = b"Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%C3%A4.jpg"
    begin, *_ = reader.feed(b"--b\r\n" + head + b"\r\n\r\nx\r\n--b--\r\n")
    assert begin == PartBegin("file", "ä.jpg")


@given(pieces=st.lists(st.binary(max_size=50), max_size=30), memory=st.integers(0, 400))
def test_a_pile_gives_back_what_was_put(pieces: list[bytes], memory: int) -> None:
    with SpooledPieces(memory) as pile:
        kept = [pile.put(piece) for piece in pieces]
        assert [pile.get([one]) for one in reversed(kept)] == pieces[::-1]
        assert pile.get(kept) == b"".join(pieces)
        assert sum(len(one) for one in kept if isinstance(one, bytes)) <= memory


@pytest.mark.parametrize(
    ("path", "field"),
    [("/predict/single", "file"), ("/predict/multi", "files"), ("/predict/streaming", "files")],
)
def test_a_picture_that_would_be_passed_over_refuses_the_request(
    client: TestClient, path: str, field: str
) -> None:
    blue, red = (field, ("blue.png", BLUE_SQUARE)), ("red.jpg", RED_CIRCLE)
    for other in ("image", f"{field}[]", field.upper()):
        answer = client.post(path, files=[(other, red), blue])
        assert (answer.status_code, "detail" in answer.json()) == (400, True)
        assert repr(other) in answer.json()["detail"]
    nameless = client.post(path, files=[(field, (None, RED_CIRCLE)), blue])
    assert (nameless.status_code, nameless.json()["detail"]) == (
        400,
        f"The field {field!r} must be a file: give it a filename",
    )


def test_texts_and_empty_inputs_beside_a_picture_are_no_matter(client: TestClient) -> None:
    sent = [("token", (None, b"x")), ("attachment", ("", b"")), ("file", ("blue.png", BLUE_SQUARE))]
    assert client.post("/predict/single", files=sent).json()["final_decision"] == "Safe"


def test_a_part_with_two_names_is_no_form() -> None:
    reader = FormReader("multipart/form-data; boundary=b")
    heads = b"\r\n".join(
        b"Content-Disposition: form-data; " + one for one in (b'name="file"; filename="a"', b'name="x"')
    )
    with pytest.raises(FormError, match="two names"):
        reader.feed(b"--b\r\n" + heads + b"\r\n\r\nx\r\n--b--\r\n")
