"""`clipmod allow` and `clipmod deny`: put a wrong verdict right for good, by the content's hash."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from clipmod_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from clipmod_cli.banks.entries import BankKind

ALLOW_EXAMPLES = """
\b
Examples:
  clipmod allow a.jpg --note "our own"  these very bytes are Safe from now on
  clipmod allow --list                  what is allowed
  clipmod allow a.jpg --remove          models judge it again

A bank holds where it is named: clipmod scan ... --bank allow:FILE, or in the
settings file: bank = ["allow:FILE"]
"""
DENY_EXAMPLES = """
\b
Examples:
  clipmod deny spam.png --type spam  these very bytes are NSFW from now on
  clipmod deny --sha256 HEX          by the hash that a record has

A bank holds where it is named: clipmod scan ... --bank deny:FILE, or in the
settings file: bank = ["deny:FILE"]
"""

Files: TypeAlias = Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="pictures and videos")]
BankFile: TypeAlias = Annotated[
    Path | None, typer.Option("--bank", metavar="FILE", help="the bank [in the user data folder]")
]
Hashes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--sha256", metavar="HEX", help="a hash instead of a file, as records have it; repeatable"),
]
Type: TypeAlias = Annotated[str | None, typer.Option("--type", metavar="TEXT", help="what it is")]
Note: TypeAlias = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="why, for records")]
Remove: TypeAlias = Annotated[bool, typer.Option("--remove", help="remove instead of adding")]
List: TypeAlias = Annotated[bool, typer.Option("--list", help="print the entries")]


def allow(
    *,
    files: Files = None,
    sha256: Hashes = None,
    bank: BankFile = None,
    type_: Type = None,
    note: Note = None,
    remove: Remove = False,
    list_: List = False,
) -> None:
    """Add files to an allow bank: the same bytes are Safe from then on, without being decoded.

    Anything that differs in a single byte is judged as before.
    """
    _run("allow", files or [], sha256 or [], bank, type_, note, remove=remove, list_=list_)


def deny(
    *,
    files: Files = None,
    sha256: Hashes = None,
    bank: BankFile = None,
    type_: Type = None,
    note: Note = None,
    remove: Remove = False,
    list_: List = False,
) -> None:
    """Add files to a deny bank: the same bytes are NSFW from then on, without being decoded."""
    _run("deny", files or [], sha256 or [], bank, type_, note, remove=remove, list_=list_)


def _run(
    kind: BankKind,
    files: list[Path],
    hashes: list[str],
    bank: Path | None,
    type_: str | None,
    note: str | None,
    *,
    remove: bool,
    list_: bool,
) -> None:
    from clipmod_cli.banks.edit import default_bank, editing, hash_file
    from clipmod_cli.cli.terminal.stdout import plain, say

    path = default_bank(kind) if bank is None else bank.expanduser()
    if list_:
        if files or hashes or remove:
            raise UsageError("--list prints the whole bank: name no files beside it")
        _list(path, kind)
        return
    if not files and not hashes:
        raise UsageError("name files, or --sha256; --list prints what is there")
    if remove and (type_ is not None or note is not None):
        raise UsageError("--type and --note have no effect beside --remove")
    wanted = [_checked(text) for text in hashes] + [hash_file(str(file)) for file in files]
    if bank is None:
        _make_folder(path.parent)
    with editing(path, kind) as table:
        if remove:
            count, known = table.remove(wanted), "not there"
        else:
            count, known = table.add(wanted, type_=type_, note=note), "there already"
        size = len(table.entries)
    rest = len(set(wanted)) - count
    told = f"{count} {'removed' if remove else 'added'}" + (f", {rest} {known}" if rest else "")
    say(f"clipmod: {told}; {plain(str(path))} has {size} {'entry' if size == 1 else 'entries'}")
    if not remove and not _is_in_use(kind, path):
        spec = shlex.quote(f"{kind}:{path.absolute()}")
        say(f"clipmod: to use it: clipmod scan ... --bank {spec}, or in the settings file:\n"
            f'  bank = ["{kind}:{path.absolute()}"]')  # fmt: skip


def _checked(text: str) -> str:
    found = text.strip().lower()
    if len(found) != 64 or set(found) - set("0123456789abcdef"):
        raise UsageError(f"--sha256 takes 64 hexadecimal digits, not {text!r}")
    return found


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"cannot create {folder}: {e.strerror}") from e


def _is_in_use(kind: BankKind, path: Path) -> bool:
    """Return whether the settings name the bank, so that every scan uses it."""
    from clipmod_cli.banks.bank import BankSpec
    from clipmod_cli.settings.reading import resolve

    specs = [BankSpec.parse(text) for text in resolve({}).settings.bank]
    return any(spec.kind == kind and spec.path.resolve() == path.resolve() for spec in specs)


def _list(path: Path, kind: BankKind) -> None:
    from clipmod_cli.banks.edit import BankTable
    from clipmod_cli.cli.terminal.stdout import plain

    for entry in BankTable.read(path, kind).entries:
        words = [entry.get(name, "") for name in ("sha256", "type", "note")]
        sys.stdout.write("\t".join(map(plain, words)).rstrip() + "\n")
