"""What clipmod raises on purpose, and the closed list of codes an item can fail with.

The tree, with the exit code of the command line and the status of the HTTP interface:

    ClipmodError                     exit  HTTP
    ├── UsageError                      2   400   wrong call, nothing was judged
    │   ├── SettingsError               2   500   a flag, variable or settings file is wrong
    │   ├── PolicyError                 2   400   a policy cannot be read or is inconsistent
    │   ├── SpecError                   2   400   a model spec cannot be understood
    │   ├── BlindModelError             2   400   a model cannot see what the policy forbids
    │   └── OutputMismatchError         2   409   the output belongs to another run or program
    ├── MissingError                    4   503   something has to be installed or downloaded
    │   ├── MissingModelError           4   503   weights that are not on this machine
    │   └── MissingPackageError         4   503   an optional package
    ├── OutputError                     5   507   a record or file cannot be written
    ├── DeviceLostError                70   503   a GPU answers nothing any more in this process
    └── ItemError                       -     -   one input cannot be judged; becomes a Failure

An `ItemError` never leaves the stage that met it: the stage turns it into a
`clipmod_cli.types.Failure`. Everything else ends the run. What is not in this
tree is a bug (exit 70, status 500).
"""

from __future__ import annotations

from typing import Final, Literal, get_args

ErrorCode = Literal[
    "not_found",
    "permission_denied",
    "read_error",
    "not_a_regular_file",
    "empty_file",
    "file_too_large",
    "unsupported_format",
    "decode_error",
    "too_many_pixels",
    "decode_timeout",
    "decode_crash",
    "archive_error",
    "archive_limit",
    "video_error",
    "encrypted",
    "invalid_url",
    "blocked_address",
    "dns_error",
    "connect_error",
    "tls_error",
    "http_error",
    "timeout",
    "download_too_large",
    "not_an_image",
    "too_many_redirects",
    "model_error",
    "non_finite_score",
    "out_of_memory",
    "deadline",
    "internal_error",
]
ERROR_CODES: Final = frozenset(get_args(ErrorCode))

RETRYABLE_CODES: Final[frozenset[ErrorCode]] = frozenset(
    {
        "read_error",
        "decode_timeout",
        "dns_error",
        "connect_error",
        "timeout",
        "out_of_memory",
        "deadline",
        "internal_error",
    }
)
RETRYABLE_HTTP_STATUS: Final = frozenset({408, 425, 429, *range(500, 600)})


def is_retryable(code: ErrorCode, http_status: int | None = None) -> bool:
    """Return whether the same input may well succeed when it is tried again."""
    if code == "http_error":
        return http_status in RETRYABLE_HTTP_STATUS
    return code in RETRYABLE_CODES


class ClipmodError(Exception):
    """Anything that clipmod raises on purpose and that ends a run."""

    exit_code = 70
    http_status = 500


class UsageError(ClipmodError):
    """The call cannot be carried out as it was made."""

    exit_code = 2
    http_status = 400


class SettingsError(UsageError):
    """A flag, an environment variable or a line of the settings file is wrong."""

    http_status = 500


class PolicyError(UsageError):
    """A policy cannot be read, or says something inconsistent."""


class SpecError(UsageError):
    """A model spec cannot be understood."""


class BlindModelError(UsageError):
    """A model cannot see an UNSAFE category of the policy."""


class OutputMismatchError(UsageError):
    """The output that exists was written by another run or another program."""

    http_status = 409


class MissingError(ClipmodError):
    """Something that one command would bring is not on this machine."""

    exit_code = 4
    http_status = 503


class MissingModelError(MissingError):
    """Weights are neither on this machine nor can they be had now."""


class MissingPackageError(MissingError):
    """An optional package is not installed."""


class OutputError(ClipmodError):
    """A record or another file cannot be written."""

    exit_code = 5
    http_status = 507


class DeviceLostError(ClipmodError):
    """A device failed and answers nothing more in this process; nothing that follows could be judged."""

    http_status = 503


class ItemError(ClipmodError):
    """One input cannot be judged; carries the code its record will show."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        """Keep the code beside the sentence for a person."""
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message
