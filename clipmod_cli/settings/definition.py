"""One definition of every setting: its flag, variable, key in the settings file, and default.

A setting is a field of `Settings`: an option of the command line (`clipmod_cli.cli.options`), the variable
`CLIPMOD_<NAME>`, and a key of the settings file. Values are read in `clipmod_cli.settings.reading`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

ENV_PREFIX = "CLIPMOD_"
Origin: TypeAlias = Literal["flag", "environment", "file", "default"]
Group: TypeAlias = Literal[
    "judging", "output", "sources", "urls", "serve", "machine", "cache", "store", "talk", "secret"
]
Wanted: TypeAlias = Literal["nsfw", "review", "safe", "error"]


@dataclass(frozen=True, slots=True)
class Option:
    """How a setting looks on the command line.

    Attributes:
        help: one clause; the command line appends the default.
        flags: its option names; derived from the field's name if empty.
        metavar: the placeholder of the value in help.
        between: the separator of several values in a variable or in a text of the settings file.
    """

    help: str
    group: Group
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    between: str = ","


def _setting(
    default: Any, group: Group, text: str, *flags: str, metavar: str | None = None, between: str = ","
) -> Any:
    return field(default=default, metadata={"option": Option(text, group, flags, metavar, between)})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting with its resolved value."""

    # pydantic's own, so not a setting; coerce: `workers = 4` in the file
    __pydantic_config__ = {"coerce_numbers_to_str": True}  # noqa: RUF012

    models: tuple[str, ...] = _setting(
        ("auto",), "judging", "auto, ensemble, fallback, nudenet, or model specs with weights; repeatable",
        metavar="SPEC",
    )  # fmt: skip
    policy: str = _setting(
        "female-presence", "judging", "a built-in policy or a TOML file", metavar="NAME|FILE"
    )
    classes: str | None = _setting(
        None, "judging", "use these words as classes instead of a policy", metavar="WORDS"
    )
    unsafe: str | None = _setting(
        None, "judging", "which of the --classes are UNSAFE", metavar="WORDS"
    )  # fmt: skip
    sensitivity: Literal["low", "medium", "high", "ultra"] = _setting(
        "medium", "judging", "which of the policy's NSFW thresholds to use"
    )
    threshold: float | None = _setting(
        None, "judging", "the NSFW threshold, 0..1, instead of a sensitivity", metavar="X"
    )
    allow_partial: bool = _setting(
        False, "judging", "allow models that cannot see all UNSAFE categories (all results need review)"
    )  # fmt: skip
    decode: Literal["fast", "exact"] = _setting(
        "fast", "judging", "scaled decoding, or exactly each model's own transform"
    )
    coverage: str = _setting(
        "full",
        "judging",
        "show the models all of a picture, in several views, or the middle that each model cuts out",
        metavar="full|centre|tiles=N",
    )
    early_exit: Literal["off", "exact"] = _setting(
        "off", "judging", "skip models that can no longer change the outcome"
    )
    frames: str = _setting(
        "auto", "judging", "which frames of a video or animation are scored",
        metavar="auto|key|fps=N|dense|max=N",
    )  # fmt: skip
    stop_on_hit: bool = _setting(
        False, "output", "score nothing more of an input after its first hit, for gates"
    )
    frames_detail: bool = _setting(False, "output", "write the scores of every frame into the record")

    device: str = _setting("auto", "machine", "where models run", metavar="auto|cpu|cuda[:N]|mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _setting(
        "auto", "machine", "precision of the models"
    )
    compile: bool = _setting(
        False, "machine", "compile the vision towers first: takes a minute, up to 20 % faster on a GPU"
    )
    batch_size: str = _setting("auto", "machine", "pictures per forward pass", metavar="N|auto")
    workers: str = _setting("auto", "machine", "number of decoding workers", metavar="N|auto")
    isolate: bool = _setting(
        True, "machine", "decode in worker processes, so that a decoder crash or hang fails one input only"
    )
    offline: bool = _setting(False, "machine", "never download weights or look them up")
    no_cache: bool = _setting(False, "cache", "do not read or write the evidence cache")
    cache_mb: int = _setting(1000, "cache", "largest size of the evidence cache", metavar="MB")

    db: str | None = _setting(
        None, "store", "the DuckDB statistics database (default: in the user data folder)", metavar="FILE"
    )
    no_db: bool = _setting(False, "store", "keep no statistics")
    retention: int | None = _setting(None, "store", "delete statistics older than this", metavar="DAYS")

    config: str | None = _setting(
        None, "talk", "the settings file (default: in the user config folder)", metavar="FILE"
    )
    quiet: bool = _setting(False, "talk", "print errors only", "-q", "--quiet")
    verbose: bool = _setting(False, "talk", "print more, including tracebacks", "-v", "--verbose")
    progress: Literal["auto", "plain", "json", "none"] = _setting(
        "auto", "talk", "how progress is shown on stderr"
    )
    log_file: str | None = _setting(None, "talk", "write a full log to this file", metavar="FILE")
    json: bool = _setting(False, "talk", "write JSON Lines to stdout even on a terminal")

    output: str | None = _setting(
        None, "output", "write records to this file (.jsonl); - is stdout", "-o", "--output", metavar="FILE"
    )
    overwrite: bool = _setting(False, "output", "discard what the output contains")
    resume: Literal["yes", "no", "verify"] = _setting(
        "yes", "output",
        "continue an existing output; --resume=verify compares the hashes of its inputs; "
        "--no-resume refuses an existing output",
        metavar="[=verify]",
    )  # fmt: skip
    only: tuple[Wanted, ...] = _setting(
        (), "output", "write only these to stdout: nsfw, review, safe, error; repeatable", metavar="KIND"
    )
    fail_on: tuple[Wanted, ...] = _setting(
        (),
        "output",
        "exit with 1 if any result is of this kind: nsfw, review, error; repeatable",
        metavar="KIND",
    )
    errors_to: str | None = _setting(
        None,
        "output",
        "write the failed inputs to this file, one a line, ready for --files-from",
        metavar="FILE",
    )

    files_from: str | None = _setting(
        None, "sources", "read a list of paths from this file; - is stdin", metavar="FILE"
    )
    null: bool = _setting(False, "sources", "lists are separated by NUL bytes (find -print0)", "-0", "--null")
    include: tuple[str, ...] = _setting(
        (), "sources", "include only matching files of folders (gitignore syntax); repeatable", metavar="GLOB"
    )
    exclude: tuple[str, ...] = _setting(
        (), "sources", "exclude matching files and folders (gitignore syntax); repeatable", metavar="GLOB"
    )
    max_depth: int | None = _setting(
        None, "sources", "how deep to walk; 1 is a folder's own files", metavar="N"
    )
    hidden: bool = _setting(False, "sources", "include hidden files and folders")
    follow: bool = _setting(False, "sources", "follow symbolic links in folders")
    unread: Literal["record", "skip"] = _setting(
        "record",
        "sources",
        "write an error record for each picture, film and archive of a format that is not read, or count it",
    )
    limit: int | None = _setting(None, "sources", "stop after this many inputs", metavar="N")
    dry_run: bool = _setting(False, "sources", "count the inputs by format and exit", "-n", "--dry-run")

    url_column: str = _setting("url", "urls", "the column of a table that holds the URLs", metavar="NAME")
    concurrency: int = _setting(64, "urls", "concurrent downloads", metavar="N")
    per_host: int = _setting(4, "urls", "concurrent downloads per host", metavar="N")
    timeout: float = _setting(30.0, "urls", "time limit of one download, in seconds", metavar="S")
    retries: int = _setting(2, "urls", "retries after a 429, a 5xx or no connection", metavar="N")
    allow_private: bool = _setting(False, "urls", "allow private and loopback addresses, on any port")
    allow_ports: str | None = _setting(
        None, "urls", "allow these ports besides 80 and 443, for example 8080,8443", metavar="LIST"
    )
    header: tuple[str, ...] = _setting(
        (), "urls", "send 'Name: value' to the URLs' own hosts, not to redirects elsewhere; repeatable",
        metavar="HEADER", between="\n",
    )  # fmt: skip
    save_to: str | None = _setting(
        None, "urls", "keep downloaded files in this folder, named by their SHA-256", metavar="DIR"
    )

    host: str = _setting(
        "127.0.0.1", "serve", "address to listen on; any but loopback needs API keys", metavar="ADDRESS"
    )
    port: int = _setting(8000, "serve", "port to listen on; 0 chooses a free one", metavar="N")
    public_url: str | None = _setting(
        None, "serve", "URL of the service as clients see it, for links in answers", metavar="URL"
    )
    api_keys_file: str | None = _setting(
        None, "serve", "read API keys from this file, one a line (or from CLIPMOD_API_KEYS)", metavar="FILE"
    )
    no_auth: bool = _setting(False, "serve", "disable API-key authentication, even on non-loopback addresses")
    allowed_host: tuple[str, ...] = _setting(
        (), "serve", "host name that requests may use, besides loopback and that of --public-url; "
        "* allows any; repeatable",
        metavar="NAME",
    )  # fmt: skip
    cors_origin: tuple[str, ...] = _setting(
        (),
        "serve",
        "origin whose pages may use the API, for example https://example.org; repeatable",
        metavar="ORIGIN",
    )
    rate_limit: int | None = _setting(
        None, "serve", "requests per minute for each key or address", metavar="N"
    )
    max_requests: int = _setting(64, "serve", "concurrent requests; more are answered 503", metavar="N")
    deadline: float = _setting(
        120.0, "serve", "time limit of a request in seconds, then it is answered 504", metavar="S"
    )
    grace: float = _setting(
        30.0,
        "serve",
        "time for requests in progress to finish when the service stops, in seconds",
        metavar="S",
    )
    unseen: Literal["error", "flag", "safe"] = _setting(
        "error",
        "serve",
        "answer to a picture without a hit of which something was not looked at: an error, NSFW, or Safe",
    )
    max_image_mb: int = _setting(50, "serve", "largest picture", metavar="MB")
    max_video_mb: int = _setting(500, "serve", "largest video", metavar="MB")
    max_multi_files: int = _setting(10, "serve", "most files in a request to /predict/multi", metavar="N")
    max_multi_mb: int = _setting(
        500, "serve", "largest total size of a request to /predict/multi", metavar="MB"
    )
    max_url_count: int = _setting(10, "serve", "most URLs in a request to /predict/urls", metavar="N")
    max_stream_files: int = _setting(
        2500, "serve", "most files in a request to /predict/streaming", metavar="N"
    )
    max_stream_mb: int = _setting(
        1000, "serve", "largest total size of a request to /predict/streaming", metavar="MB"
    )
    no_hosting: bool = _setting(False, "serve", "do not keep pictures for /image/...")
    image_expiry_hours: float = _setting(24.0, "serve", "how long pictures are kept", metavar="H")
    hosting_mb: int = _setting(
        2000, "serve", "largest total size of kept pictures; the oldest are deleted", metavar="MB"
    )
    no_predictions: bool = _setting(False, "serve", "do not write prediction files")
    data_dir: str | None = _setting(
        None,
        "serve",
        "folder of kept pictures and predictions (default: in the user data folder)",
        metavar="DIR",
    )
    heic: bool = _setting(False, "serve", "accept HEIC pictures (needs clipmod[heic])")
    classifier: tuple[str, ...] = _setting(
        (
            "Falconsai/nsfw_image_detection", "LukeJacob2023/nsfw-image-detector",
            "nateraw/vit-age-classifier", "nudenet",
        ),
        "serve", "model that the classifier API offers: OWNER/NAME, a folder, nudenet, "
        "or ALIAS=one of these; repeatable",
        metavar="MODEL",
    )  # fmt: skip
    access_log: bool = _setting(True, "serve", "write a line to stderr for each request")

    api_keys: tuple[str, ...] = _setting((), "secret", "API keys; only in the environment")


def option_of(name: str) -> Option:
    """Return the command-line option of a setting."""
    found: Option = next(f.metadata["option"] for f in fields(Settings) if f.name == name)
    return found


def flag_of(name: str) -> str:
    """Return the long option of a setting, as `--batch-size`."""
    flags = option_of(name).flags
    return flags[-1] if flags else "--" + name.replace("_", "-")
