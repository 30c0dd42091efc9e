"""Reads the operator's list of models that callers may name. Loads nothing.

OWNER/NAME         on the Hugging Face hub
/PATH, ./PATH, ~   a folder; its name is the folder's
nudenet            the detector
ALIAS=one of these
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from clipmod_cli.errors import SettingsError, SpecError
from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.backends import NUDENET
from clipmod_cli.models.specs import AUTO, parse_models

_FOLDER = ("/", "./", "../", "~")
_ALIAS = re.compile(r"[A-Za-z0-9_.-]{1,96}(/[A-Za-z0-9_.-]{1,96})?")
"""An alias may look like a repository, so that a folder here can stand in for one on the hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedModel:
    """A model, and the name that callers give it."""

    name: str
    spec: ModelSpec


def read_allowed(texts: Iterable[str]) -> dict[str, AllowedModel]:
    """Return the models by name, in the operator's order.

    Raises:
        SettingsError: if an entry is invalid, or a name stands for two models.
    """
    found: dict[str, AllowedModel] = {}
    for text in texts:
        one = _read(text.strip())
        if found.setdefault(one.name, one).spec != one.spec:
            raise SettingsError(f"--classifier: the name {one.name} stands for two models")
    return found


def _read(text: str) -> AllowedModel:
    alias, equals, model = text.partition("=")
    if not equals or text.startswith(_FOLDER):
        spec = _spec(text, text)
        return AllowedModel(name=spec.short_name, spec=spec)
    if not _ALIAS.fullmatch(alias):
        raise SettingsError(f"--classifier {text!r}: {alias!r} is no name (letters, digits and _.-)")
    return AllowedModel(name=alias, spec=_spec(model.strip(), text))


def _spec(model: str, text: str) -> ModelSpec:
    try:
        # with a weight at its end, a path may contain `=` (clipmod_cli.models.specs)
        members = parse_models([f"{model if model == NUDENET else 'hf:' + model.removeprefix('hf:')}=1"])
    except SpecError as e:
        raise _invalid(text, str(e)) from e
    if members == AUTO or len(members) != 1:
        raise _invalid(text, "it names several models")
    return members[0].spec


def _invalid(text: str, reason: str) -> SettingsError:
    return SettingsError(
        f"--classifier {text!r} is none of OWNER/NAME, a folder, nudenet, or ALIAS=one of these: {reason}"
    )
