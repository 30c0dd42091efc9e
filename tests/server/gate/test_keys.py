"""Keys: where they come from, when they are asked for, and what is said without one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.errors import UsageError
from clipmod_cli.server.configuration import DocumentedEnvironment
from clipmod_cli.server.gate.keys import ApiKeys, keys_of
from clipmod_cli.settings.definition import Settings
from tests.server.gate.doors import KEY, OTHER, gated

NOBODY = DocumentedEnvironment()
OPEN_TO_OTHERS = ("0.0.0.0", "::", "192.168.1.5", "moderation.example.org", "")  # noqa: S104


def keys(environment: DocumentedEnvironment = NOBODY, **changes: Any) -> ApiKeys:
    return keys_of(Settings(**changes), environment)


@pytest.mark.parametrize("host", OPEN_TO_OTHERS)
@pytest.mark.parametrize("switch", [None, False])
def test_without_a_key_nobody_listens_where_others_could_ask(host: str, switch: bool | None) -> None:
    with pytest.raises(UsageError, match=r"CLIPMOD_API_KEYS .*--no-auth"):
        keys(DocumentedEnvironment(use_api_keys=switch), host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_on_this_machine_alone_no_key_is_needed(host: str) -> None:
    assert not keys(host=host).required


def test_no_auth_asks_nobody_at_any_address() -> None:
    assert not keys(host="0.0.0.0", no_auth=True, api_keys=(KEY,)).required  # noqa: S104


def test_keys_of_all_three_places_count_together(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(
        "\ufeff# for the mobile app\nkey-in-the-file-000\n\n  key-with-spaces-around  \n", encoding="utf-8"
    )
    found = keys(DocumentedEnvironment(api_keys=(OTHER,)), api_keys=(KEY,), api_keys_file=str(file))
    for key in (KEY, OTHER, "key-in-the-file-000", "key-with-spaces-around"):
        assert found.find(key.encode()), key
    for key in ("", "# for the mobile app", KEY[:-1], KEY + " "):
        assert not found.find(key.encode()), key


@pytest.mark.parametrize("text", ["", "\n \n", "# only a comment\n"])
def test_a_file_without_a_key_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(text)
    with pytest.raises(UsageError, match="holds no API key"):
        keys(api_keys_file=str(file))


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the API keys in .*gone"):
        keys(api_keys_file=str(tmp_path / "gone"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not text in UTF-8"):
        keys(api_keys_file=str(tmp_path / "binary"))


def test_use_api_keys_false_counts_at_loopback_alone() -> None:
    off = DocumentedEnvironment(use_api_keys=False)
    assert not keys(off, api_keys=(KEY,)).required
    assert keys(off, api_keys=(KEY,), host="0.0.0.0").required  # noqa: S104


def test_use_api_keys_true_without_a_key_does_not_start() -> None:
    with pytest.raises(UsageError, match="USE_API_KEYS"):
        keys(DocumentedEnvironment(use_api_keys=True))


def test_short_keys_are_warned_of_without_being_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="clipmod_cli"):
        keys(api_keys=("hunter2", KEY))
    assert "1 of the API keys" in caplog.text
    assert "hunter2" not in caplog.text


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5), st.text())
def test_a_key_is_found_exactly_if_it_is_one(ours: list[str], given_one: str) -> None:
    found = keys(api_keys=tuple(ours))
    assert all(found.find(key.encode(errors="surrogatepass")) for key in ours)
    assert bool(found.find(given_one.encode(errors="surrogatepass"))) == (given_one in ours)


def test_a_keys_id_is_the_same_each_time_and_does_not_hold_it() -> None:
    assert keys(api_keys=(KEY,)).find(KEY.encode()) == keys(api_keys=(OTHER, KEY)).find(KEY.encode())
    assert keys(api_keys=(KEY,)).find(KEY.encode()) not in KEY
    assert KEY not in repr(keys(api_keys=(KEY,)))


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": KEY},
        {"x-api-key": f"  {KEY}"},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer   {KEY}"},
    ],
)
def test_a_key_in_either_header_lets_in(headers: dict[str, str]) -> None:
    answer = gated(api_keys=(OTHER, KEY)).get("/", headers=headers)
    assert (answer.status_code, answer.text[:4]) == (200, "in: ")
    assert "anybody" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": KEY[:-1]},
        {"X-API-Key": KEY.upper()},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        {"X-API-Key": "wrong", "Authorization": f"Bearer {KEY}"},
        {"Cookie": f"clipmod_session={KEY}"},
    ],
)
def test_anything_else_is_401_with_a_challenge(headers: dict[str, str]) -> None:
    answer = gated(api_keys=(KEY,)).get("/", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert set(answer.json()) == {"detail"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/ui/login", "/ui/login.css"])
def test_the_probes_and_the_login_are_open(path: str) -> None:
    assert gated(api_keys=(KEY,)).get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/image/x", "/ui/app.js", "/openapi.json", "/nowhere", "/healthz/", "/ui/login/", "//healthz"],
)
def test_nothing_else_is(path: str) -> None:
    client = gated(api_keys=(KEY,))
    assert client.get(path).status_code == 401
    assert client.post(path).status_code == 401
    assert client.delete(path).status_code == 401
