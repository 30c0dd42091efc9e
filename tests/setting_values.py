"""For each setting a value that is not its default: what tests give as flag, variable or key."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args, get_type_hints

from clipmod_cli.settings.definition import Settings

FIELD_NAMES = tuple(f.name for f in fields(Settings))
HINTS = get_type_hints(Settings)

CHOSEN: dict[str, Any] = {
    "fail_on": ("nsfw", "error"),
    "retry": ("errors", "decode_error"),
    "only": ("nsfw", "review"),
    "batch_size": "16",
    "workers": "3",
    "config": "~/mine.toml",
    "threshold": 0.25,
    "concurrency": 8,
    "per_host": 2,
    "timeout": 12.5,
    "drain_s": 2.5,
    "retries": 1,
    "actors": "2:4",
}
"""Where not every value of the type is one of the setting."""


def sample_of(name: str) -> Any:
    """Return a value of this setting that is not its default."""
    if name in CHOSEN:
        return CHOSEN[name]
    hint, default = HINTS[name], getattr(Settings(), name)
    if hint is bool:
        return not default
    if "Literal" in str(hint):
        return next(value for value in get_args(hint) if value != default)
    if {int, float} & {hint, *get_args(hint)}:
        return 5
    return ("one", "two") if "tuple" in str(hint) else f"a-{name}"


def written(value: Any, between: str = ",") -> str:
    """Return a value as text: what stands in a variable."""
    if isinstance(value, tuple):
        return f"{between} ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
