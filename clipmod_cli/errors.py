"""Exit codes, exceptions and the error codes of an item. Docs (docs/errors.md) are generated from here.

The exceptions, with the exit code of the command line and the status of the HTTP interface:

    ClipmodError                     exit  HTTP
    ├── UsageError                      2   400   wrong call, nothing was judged
    │   ├── SettingsError               2   500   a flag, variable or settings file is wrong
    │   ├── PolicyError                 2   400   a policy cannot be read or is inconsistent
    │   ├── BankError                   2   500   a bank of hashes is broken, unreadable or empty
    │   ├── SpecError                   2   400   a model spec cannot be parsed
    │   ├── BlindModelError             2   400   a model cannot see an UNSAFE category
    │   ├── EvidenceError               2   409   a folder of evidence is damaged, or holds something else
    │   └── OutputMismatchError         2   409   the output belongs to another run or program
    ├── MissingError                    4   503   something has to be installed or downloaded
    │   ├── MissingModelError           4   503   weights that are not on this machine
    │   └── MissingPackageError         4   503   an optional package
    ├── OutputError                     5   507   a record or file cannot be written
    ├── DeviceLostError                70   503   a GPU stopped answering in this process
    └── ItemError                       -     -   one input cannot be judged; becomes a Failure

A stage turns its `ItemError` into a `clipmod_cli.types.Failure`; every other exception ends the
run. An exception outside this tree is a bug (exit 70, status 500).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal, Self


class ExitCode(IntEnum):
    """How the command ended. Where several apply, the first in this order wins."""

    meaning: str

    def __new__(cls, value: int, meaning: str = "") -> Self:
        """Keep what it means beside the number."""
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    SIGINT = 130, "stopped by Ctrl-C (SIGINT)"
    SIGTERM = 143, "stopped by SIGTERM"
    SIGHUP = 129, "stopped by SIGHUP: the terminal was closed"
    CLOSED_PIPE = 141, "the reader of stdout closed the pipe"
    BUG = 70, "a bug; the message says where to report it"
    OUTPUT = 5, "an output cannot be written: disk full, no permission, locked by another process"
    MISSING = 4, "a model or an optional package is missing; the message names the command that installs it"
    USAGE = 2, "wrong usage, settings, policy or model, or the output belongs to another run"
    NOTHING_JUDGED = 6, "there were inputs or media, and none could be judged or all was skipped"
    FOUND = 1, "an input of a kind of --fail-on was found, or a test of `clipmod policies test` failed"
    SOME_FAILED = 3, "finished, but some inputs could not be judged, moved or given back"
    OK = 0, "every input was judged"

    @classmethod
    def of_signal(cls, number: int) -> ExitCode:
        """Return 128 + the signal's number, as shells report it."""
        return cls(128 + number)

    @classmethod
    def first(cls, *codes: ExitCode) -> ExitCode:
        """Return the code that takes precedence."""
        order = list(cls)
        return min(codes, key=order.index)


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
    "worker_lost",
    "internal_error",
]
"""Why an input could not be judged."""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What an error code means.

    Attributes:
        cause: what happened.
        fix: what the user can do.
        retryable: the same input may be judged when it is tried again.
        http_status: of the answer to a request that fails with it.
        cured_by: how abilities begin that may cure it, as `decoder:`; a run that has a new one tries the
            input again.
    """

    cause: str
    fix: str
    retryable: bool = False
    http_status: int = 400
    cured_by: tuple[str, ...] = ()


ERROR_CODES: Final[dict[ErrorCode, ErrorInfo]] = {
    "not_found": ErrorInfo("No file or object of this name exists.", "Check the path."),
    "permission_denied": ErrorInfo(
        "The file or object may not be read.", "Grant read access to the user that runs clipmod."
    ),
    "read_error": ErrorInfo(
        "Reading failed: a disk, a network file system or an object store.",
        "Run again; if it persists, check the disk or the mount.",
        retryable=True,
    ),
    "not_a_regular_file": ErrorInfo(
        "The path is a device, a socket or a named pipe.", "Name a regular file or a folder."
    ),
    "empty_file": ErrorInfo("The file has no bytes.", "Upload or copy the file again."),
    "file_too_large": ErrorInfo(
        "The file is larger than the limit for its kind.", "Shrink it.", http_status=413
    ),
    "unsupported_format": ErrorInfo(
        "The bytes are of no accepted image, video or archive format, whatever the name says. In folders and"
        " archives only media of formats that are not read gets it (`--unread skip` counts it).",
        "Convert or unpack it; `clipmod doctor` lists the decoders and how to install the optional ones.",
        cured_by=("decoder:",),
    ),
    "decode_error": ErrorInfo(
        "The picture is damaged and cannot be decoded.", "Restore the file from its source."
    ),
    "too_many_pixels": ErrorInfo(
        "The picture has more pixels than the limit.", "Shrink it.", http_status=413
    ),
    "decode_timeout": ErrorInfo(
        "Decoding took longer than the limit.",
        "Run again with fewer --workers, or convert the file.",
        retryable=True,
        http_status=504,
    ),
    "decode_crash": ErrorInfo(
        "The decoder crashed or exceeded its memory limit; other inputs are not affected.",
        "Convert the file; report it if it opens elsewhere.",
        http_status=500,
    ),
    "archive_error": ErrorInfo(
        "The archive is damaged, or programs read it differently: entries that its directory does not list,"
        " headers that disagree, data after its end.",
        "Repack it.",
    ),
    "archive_limit": ErrorInfo(
        "The archive exceeds a limit: entries, size, compression ratio, depth, or overlapping entries.",
        "Unpack it and scan the folder.",
        http_status=413,
    ),
    "video_error": ErrorInfo(
        "The video cannot be opened, or a frame that had to be judged could not be decoded.",
        "Re-encode it, for example with ffmpeg.",
    ),
    "encrypted": ErrorInfo("The archive or its member is encrypted.", "Decrypt it first."),
    "invalid_url": ErrorInfo(
        "The URL is malformed, is not http(s), or has a user name or password in it.", "Correct the URL."
    ),
    "blocked_address": ErrorInfo(
        "The address is not public, the port is not allowed, or a redirect leaves https for http.",
        "If you trust the host: --allow-host HOST:PORT, or in `urls` --allow-private or --allow-ports.",
        cured_by=("private", "port:", "host:"),
    ),
    "dns_error": ErrorInfo(
        "The host name could not be resolved.", "Check the name and the DNS; run again.", retryable=True
    ),
    "connect_error": ErrorInfo("No connection to the host, or it broke off.", "Run again.", retryable=True),
    "tls_error": ErrorInfo(
        "The host's TLS certificate is invalid, or the handshake failed.",
        "Have the host's certificate renewed.",
    ),
    "http_error": ErrorInfo(
        "The host answered with an error; `http_status` in the record is its status.",
        "For 401 or 403 add a --header; for 408, 425, 429 and 5xx run again later.",
        cured_by=("header:",),
    ),
    "timeout": ErrorInfo(
        "The download took longer than --timeout.", "Run again, or raise --timeout.", retryable=True
    ),
    "download_too_large": ErrorInfo(
        "The body is larger than the limit.", "Download it yourself and scan the file.", http_status=413
    ),
    "not_an_image": ErrorInfo(
        "The body is of no accepted image, video or archive format, often an HTML page.",
        "Give the URL of the file itself.",
        cured_by=("decoder:",),
    ),
    "too_many_redirects": ErrorInfo("More redirects than the limit.", "Give the final URL."),
    "model_error": ErrorInfo(
        "A model failed on this input alone.", "Report it with the log.", http_status=500
    ),
    "non_finite_score": ErrorInfo(
        "A model returned NaN or infinity.", "Run again with --dtype float32.", http_status=500
    ),
    "out_of_memory": ErrorInfo(
        "The device has too little memory even for this input alone.",
        "Free memory on the device, or use smaller models.",
        retryable=True,
        http_status=503,
    ),
    "deadline": ErrorInfo(
        "The request's time was over before a model saw it.",
        "Send it again when the service is less busy.",
        retryable=True,
        http_status=504,
    ),
    "worker_lost": ErrorInfo(
        "Two processes of a run in parts ended while they judged this input alone.",
        "Look at their logs, often for memory; judge it again with `--retry worker_lost`.",
        retryable=True,
        http_status=500,
    ),
    "internal_error": ErrorInfo(
        "A bug in clipmod.", "Run again; report it with the log.", retryable=True, http_status=500
    ),
}

RETRYABLE_HTTP_STATUS: Final = frozenset({408, 425, 429, *range(500, 600)})


def is_retryable(code: ErrorCode, http_status: int | None = None) -> bool:
    """Return whether the same input may be judged when it is tried again."""
    if code == "http_error":
        return http_status in RETRYABLE_HTTP_STATUS
    return ERROR_CODES[code].retryable


class ClipmodError(Exception):
    """An error that ends a run."""

    exit_code: ExitCode = ExitCode.BUG
    http_status = 500


class UsageError(ClipmodError):
    """The call cannot be carried out as it was made."""

    exit_code = ExitCode.USAGE
    http_status = 400


class SettingsError(UsageError):
    """A flag, an environment variable or a line of the settings file is wrong."""

    http_status = 500


class PolicyError(UsageError):
    """A policy cannot be read, or is inconsistent."""


class BankError(UsageError):
    """A bank of hashes cannot be read, is broken or is empty."""

    http_status = 500


class SpecError(UsageError):
    """A model spec cannot be parsed."""


class BlindModelError(UsageError):
    """A model cannot see an UNSAFE category of the policy."""


class EvidenceError(UsageError):
    """A folder of evidence is damaged or incomplete, or holds something else."""

    http_status = 409


class OutputMismatchError(UsageError):
    """The existing output was written by another run or another program."""

    http_status = 409


class MissingError(ClipmodError):
    """Something has to be installed or downloaded first."""

    exit_code = ExitCode.MISSING
    http_status = 503


class MissingModelError(MissingError):
    """Weights are not on this machine and cannot be downloaded now."""


class MissingPackageError(MissingError):
    """An optional package is not installed."""


class OutputError(ClipmodError):
    """A record or another file cannot be written."""

    exit_code = ExitCode.OUTPUT
    http_status = 507


class DeviceLostError(ClipmodError):
    """A device failed and cannot be used again in this process."""

    http_status = 503


class ItemError(ClipmodError):
    """One input cannot be judged.

    Attributes:
        code: of its record.
        message: for a person.
        status: of the HTTP answer, for `http_error`.
    """

    def __init__(self, code: ErrorCode, message: str, *, status: int | None = None) -> None:
        """Keep the code and the status beside the message."""
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message
        self.status = status


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its causes and contexts, and the members of groups, each once, breadth first."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        waiting += [e for e in (one.__cause__, one.__context__) if e is not None]


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return ` (did you mean "..."?)`, or nothing where no known word is close."""
    from difflib import get_close_matches

    close = get_close_matches(word, sorted(known), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""
