"""Settings from flags, environment, settings file and defaults, in that order; errors name the origin.

Nothing is read from the working directory. `clipmod --help` imports this module, so pydantic is imported
late.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from clipmod_cli.errors import SettingsError, did_you_mean
from clipmod_cli.settings.definition import ENV_PREFIX, Origin, Settings, flag_of, option_of
from clipmod_cli.settings.effects import NEEDS, Need, losers
from clipmod_cli.settings.file import read_settings_file

Place: TypeAlias = Callable[[str], str]
"""Returns where a setting was given, for messages: its flag, variable, or file, line and key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Settings with the origin of each value.

    Attributes:
        file: the settings file; None if there is none.
        warnings: about variables that are no settings.
    """

    settings: Settings
    origins: Mapping[str, Origin]
    file: Path | None
    warnings: tuple[str, ...] = ()

    def named(self, name: str) -> bool:
        """Return whether the user set this, so that it is not the default."""
        return self.origins[name] != "default"


NO_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType({})


def resolve(flags: Mapping[str, Any], defaults: Mapping[str, Any] = NO_DEFAULTS) -> Resolved:
    """Return settings from flags, environment, file and defaults, in that order.

    Args:
        flags: what the user gave on the command line, by setting name.
        defaults: those of one command that differ.

    Raises:
        SettingsError: naming every wrong value, and where it came from.
    """
    file = read_settings_file(flags.get("config") or os.environ.get(f"{ENV_PREFIX}CONFIG"))
    sources: tuple[tuple[Origin, Mapping[str, Any]], ...] = (
        ("flag", flags), ("environment", _environment()), ("file", file.values)
    )  # fmt: skip
    origins: dict[str, Origin] = {f.name: "default" for f in fields(Settings)}
    values = dict(defaults)
    for origin, given in reversed(sources):
        values |= given
        origins |= dict.fromkeys(given, origin)

    def place(name: str) -> str:
        match origins[name]:
            case "environment":
                return f"{ENV_PREFIX}{name.upper()}"
            case "file":
                return file.place_of(name)
        return flag_of(name)

    faults = _drop_losers(values, origins, place)
    settings = _validate(values, place, faults)
    if faults := [f"{place(n.name)} has no effect without {n.without}" for n in _unmet(settings, origins)]:
        raise SettingsError("\n".join(faults))
    return Resolved(settings=settings, origins=origins, file=file.path, warnings=tuple(_misspelt()))


def _environment() -> dict[str, str]:
    variables = ((f.name, os.environ.get(f"{ENV_PREFIX}{f.name.upper()}")) for f in fields(Settings))
    return {name: value for name, value in variables if value is not None}


def _drop_losers(values: dict[str, Any], origins: dict[str, Origin], place: Place) -> list[str]:
    """Remove settings that another one excludes; return the faults: both come from the same place."""
    faults = []
    for name, other, why in losers(values, origins):
        if origins[name] == origins[other]:
            faults.append(f"{place(name)} has no effect beside {place(other)}: {why}")
        else:
            del values[name]
            origins[name] = "default"
    return faults


def _unmet(settings: Settings, origins: Mapping[str, Origin]) -> Iterator[Need]:
    """Yield what flags need and the settings have not; variables and files are for other commands too."""
    for need in NEEDS:
        is_given = origins[need.name] == "flag" and getattr(settings, need.name) not in (None, False)
        if is_given and not need.met(settings):
            yield need


def _misspelt() -> Iterator[str]:
    """Yield a warning for each variable that looks like a setting and is none."""
    known = {f"{ENV_PREFIX}{f.name.upper()}" for f in fields(Settings)}
    for name in sorted(os.environ):
        if name.startswith(ENV_PREFIX) and name not in known and not _OF_KUBERNETES.match(name):
            yield f"the variable {name} is no setting and has no effect{did_you_mean(name, known)}"


_OF_KUBERNETES = re.compile(rf"{ENV_PREFIX}(SERVICE_(HOST|PORT)|PORT_\d+)")
"""A pod has these variables of a Kubernetes service that is named clipmod."""


def _split(name: str, value: Any) -> Any:
    """Split a text for a setting with several values; return anything else unchanged."""
    if not isinstance(value, str) or "tuple" not in str(Settings.__annotations__[name]):
        return value
    return tuple(part.strip() for part in value.split(option_of(name).between) if part.strip())


def _validate(values: Mapping[str, Any], place: Place, faults: list[str]) -> Settings:
    from pydantic import TypeAdapter, ValidationError

    try:
        settings = TypeAdapter(Settings).validate_python({n: _split(n, v) for n, v in values.items()})
    except ValidationError as e:
        raise SettingsError("\n".join([*faults, *(_fault(err, place) for err in e.errors())])) from None
    if faults := [*faults, *_faults(settings, place)]:
        raise SettingsError("\n".join(faults))
    return settings


def _fault(error: Any, place: Place) -> str:
    name = str(error["loc"][0])
    if option_of(name).group == "secret":
        return f"{place(name)}: {error['msg']}"
    expected = error.get("ctx", {}).get("expected", "").replace("'", "")
    wanted = _WANTED.get(error["type"]) or expected or error["msg"]
    return f"{place(name)} must be {wanted}, not {error['input']!r}"


_WANTED: Final = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
}
"""By pydantic's kind of error; `literal_error` brings its own list."""


_RANGES: Final[tuple[tuple[str, Callable[[float], bool], tuple[str, ...]], ...]] = (
    ("is below 0", lambda value: value >= 0, ("max_depth", "limit", "retention", "retries", "cache_mb")),
    ("is below 1", lambda value: value >= 1, ("concurrency", "per_host")),
    ("is not a number from 0", lambda value: 0 <= value < float("inf"), ("cpus_per_actor", "gpus_per_actor")),
    ("is not within 0..1", lambda value: 0 <= value <= 1, ("threshold",)),
    ("is not a port (0..65535)", lambda value: 0 <= value < 65536, ("port",)),
    ("is not a number of seconds", lambda value: 0 <= value < float("inf"), ("grace", "drain_s")),
    (
        "is not a number above 0",
        lambda value: 0 < value < float("inf"),
        (
            "timeout", "max_requests", "deadline", "max_image_mb", "max_video_mb", "max_multi_files",
            "max_multi_mb", "max_url_count", "max_stream_files", "max_stream_mb", "image_expiry_hours",
            "hosting_mb", "hosting_files", "predictions_mb", "predictions_files", "rate_limit",
            "max_requests_per_caller", "max_bodies_mb",
        ),
    ),
)  # fmt: skip
"""A message, the condition that it is about, and the settings that have to meet it."""


def _faults(settings: Settings, place: Callable[[str], str]) -> Iterator[str]:
    """Yield messages for numbers that are out of range."""
    for name in ("batch_size", "workers"):
        try:
            count_of(getattr(settings, name), place(name))
        except SettingsError as e:
            yield str(e)
    try:
        actors_of(settings.actors, place("actors"))
    except SettingsError as e:
        yield str(e)
    for message, is_met, names in _RANGES:
        for name in names:
            value = getattr(settings, name)
            if value is not None and not is_met(value):
                yield f"{place(name)} {value} {message}"


def count_of(text: str, flag: str) -> int | None:
    """Return a whole number from 1, or None for `auto`.

    Raises:
        SettingsError: for anything else.
    """
    if text == "auto":
        return None
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise SettingsError(f"{flag} {text!r} is neither auto nor a whole number from 1")


def actors_of(text: str | None, flag: str) -> tuple[int, int | None]:
    """Return the least and the largest number of actors; None for as many as there is room for.

    Raises:
        SettingsError: the text is neither N nor MIN:MAX.
    """
    if text is None:
        return 1, None
    least, colon, most = text.partition(":")
    numbers = [
        int(one) if one.isascii() and one.isdigit() else 0 for one in (least, most if colon else least)
    ]
    if 0 < numbers[0] <= numbers[1]:
        return numbers[0], numbers[1]
    raise SettingsError(f"{flag} {text!r} is neither a number from 1 nor MIN:MAX")
