"""Help as plain text in groups that fits 80 columns; `--help-all` also lists rarely used options."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, TypeAlias

import typer
from typer.core import TyperCommand, TyperGroup

from clipmod_cli.errors import ExitCode
from clipmod_cli.settings.definition import Settings

Row: TypeAlias = tuple[str, str]

NAME_WIDTH = 22
"""Of the column of option names; a longer name has a line of its own."""

RARE = frozenset(f.name for f in fields(Settings) if f.metadata["option"].rare)
OWN_PANEL, HELP_PANEL = "Options", "Help"
_ALL = "clipmod.help_all"


class PlainCommand(TyperCommand):
    """A command whose options are listed by the panel that each one names."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line; Typer puts required arguments into braces."""
        return [re.sub(r"^\{(.*)\}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options."""
        _write_params(self.get_params(ctx), ctx, formatter)


class PlainGroup(TyperGroup):
    """A group of commands; called without any, it prints its help to stderr and exits with 2."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options and the commands."""
        _write_params(self.get_params(ctx), ctx, formatter)
        self.format_commands(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the group."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(ExitCode.USAGE)
        return super().parse_args(ctx, args)


class RecordsGroup(PlainGroup):
    """Takes the names of files where no subcommand is named: `stats out.jsonl`, `stats forget ...`.

    A file that is named as a subcommand is reached by `./NAME`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options; names of files are left in the context's `args`."""
        parser = self.make_parser(ctx)
        parser.allow_interspersed_args = False
        try:
            _, rest, _ = parser.parse_args(args=list(args))
        except Exception:  # noqa: BLE001 - a wrong option: the usual way reports it
            rest = []
        if rest and rest[0] in self.commands:
            return super().parse_args(ctx, args)
        ctx.allow_interspersed_args = True
        return super(TyperGroup, self).parse_args(ctx, args)


def use_plain_help(app: typer.Typer) -> None:
    """Give each command and group of an application this help; a group that derives from it stays."""
    for command in app.registered_commands:
        command.cls = PlainCommand
    for group in app.registered_groups:
        if not (isinstance(group.cls, type) and issubclass(group.cls, PlainGroup)):
            group.cls = PlainGroup
        if group.typer_instance is not None:
            use_plain_help(group.typer_instance)


def print_help_all(ctx: typer.Context, value: bool) -> None:  # noqa: FBT001 — Typer's signature
    """Print the help with rarely used options and exit, if the option is given."""
    if value and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        typer.echo(ctx.get_help())
        raise typer.Exit


def _write_params(params: Iterable[Any], ctx: Any, formatter: Any) -> None:
    panels: dict[str, list[Row]] = {}
    listed = [param for param in params if not param.hidden and _is_shown(param, ctx)]
    has_panels = any(getattr(param, "rich_help_panel", None) for param in listed)
    for param in listed:
        panels.setdefault(_panel_of(param, has_panels=has_panels), []).append(_row(param, ctx))
    widest = min(NAME_WIDTH, max((len(name) for rows in panels.values() for name, _ in rows), default=0))
    for title, rows in panels.items():
        with formatter.section(title):
            # padded, so that the panels have their columns in common
            formatter.write_dl([(f"{name:<{widest}}", text) for name, text in rows], col_max=widest)


def _is_shown(param: Any, ctx: Any) -> bool:
    return bool(ctx.meta.get(_ALL)) or param.name not in RARE


def _panel_of(param: Any, *, has_panels: bool) -> str:
    if param.param_type_name == "argument":
        return "Arguments"
    if has_panels and param.name == "help":
        return HELP_PANEL
    return getattr(param, "rich_help_panel", None) or OWN_PANEL


def _row(param: Any, ctx: Any) -> Row:
    if param.param_type_name == "argument":
        return param.metavar or param.name, param.help or ""
    _, text = param.get_help_record(ctx)
    return " ".join(_words(param, ctx)), text


def _words(param: Any, ctx: Any) -> Iterator[str]:
    """Yield the names of an option and the placeholder of its value."""
    *short, long = sorted(param.opts, key=len)
    if param.secondary_opts and "[on]" in (param.help or ""):
        long = f"--[no-]{long.removeprefix('--')}"
    yield ", ".join((*short, long))
    if not param.is_flag:
        yield param.metavar or param.display_type_rich(ctx=ctx)
