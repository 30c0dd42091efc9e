"""What is said beside the records: always on stderr, and in full in `--log-file`."""

from __future__ import annotations

import logging
import sys
import warnings

from clipmod_cli.errors import OutputError

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
ROOT = "clipmod_cli"


class _Short(logging.Formatter):
    """`clipmod: message` for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        text = f"clipmod: {prefix}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def set_up_logs(*, quiet: bool, verbose: bool, log_file: str | None) -> None:
    """Send clipmod's own log to stderr, and everything to `log_file`.

    Raises:
        OutputError: if the log file cannot be opened.
    """
    # Libraries' warnings concern their callers, not the people who use this command.
    logging.captureWarnings(capture=True)
    warnings.simplefilter("default")
    own = logging.getLogger(ROOT)
    own.handlers.clear()
    own.setLevel(logging.DEBUG)
    own.propagate = True
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(_Short())
    shown.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING)
    own.addHandler(shown)
    logging.getLogger().handlers = [_file_handler(log_file)] if log_file else [logging.NullHandler()]


def _file_handler(path: str) -> logging.Handler:
    try:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as e:
        raise OutputError(f"cannot write the log {path}: {e.strerror}") from e
    handler.setFormatter(logging.Formatter(FORMAT))
    return handler
