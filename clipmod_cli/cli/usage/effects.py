"""Options that have no effect on these inputs, this policy or these models; see also `settings.effects`.

What can never be right is an error. What depends on the inputs and models that are there is a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from clipmod_cli.assemble import ModelChoice
from clipmod_cli.decode.formats import kind_of
from clipmod_cli.errors import UsageError
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.settings.definition import Settings, flag_of
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.sources.lists import is_table
from clipmod_cli.sources.registry import scheme_of

log = logging.getLogger(__name__)

OF_FOLDERS = ("include", "exclude", "max_depth", "hidden", "follow", "unread")
OF_THRESHOLDS = ("threshold", "sensitivity", "stop_on_hit")
OF_TORCH = ("dtype", "compile")


def check_scan(resolved: Resolved, names: Sequence[str]) -> None:
    """Check the options of `scan` against its sources.

    Raises:
        UsageError: `--null` without a list.
    """
    settings = resolved.settings
    has_list = "-" in names or settings.files_from is not None
    if not has_list and settings.errors_to is None:
        for flag in _given(resolved, ["null"]):
            raise UsageError(f"{flag} has no effect without a list: -, --files-from or --errors-to")
    for flag in _given(resolved, OF_FOLDERS):
        if not has_list and all(map(_is_single_file, names)):
            log.warning("%s has no effect: no folder, archive or list is named", flag)


def check_urls(resolved: Resolved, lists: Sequence[str]) -> None:
    """Check the options of `urls` against its lists.

    Raises:
        UsageError: an option of tables without a table, or of text without text.
    """
    tables = [name for name in lists if is_table(name)]
    if not tables:
        for flag in _given(resolved, ["url_column"]):
            raise UsageError(f"{flag} has no effect without a table (.csv, .tsv, .jsonl, .parquet)")
    if len(tables) == len(lists) and resolved.settings.errors_to is None:
        for flag in _given(resolved, ["null"]):
            raise UsageError(f"{flag} has no effect without a list of lines")


def check_policy(resolved: Resolved, policy: Policy) -> None:
    """Check the options of thresholds against the policy.

    Raises:
        UsageError: they have no effect, since no category is UNSAFE.
    """
    if any(category.safety == "UNSAFE" for category in policy.categories):
        return
    settings = resolved.settings
    cause = (
        "none of the --classes is --unsafe" if settings.classes is not None
        else f"no category of the policy {policy.name} is UNSAFE"
    )  # fmt: skip
    for name in ("fail_on", "only"):
        for kind in {"nsfw", "safe"} & set(getattr(settings, name)):
            raise UsageError(f"{flag_of(name)} {kind}: no result can be of this kind, since {cause}")
    for flag in _given(resolved, OF_THRESHOLDS):
        raise UsageError(f"{flag} has no effect, since {cause}")


def check_models(resolved: Resolved, choice: ModelChoice) -> None:
    """Warn about options that have no effect on these models."""
    if len(choice.members) == 1 and resolved.settings.early_exit != "off":
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
