"""Files of hashes: every accepted form is read whole, and what is broken is refused with its place."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.banks.bank import Bank, BankSpec
from clipmod_cli.banks.entries import BankKind
from clipmod_cli.errors import BankError
from clipmod_cli.results import BankMatch

A, B, C = (hashlib.sha256(one).hexdigest() for one in (b"a", b"b", b"c"))
PDQ = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"


def read(folder: Path, content: str | bytes, kind: BankKind = "deny") -> Bank:
    path = folder / "bank"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Bank.read(BankSpec(kind=kind, path=path))


def labels(bank: Bank, *hashes: str) -> list[tuple[str | None, str | None] | None]:
    """Return type and note of each hash; None for one that is not in the bank."""
    found = (bank.find(bytes.fromhex(one)) for one in hashes)
    return [None if one is None else (one.type, one.note) for one in found]


PLAIN = (None, None)
EXPORTED = f"""collab,signal_type,signal_str,category,tags
x,sha256,{A},POSITIVE_CLASS,a b
x,sha256,{B},NEGATIVE_CLASS,
x,pdq,{PDQ},POSITIVE_CLASS,
"""


@pytest.mark.parametrize(
    ("content", "expected", "not_compared"),
    [
        (f"{A}\n{B}", [PLAIN, PLAIN, None], {}),
        (f"\ufeff# known\r\n\r\n{A.upper()}\r\n  {B}  \r\n", [PLAIN, PLAIN, None], {}),
        (f"{A}  my cat.jpg\n{B} *bin\n", [PLAIN, PLAIN, None], {}),
        (f"sha256:{A}\nSHA-256:{B}\npdq:{PDQ}\nmd5:{'0' * 32}\nmd5:{'1' * 32}\n", [PLAIN, PLAIN, None],
         {"PDQ": 1, "MD5": 2}),
        (f"sha256\n{A}\n", [PLAIN, None, None], {}),
        (f"# ours\nSHA256,Type,Note\n{A},gore,\n{B},,seen twice\n{A},later,\n",
         [("gore", None), (None, "seen twice"), None], {}),
        (f"note,sha256\n#1 of ours,{A}\n# a comment\n#,\n\"#2\",{B}\n",
         [(None, "#1 of ours"), (None, "#2"), None], {}),
        (f"tags,indicator,type\n#gore,{A},HASH_SHA256\n", [("#gore", None), None, None], {}),
        (f"sha256,note\n#{A},no longer\n{B},\n", [None, PLAIN, None], {}),
        (f"id;sha256;note\n1;{A};\n2;;\n", [PLAIN, None, None], {"no sha256": 1}),
        (f'sha256\tnote\n{A}\t"two\nlines"\n{B}\t\n', [(None, "two\nlines"), PLAIN, None], {}),
        (f"indicator,type,tags\n{A},HASH_SHA256,x y\n{PDQ},HASH_PDQ,\n{B},HASH_SHA256,\n00,HASH_MD5,\n",
         [("x y", None), PLAIN, None], {"HASH_PDQ": 1, "HASH_MD5": 1}),
        (EXPORTED,
         [("a b", None), None, None], {"PDQ": 1, "NEGATIVE_CLASS": 1}),
        (json.dumps([{"sha256": A, "type": "x"}, {"sha256": B}]), [("x", None), PLAIN, None], {}),
        (json.dumps({"data": [
            {"indicator": A, "type": "HASH_SHA256", "status": "MALICIOUS", "description": "d",
             "tags": {"data": [{"text": "one"}, {"text": "two"}]}},
            {"indicator": B, "type": "HASH_SHA256", "should_delete": True},
            {"indicator": C, "type": "HASH_SHA256", "status": "NON_MALICIOUS"},
            {"indicator": PDQ, "type": "HASH_PDQ"},
            {"indicator": PDQ},
        ]}, indent=1),
         [("one two", "d"), None, None],
         {"should_delete": 1, "NON_MALICIOUS": 1, "HASH_PDQ": 1, "no type": 1}),
        (f'{{"sha256": "{A}"}}\n{{"sha256": "{B}", "note": "n"}}\n', [PLAIN, (None, "n"), None], {}),
    ],
)  # fmt: skip
def test_each_form_is_read_whole(
    content: str, expected: list[object], not_compared: dict[str, int], tmp_path: Path
) -> None:
    bank = read(tmp_path, content)
    assert labels(bank, A, B, C) == expected
    assert bank.not_compared == not_compared
    assert bank.sha256 == hashlib.sha256(content.encode()).hexdigest()
    assert bank.facts["hashes"] == sum(one is not None for one in expected)


def test_an_allow_bank_takes_only_what_is_said_to_be_harmless(tmp_path: Path) -> None:
    rows = [
        {"indicator": A, "type": "HASH_SHA256", "status": "MALICIOUS"},
        {"indicator": B, "type": "HASH_SHA256", "status": "NON_MALICIOUS"},
        {"indicator": C, "type": "HASH_SHA256"},
    ]
    bank = read(tmp_path, json.dumps(rows), "allow")
    assert labels(bank, A, B, C) == [None, PLAIN, None]
    assert bank.not_compared == {"MALICIOUS": 1, "no status": 1}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (f"{A}\n{B[:-1]}\n", "line 2"),
        (f"{A}\n\n{B}0\n", "line 3"),
        (f"{A}\nnot a hash\n", "line 2"),
        (f"{A[:40]} {A[40:]}\n", "line 1"),
        (f"{A}\n{'g' * 64}\n", "line 2"),
        (f"{A}\n{B}{C}\n", "line 2"),
        (f"sha256,type\n{A},x\n{B[:10]},x\n", "line 3"),
        (f"sha256,type\n{A},x,y\n", "line 2"),
        (f'sha256,note\n{A},"two\nlines"\n{B[1:]},\n', "line 4"),
        (f'sha256,note\n{A},"open\n', "line 2"),
        (f"{A}\n".encode() + b"\xff\xfe\n", "line 2"),
        ("[1]", "entry 1"),
        (json.dumps([{"sha256": A}, {"md5": "x"}]), "entry 2"),
        (json.dumps([{"sha256": A}, {"sha256": 5}]), "entry 2"),
        ('{"sha256": "' + A + '"}\n{"sha256": \n', "line 2"),
        ('[{"sha256": "' + A + '"},\n{]', "line 2"),
        ("[" * 100_000, "line 1"),
    ],
)
def test_what_is_broken_is_refused_with_its_place(content: str | bytes, place: str, tmp_path: Path) -> None:
    with pytest.raises(BankError) as refused:
        read(tmp_path, content)
    assert f"{tmp_path / 'bank'}, {place}:" in str(refused.value)
    assert A not in str(refused.value), "no hash is shown"


@pytest.mark.parametrize("kind", ["deny", "allow"])
@pytest.mark.parametrize("content", ["", "\n\n", "# only a comment\n", f"pdq:{PDQ}\n", "[]", '{"data": []}'])
def test_an_empty_bank_is_refused(content: str, kind: BankKind, tmp_path: Path) -> None:
    with pytest.raises(BankError, match="is empty"):
        read(tmp_path, content, kind)


def test_a_table_without_rows_is_an_allow_bank_but_no_deny_bank(tmp_path: Path) -> None:
    assert read(tmp_path, "sha256,type,note\n", "allow").facts["hashes"] == 0
    with pytest.raises(BankError, match="is empty"):
        read(tmp_path, "sha256,type,note\n", "deny")


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(BankError, match="cannot be read"):
            Bank.read(BankSpec(kind="deny", path=path))


digests = st.sets(
    st.binary(min_size=32, max_size=32) | st.integers(0, 3).map(lambda n: bytes([n] * 32)), max_size=9
)


def _as_lines(hashes: list[bytes]) -> str:
    return "".join(f"{one.hex()}\n" for one in hashes)


def _as_table(hashes: list[bytes]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([["note", "sha256"], *(["x, y", one.hex()] for one in hashes)])
    return text.getvalue()


def _as_json(hashes: list[bytes]) -> str:
    return json.dumps([{"indicator": one.hex(), "type": "HASH_SHA256"} for one in hashes])


@given(
    inside=digests,
    outside=digests,
    form=st.sampled_from([_as_lines, _as_table, _as_json]),
    twice=st.booleans(),
)
def test_law_a_bank_holds_exactly_its_hashes(
    inside: set[bytes],
    outside: set[bytes],
    form: Callable[[list[bytes]], str],
    twice: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    listed = [*inside, *inside] if twice else [*inside]
    if not listed:
        return
    bank = read(tmp_path_factory.mktemp("bank"), form(listed))
    assert len(bank.hashes) == len(inside)
    for one in inside | outside:
        found = bank.find(one)
        assert (found is not None) == (one in inside)
        assert found is None or isinstance(found, BankMatch)


def test_hashes_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    begun = ["ab" * 8 + end * 48 for end in "0123"]
    bank = read(tmp_path, "".join(f"{one}\n" for one in begun[:3]))
    assert labels(bank, *begun) == [PLAIN, PLAIN, PLAIN, None]


def test_many_hashes_take_little_more_than_their_bytes(tmp_path: Path) -> None:
    count = 60_000
    rng = random.Random(0)
    hashes = [rng.randbytes(32) for _ in range(count)]
    bank = read(tmp_path, _as_lines(hashes))
    assert bank.hashes.nbytes == 32 * count
    assert bank.label_of.nbytes == 0
    assert all(bank.find(one) is not None for one in hashes[:: count // 50])
