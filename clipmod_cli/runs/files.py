"""From settings to the rules by which files are inputs."""

from __future__ import annotations

from clipmod_cli.settings.definition import Settings
from clipmod_cli.sources.base import Rules
from clipmod_cli.sources.newer import parse_newer_than


def rules_of(settings: Settings) -> Rules:
    """Return which files in folders and archives are inputs."""
    return Rules(
        include=settings.include,
        exclude=settings.exclude,
        max_depth=settings.max_depth,
        hidden=settings.hidden,
        follow=settings.follow,
        null=settings.null,
        record_unread=settings.unread == "record",
        since_ns=parse_newer_than(settings.newer_than) if settings.newer_than is not None else None,
    )
