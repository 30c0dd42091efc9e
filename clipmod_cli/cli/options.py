"""Adds the options of settings (`settings.definition`) to commands."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, TypeAlias, get_args, get_type_hints

import typer

from clipmod_cli.settings.definition import ENV_PREFIX, Group, Option, Settings, flag_of

Flags: TypeAlias = dict[str, Any]
Command: TypeAlias = Callable[..., None]


def with_settings(*groups: Group, without: frozenset[str] = frozenset()) -> Callable[[Command], Command]:
    """Return a decorator that adds one option for each setting of these groups to a command.

    The command's last parameter, `flags`, receives the values that the user gave.
    """

    def decorate(command: Command) -> Command:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "flags"]
        hints = get_type_hints(command, include_extras=True)
        added = _parameters(groups, without)

        @functools.wraps(command)
        def call(**given: Any) -> None:
            flags = {p.name: given.pop(p.name) for p in added}
            command(**given, flags={name: v for name, v in flags.items() if v not in (None, [])})

        kept = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in own]
        call.__signature__ = inspect.Signature([*kept, *added])  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in (*kept, *added)}
        return call

    return decorate


def _parameters(groups: tuple[Group, ...], without: frozenset[str]) -> list[inspect.Parameter]:
    hints = get_type_hints(Settings)
    chosen = [
        f for group in groups for f in fields(Settings)
        if f.metadata["option"].group == group and f.name not in without
    ]  # fmt: skip
    return [_parameter(f.name, hints[f.name], f.default, f.metadata["option"]) for f in chosen]


def _parameter(name: str, hint: Any, default: Any, option: Option) -> inspect.Parameter:
    flags = list(option.flags) or [flag_of(name)]
    kind: Any = str | None
    if hint is bool:
        kind = bool | None
        flags[-1] = flags[-1] if name.startswith("no_") else f"{flags[-1]}/--no-{name.replace('_', '-')}"
    elif "tuple" in str(hint):
        kind = list[str] | None
    elif "Literal" in str(hint) and option.metavar is None:
        kind = hint | None
    elif numbers := {int, float} & {hint, *get_args(hint)}:
        kind = numbers.pop() | None
    info = typer.Option(
        *flags, help=_help(default, option), metavar=option.metavar, show_default=False, show_envvar=False
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info]
    )


def _help(default: Any, option: Option) -> str:
    shown = ", ".join(default) if isinstance(default, tuple) else default
    if shown in (None, "", False):
        return option.help
    return f"{option.help}  [default: {shown}]"


ENVIRONMENT_NOTE = (
    f"Every option is also a variable ({ENV_PREFIX}BATCH_SIZE for --batch-size) "
    "and a key of the settings file (batch_size)."
)
