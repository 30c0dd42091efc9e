"""Values that the shell completes: policies, models, kinds, devices, and those of every closed list.

Called at each press of Tab, so it imports nothing heavy. Where nothing is offered, shells complete file
names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args, get_origin, get_type_hints

import clipmod_cli
from clipmod_cli.models.registry import BACKENDS, known_models
from clipmod_cli.settings.definition import FailOn, Settings

Complete: TypeAlias = Callable[[str], list[str]]
"""Returns the values that begin with what is typed."""

POLICIES: Final = Path(clipmod_cli.__file__).parent / "judge" / "policies"
PATH_STARTS: Final = ("/", "./", "../", "~")
SHORT_NAMES: Final = ("auto", "ensemble", "fallback")


def complete_policy(incomplete: str) -> list[str]:
    """Return built-in policies, or the TOML files and folders where a path is begun."""
    if incomplete.startswith(PATH_STARTS):
        return list(_toml_files(incomplete))
    return _starting(incomplete, sorted(path.stem for path in POLICIES.glob("*.toml")))


def complete_models(incomplete: str) -> list[str]:
    """Return models and the prefixes of others, for the last one of a comma-separated list."""
    done, comma, last = incomplete.rpartition(",")
    specs = {model.spec for model in known_models()}
    prefixes = {f"{prefix}:" for prefix in BACKENDS if prefix not in specs}
    return [f"{done}{comma}{name}" for name in _starting(last, sorted({*SHORT_NAMES, *specs, *prefixes}))]


OFFERED: Final[dict[str, tuple[str, ...]]] = {
    "device": ("auto", "cpu", "cuda", "cuda:0", "mps"),
    "frames": ("auto", "key", "dense", "fps=", "max="),
    "coverage": ("full", "centre", "tiles="),
    "batch_size": ("auto",),
    "workers": ("auto",),
    "fail_on": get_args(FailOn),
}
"""By setting whose type does not list its values; others follow from the type."""


def completion_of(name: str, choices: tuple[str, ...] = ()) -> Complete | None:
    """Return what completes the values of a setting; None for file names and free texts.

    Args:
        name: of the setting.
        choices: the values that a command takes, if these are not all.
    """
    if name in {"policy", "allow_policy", "models"}:
        return complete_models if name == "models" else complete_policy
    values = choices or OFFERED.get(name) or _literals(_setting_types()[name])
    if not values:
        return None

    def complete(incomplete: str) -> list[str]:
        return _starting(incomplete, values)

    return complete


@cache  # every command asks for each of its options, when it starts
def _setting_types() -> Mapping[str, Any]:
    return get_type_hints(Settings)


def _literals(hint: Any) -> tuple[str, ...]:
    one = get_args(hint)[0] if get_origin(hint) is tuple else hint
    return get_args(one) if get_origin(one) is Literal else ()


def _starting(incomplete: str, values: Iterable[str]) -> list[str]:
    return [value for value in values if value.startswith(incomplete)]


def _toml_files(incomplete: str) -> Iterator[str]:
    """Yield the TOML files and folders whose path begins as it is typed."""
    folder, slash, start = incomplete.rpartition("/")
    try:
        entries = sorted(os.scandir(Path(f"{folder}{slash}").expanduser()), key=lambda entry: entry.name)
    except (OSError, RuntimeError):
        return
    for entry in entries:
        if entry.name.startswith(start) and not (entry.name.startswith(".") and not start):
            if entry.is_dir():
                yield f"{folder}{slash}{entry.name}/"
            elif entry.name.endswith(".toml"):
                yield f"{folder}{slash}{entry.name}"
