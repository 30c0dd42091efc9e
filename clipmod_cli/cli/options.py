"""Adds the options of settings (`settings.definition`) to commands."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeAlias, get_args, get_type_hints

import typer

from clipmod_cli.cli.usage.completion import completion_of
from clipmod_cli.cli.usage.help import HELP_PANEL, print_help_all
from clipmod_cli.errors import UsageError
from clipmod_cli.settings.definition import ENV_PREFIX, Group, Option, Settings, flag_of

Flags: TypeAlias = dict[str, Any]
Command: TypeAlias = Callable[..., None]

PANELS: Final[dict[Group, str]] = {
    "sources": "Input",
    "urls": "Downloads",
    "downloads": "Downloads",
    "judging": "Models and policy",
    "serve": "Service",
    "access": "Keys and access",
    "limits": "Limits",
    "hosting": "Kept pictures",
    "output": "Output",
    "parts": "Parts",
    "machine": "Speed",
    "cache": "Speed",
    "store": "Output",
    "talk": "Messages",
}
"""The headings of help, in their order; `secret` settings are no options."""

WITHOUT_RISK: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({"early_exit": ("off", "exact")})
"""The `choices` of commands whose results are not records that could be corrected later."""


def with_settings(
    *groups: Group,
    without: frozenset[str] = frozenset(),
    only: frozenset[str] | None = None,
    defaults: Mapping[str, Any] = MappingProxyType({}),
    choices: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Callable[[Command], Command]:
    """Return a decorator that adds one option for each setting of these groups to a command.

    Settings in `without` are left out, and with `only` all that are not in it. Help lists them in the order
    of `PANELS`, with `defaults` in place of the settings' own. The command takes only the values in `choices`
    of these settings. Its last parameter, `flags`, receives the values that the user gave.
    """

    def decorate(command: Command) -> Command:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "flags"]
        hints = get_type_hints(command, include_extras=True)
        added = [p for p in _parameters(groups, without, defaults, choices) if only is None or p.name in only]

        @functools.wraps(command)
        def call(**given: Any) -> None:
            flags = {p.name: given.pop(p.name) for p in added}
            given.pop(_HELP_ALL.name)
            _check_choices(flags, choices)
            command(**given, flags={name: v for name, v in flags.items() if v not in (None, [])})

        kept = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in own]
        parameters = [*kept, *added, _HELP_ALL]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        return call

    return decorate


def _check_choices(flags: Flags, choices: Mapping[str, tuple[str, ...]]) -> None:
    for name, values in choices.items():
        if flags[name] not in (None, *values):
            raise UsageError(f"{flag_of(name)} must be {' or '.join(values)} here, not {flags[name]!r}")


def _parameters(
    groups: tuple[Group, ...],
    without: frozenset[str],
    defaults: Mapping[str, Any],
    choices: Mapping[str, tuple[str, ...]],
) -> list[inspect.Parameter]:
    hints = get_type_hints(Settings)
    chosen = [
        f for group in PANELS if group in groups for f in fields(Settings)
        if f.metadata["option"].group == group and f.name not in without
    ]  # fmt: skip
    return [
        _parameter(
            f.name,
            hints[f.name],
            defaults.get(f.name, f.default),
            f.metadata["option"],
            choices.get(f.name, ()),
        )
        for f in chosen
    ]


def _parameter(
    name: str, hint: Any, default: Any, option: Option, choices: tuple[str, ...]
) -> inspect.Parameter:
    flags = list(option.flags) or [flag_of(name)]
    # as text: `resolve` checks all values, wherever they come from
    kind: Any = str | None
    metavar = option.metavar or "|".join(choices or get_args(hint))
    if hint is bool:
        kind = bool | None
        flags[-1] = flags[-1] if name.startswith("no_") else f"{flags[-1]}/--no-{name.replace('_', '-')}"
    elif "tuple" in str(hint):
        kind = list[str] | None
    info = typer.Option(
        *flags, help=_help(default, option), metavar=metavar, show_default=False, show_envvar=False,
        rich_help_panel=PANELS.get(option.group), autocompletion=completion_of(name, choices),
    )  # fmt: skip
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info]
    )


def _help(default: Any, option: Option) -> str:
    if default in (None, "", False, ()):
        return option.help
    shown = ", ".join(default) if isinstance(default, tuple) else default
    return f"{option.help} [{'on' if default is True else shown}]"


_HELP_ALL = inspect.Parameter(
    "help_all",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option(
            "--help-all",
            help="Show this message with rarely used options.",
            is_eager=True,
            callback=print_help_all,
            rich_help_panel=HELP_PANEL,
        ),
    ],
)

ENVIRONMENT_NOTE = f"""
Defaults are in brackets. Options with SPEC, KIND, GLOB or HEADER may be repeated; --no-X turns X off again.
Each option is also a variable ({ENV_PREFIX}BATCH_SIZE for --batch-size) and a key of the settings file
(batch_size): docs/settings.md.
"""
