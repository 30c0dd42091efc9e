"""Logging: messages on stderr, and all of them in `--log-file`."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clipmod_cli.errors import OutputError
from clipmod_cli.settings.reading import NO_DEFAULTS, resolve

if TYPE_CHECKING:
    from clipmod_cli.settings.reading import Resolved

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
ROOT = "clipmod_cli"

log = logging.getLogger(__name__)


class _ShortFormatter(logging.Formatter):
    """Formats as `clipmod: message`."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        text = f"clipmod: {prefix}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _set_up_logs(*, quiet: bool, verbose: bool, log_file: str | None) -> None:
    """Send clipmod's own log to stderr, and everything to `log_file`."""
    # warnings of libraries concern their callers, not users of this command
    logging.captureWarnings(capture=True)
    warnings.simplefilter("default")
    own = logging.getLogger(ROOT)
    own.handlers.clear()
    own.setLevel(logging.DEBUG)
    own.propagate = True
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(_ShortFormatter())
    terminal.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING)
    own.addHandler(terminal)
    logging.getLogger().handlers = [_file_handler(log_file)] if log_file else [logging.NullHandler()]


def resolve_settings(
    flags: Mapping[str, Any], inputs: Sequence[str] = (), defaults: Mapping[str, Any] = NO_DEFAULTS
) -> Resolved:
    """Return the settings of a run whose command line names `inputs`; sets up its logs.

    `defaults` are those of its command that differ.

    Raises:
        SettingsError: if a setting is invalid.
        UsageError: if an output is an input or another output.
        OutputError: if the log file cannot be opened.
    """
    from clipmod_cli.cli.output_paths import check_output_paths

    resolved = resolve(flags, defaults)
    settings = resolved.settings
    listed = [settings.files_from] if settings.files_from else []
    listed += [text.partition(":")[2] for text in settings.bank]
    check_output_paths(settings, [*inputs, *listed])
    _set_up_logs(quiet=settings.quiet, verbose=settings.verbose, log_file=settings.log_file)
    for warning in resolved.warnings:
        log.warning("%s", warning)
    return resolved


def _file_handler(path: str) -> logging.Handler:
    try:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as e:
        raise OutputError(f"cannot write the log {path}: {e.strerror}") from e
    handler.setFormatter(logging.Formatter(FORMAT))
    return handler
