"""What several banks decide together, and how they are named."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from clipmod_cli.assemble import banks_of as named_banks
from clipmod_cli.banks.bank import Banks, BankSpec
from clipmod_cli.banks.watch import watch_banks
from clipmod_cli.errors import BankError, SettingsError
from clipmod_cli.settings.reading import resolve
from tests.banks.making import banks_of, sha, write_bank

A, B, C = sha(b"a"), sha(b"b"), sha(b"c")


def test_deny_is_nsfw_and_allow_is_safe(tmp_path: Path) -> None:
    banks = banks_of(tmp_path, deny=[A], allow=[B])
    denied, allowed = banks.decide(A), banks.decide(B)
    assert denied is not None
    assert (denied.decided_by, denied.decision, denied.matches[0].bank) == ("deny", "NSFW", "deny")
    assert allowed is not None
    assert (allowed.decided_by, allowed.decision, allowed.matches[0].bank) == ("allow", "Safe", "allow")
    assert banks.decide(C) is None
    assert banks.decide(None) is None


def test_deny_wins_and_a_warning_names_the_banks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        banks = banks_of(tmp_path, deny=[A, B], allow=[B, C])
    found = banks.decide(B)
    assert found is not None
    assert found.decided_by == "deny"
    assert [match.bank for match in found.matches] == ["deny"]
    (text,) = [record.getMessage() for record in caplog.records]
    assert text == "the deny bank deny and the allow bank allow share hashes (1): these are denied"
    assert B not in text
    allowed = banks.decide(C)
    assert allowed is not None
    assert allowed.decided_by == "allow"


def test_all_banks_that_hold_a_hash_are_named(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    paths = [
        write_bank(one / "list.txt", A),
        write_bank(other / "list.txt", A, B),
        write_bank(tmp_path / "c", A),
    ]
    banks = Banks.read(BankSpec(kind="deny", path=path) for path in [*paths, paths[0]])
    found = banks.decide(A)
    assert found is not None
    assert [match.bank for match in found.matches] == [str(paths[0]), str(paths[1]), "c"]


def test_kinds_that_are_not_compared_are_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bank = write_bank(tmp_path / "mixed.txt", A, f"pdq:{B}", f"pdq:{C}", "md5:00")
    with caplog.at_level(logging.WARNING):
        Banks.read([BankSpec(kind="deny", path=bank)])
    assert (
        f"mixed.txt: not compared, since only SHA-256 is, PDQ by deny:{bank}:31 (MD5 1, PDQ 2)" in caplog.text
    )


@pytest.mark.parametrize("text", ["", "file", "deny", "deny:", "refuse:file", "Deny:file"])
def test_what_names_no_bank_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="deny:FILE or allow:FILE"):
        BankSpec.parse(text)


def test_a_distance_is_for_deny_banks_of_pdq() -> None:
    assert BankSpec.parse("deny:hashes.csv:31") == BankSpec(kind="deny", path=Path("hashes.csv"), distance=31)
    assert BankSpec.parse("deny:a:b") == BankSpec(kind="deny", path=Path("a:b"))
    with pytest.raises(SettingsError, match=r"near copies are never allowed.*Give allow:hashes\.csv"):
        BankSpec.parse("allow:hashes.csv:31")
    with pytest.raises(SettingsError, match="at most 90 bits"):
        BankSpec.parse("deny:hashes.csv:91")


def test_only_a_flag_may_name_a_file_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('bank = ["allow:allow.csv"]\n', encoding="utf-8")
    assert named_banks(resolve({"bank": ["allow:allow.csv"]}))[0].path == Path("allow.csv")
    with pytest.raises(SettingsError, match="must begin with / or ~"):
        named_banks(resolve({"config": str(config)}))
    config.write_text('bank = ["allow:~/allow.csv", "deny:/srv/deny.csv"]\n', encoding="utf-8")
    kinds = [(spec.kind, spec.path) for spec in named_banks(resolve({"config": str(config)}))]
    assert kinds == [("allow", Path("~/allow.csv").expanduser()), ("deny", Path("/srv/deny.csv"))]
    monkeypatch.setenv("CLIPMOD_BANK", "deny:deny.csv")
    with pytest.raises(SettingsError, match="must begin with / or ~"):
        named_banks(resolve({}))


def test_a_watch_follows_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("clipmod_cli.banks.watch.CHECK_EVERY_S", 0.0)
    path = write_bank(tmp_path / "deny", A)
    watch = watch_banks([BankSpec(kind="deny", path=path)])
    first = watch.current()
    assert watch.current() is first
    write_bank(path, A, B)
    assert watch.current().decide(B) is not None
    write_bank(path, "broken")
    assert watch.current().decide(B) is not None, "what was read before stays in force"
    path.unlink()
    assert watch.current().decide(B) is not None
    assert caplog.text.count("stays in force") == 2
    assert watch.current().decide(B) is not None
    assert caplog.text.count("stays in force") == 2, "once for each change"
    write_bank(path, C)
    assert watch.current().decide(B) is None


def test_a_watch_begins_with_whole_banks(tmp_path: Path) -> None:
    with pytest.raises(BankError):
        watch_banks([BankSpec(kind="deny", path=tmp_path / "none")])
