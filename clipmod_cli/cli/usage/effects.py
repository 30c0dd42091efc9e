"""Checks before models are loaded: wrong inputs, and options without effect on these inputs, policy, models.

What can never be right is an error. What depends on the inputs and models that are there is a warning. See
also `settings.effects`.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from clipmod_cli.assemble import decoding_options
from clipmod_cli.cli.terminal.stdout import plain
from clipmod_cli.decode.formats import HEAD_BYTES, kind_of, sniff
from clipmod_cli.errors import SettingsError, UsageError
from clipmod_cli.judge.choice import ModelChoice
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.models.device.names import check_device_name
from clipmod_cli.output.jsonl import is_regular
from clipmod_cli.settings.definition import Settings, flag_of
from clipmod_cli.settings.effects import has_file
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.sources.lists import is_table
from clipmod_cli.sources.registry import SOURCES, scheme_of

log = logging.getLogger(__name__)

OF_FOLDERS = ("include", "exclude", "max_depth", "hidden", "follow", "newer_than", "unread")
OF_THRESHOLDS = ("threshold", "sensitivity", "stop_on_hit")
LEAST_RISK, MOST_RISK = 0.00001, 0.1
LISTS = (".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
OF_TORCH = ("dtype", "compile")


def check_values(settings: Settings) -> None:
    """Check values whose grammar is not in the settings, before a policy is read or a model is loaded.

    Raises:
        SettingsError: one is invalid.
    """
    check_device_name(settings.device)
    decoding_options(settings)
    if not LEAST_RISK <= settings.risk <= MOST_RISK:
        raise SettingsError(f"--risk is {settings.risk:g}; it must be from {LEAST_RISK:g} to {MOST_RISK:g}")
    if settings.early_exit == "calibrated" and not (has_file(settings) and _is_regular(settings.output)):
        raise SettingsError(
            "--early-exit calibrated needs -o FILE, a regular file: what it learns and corrects is kept there"
        )


def _is_regular(output: str | None) -> bool:
    return output is not None and is_regular(Path(output).expanduser())


def check_scan(resolved: Resolved, names: Sequence[str]) -> None:
    """Check the sources of `scan`, and its options against them.

    Raises:
        UsageError: a source is a URL that `scan` does not read, `--null` has no list, or `--newer-than` no
            times.
    """
    settings = resolved.settings
    for name in names:
        _check_source(name)
    has_list = "-" in names or settings.files_from is not None
    if not has_list and settings.errors_to is None:
        for flag in _given(resolved, ["null"]):
            raise UsageError(f"{flag} has no effect without a list: -, --files-from or --errors-to")
    if settings.newer_than is not None:
        for name in (name for name in names if scheme_of(name) == "hf"):
            raise UsageError(
                f"--newer-than cannot be used with {plain(name)}: the hub lists no modification times"
            )
    for flag in _given(resolved, OF_FOLDERS):
        if not has_list and all(map(_is_single_file, names)):
            log.warning("%s has no effect: no folder, archive or list is named", flag)


def _check_source(name: str) -> None:
    """Refuse a URL that is no source; warn of a list that is named like a picture."""
    scheme, colon, rest = name.partition(":")
    if os.path.exists(name) or scheme_of(name):  # noqa: PTH110 — also false for a name that no file can have
        if not scheme_of(name) and Path(name).suffix.lower() in LISTS:
            quoted = shlex.quote(plain(name))
            log.warning(
                "%s is named as a picture. As a list of URLs: clipmod urls %s, of paths: clipmod scan "
                "--files-from %s",
                plain(name), quoted, quoted,
            )  # fmt: skip
        return
    if colon and scheme in SOURCES and scheme:
        raise UsageError(f"{plain(name)} does not exist. Did you mean {scheme}://{plain(rest.lstrip('/'))}?")
    if name.lower().startswith(("http://", "https://")):
        raise UsageError(
            f"{plain(name)} is a URL, and scan judges files. For a URL: "
            f"echo {shlex.quote(plain(name))} | clipmod urls -"
        )
    if colon and rest.startswith("//"):
        known = ", ".join(f"{known}://" for known in SOURCES if known)
        raise UsageError(f"scan does not read {plain(scheme)}://, but files, folders, {known}")


def check_urls(resolved: Resolved, lists: Sequence[str]) -> None:
    """Check the lists of `urls`, and its options against them.

    Raises:
        UsageError: a list is a picture, or an option of tables or of text has none.
    """
    for name in lists:
        _check_list(name)
    tables = [name for name in lists if is_table(name)]
    if not tables:
        for flag in _given(resolved, ["url_column"]):
            raise UsageError(f"{flag} has no effect without a table (.csv, .tsv, .jsonl, .parquet)")
    if len(tables) == len(lists) and resolved.settings.errors_to is None:
        for flag in _given(resolved, ["null"]):
            raise UsageError(f"{flag} has no effect without a list of lines")


def _check_list(name: str) -> None:
    if name == "-" or is_table(name) or not Path(name).is_file():
        return
    with Path(name).open("rb") as file:
        known = sniff(file.read(HEAD_BYTES))
    if known is not None:
        what = f"{plain(name)} is {known.name}, not a list of URLs"
        raise UsageError(f"{what}. To judge it: clipmod scan {shlex.quote(name)}")


def check_policy(resolved: Resolved, policy: Policy) -> None:
    """Check the options of thresholds against the policy; warn of one that ends a tuned policy's promise.

    Raises:
        UsageError: they have no effect, since no category is UNSAFE.
    """
    settings = resolved.settings
    if policy.tuned and policy.tuned.threshold_of(None) is not None and settings.threshold is not None:
        log.warning("--threshold takes the place of the tuned one, and %s promises nothing", policy.name)
    if any(category.safety == "UNSAFE" for category in policy.categories):
        return
    cause = (
        "none of the --classes is --unsafe" if settings.classes is not None
        else f"no category of the policy {policy.name} is UNSAFE"
    )  # fmt: skip
    asked = () if settings.bank else ("fail_on", "only")  # banks decide, whatever the policy
    for name in (name for name in asked if resolved.origins[name] == "flag"):
        for kind in {"nsfw", "safe"} & set(getattr(settings, name)):
            raise UsageError(f"{flag_of(name)} {kind}: no result can be of this kind, since {cause}")
    for flag in _given(resolved, OF_THRESHOLDS):
        raise UsageError(f"{flag} has no effect, since {cause}")


def check_models(resolved: Resolved, choice: ModelChoice) -> None:
    """Warn about options that have no effect on these models."""
    settings = resolved.settings
    if len(choice.members) == 1 and settings.early_exit != "off" and settings.screen == "none":
        for flag in _given(resolved, ["early_exit"]):
            log.warning("%s has no effect: %s judges alone", flag, choice.names[0])
    if not any(member.spec.backend.uses_torch for member in choice.members):
        for flag in _given(resolved, OF_TORCH):
            log.warning("%s has no effect on %s", flag, ", ".join(choice.names))


def _given(resolved: Resolved, names: Iterable[str]) -> Iterator[str]:
    """Yield the flags of those settings that the command line gives a value that is not the default."""
    default = Settings()
    for name in names:
        value = getattr(resolved.settings, name)
        if resolved.origins[name] == "flag" and value != getattr(default, name):
            yield flag_of(name)


def _is_single_file(name: str) -> bool:
    return not scheme_of(name) and Path(name).is_file() and kind_of(b"", name) != "archive"
