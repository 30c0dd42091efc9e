"""One definition of every setting: its flag, variable, key in the settings file, and default.

A setting is a field of `Settings`. The command line builds its options from these
fields (`clipmod_cli.cli.options`), the environment reads `CLIPMOD_<NAME>`, the settings
file has a key of the field's name. Where values are read is `clipmod_cli.settings.reading`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

ENV_PREFIX = "CLIPMOD_"
Origin: TypeAlias = Literal["flag", "environment", "file", "default"]
Group: TypeAlias = Literal[
    "judging", "machine", "cache", "store", "talk", "output", "sources", "urls", "serve", "secret"
]
Wanted: TypeAlias = Literal["nsfw", "review", "safe", "error"]


@dataclass(frozen=True, slots=True)
class Option:
    """How a setting looks on the command line.

    Attributes:
        help: one sentence; the default is appended by the command line.
        flags: its option names; derived from the field's name when empty.
        metavar: what stands for the value in help.
        between: what separates several values in one text, as variables and the settings file have it.
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

    models: tuple[str, ...] = _setting(
        ("auto",), "judging", "auto, ensemble, fallback, nudenet, or model specs with weights; repeatable",
        metavar="SPEC",
    )  # fmt: skip
    policy: str = _setting(
        "female-presence", "judging", "a built-in policy or a TOML file", metavar="NAME|FILE"
    )
    classes: str | None = _setting(
        None, "judging", "judge over these words instead of a policy", metavar="WORDS"
    )
    unsafe: str | None = _setting(
        None, "judging", "which of the --classes are UNSAFE", metavar="WORDS"
    )  # fmt: skip
    sensitivity: Literal["low", "medium", "high", "ultra"] = _setting(
        "medium", "judging", "which of the policy's NSFW thresholds holds"
    )
    threshold: float | None = _setting(
        None, "judging", "the NSFW threshold itself, 0..1, in place of the sensitivity's", metavar="X"
    )
    allow_partial: bool = _setting(
        False, "judging", "let a model judge a policy that it cannot wholly see (always needs review)"
    )  # fmt: skip
    decode: Literal["fast", "exact"] = _setting(
        "fast", "judging", "scaled decoding, or each model's own transform to the bit"
    )
    early_exit: Literal["off", "exact"] = _setting(
        "off", "judging", "skip the models that can no longer change the outcome"
    )
    frames: str = _setting(
        "key", "judging", "which frames of an animation are scored", metavar="key|fps=N|dense|max=N"
    )
    frames_detail: bool = _setting(False, "output", "write the scores of every frame into the record")

    device: str = _setting("auto", "machine", "where models run", metavar="auto|cpu|cuda[:N]|mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _setting(
        "auto", "machine", "in what precision models run"
    )
    compile: bool = _setting(
        False, "machine", "compile the vision towers first: a minute, for up to a fifth more on a GPU"
    )
    batch_size: str = _setting("auto", "machine", "pictures in one forward pass", metavar="N|auto")
    workers: str = _setting("auto", "machine", "decoding workers", metavar="N|auto")
    isolate: bool = _setting(
        True, "machine", "decode in worker processes: a decoder that crashes or hangs costs one input"
    )
    offline: bool = _setting(False, "machine", "never touch the network for weights")
    no_cache: bool = _setting(
        False, "cache", "show the models every picture anew, also what an earlier run has seen"
    )
    cache_mb: int = _setting(
        1000, "cache", "how much is kept of what models saw, in the user cache folder", metavar="MB"
    )

    db: str | None = _setting(
        None, "store", "the DuckDB store (default: in the user data folder)", metavar="FILE"
    )
    no_db: bool = _setting(False, "store", "keep no statistics")
    retention: int | None = _setting(None, "store", "let rows older than this go", metavar="DAYS")

    config: str | None = _setting(
        None, "talk", "the settings file (default: in the user config folder)", metavar="FILE"
    )
    quiet: bool = _setting(False, "talk", "say only errors", "-q", "--quiet")
    verbose: bool = _setting(False, "talk", "say more, tracebacks among it", "-v", "--verbose")
    progress: Literal["auto", "plain", "json", "none"] = _setting(
        "auto", "talk", "how progress is shown on stderr"
    )
    log_file: str | None = _setting(None, "talk", "write a full log here", metavar="FILE")
    json: bool = _setting(False, "talk", "JSON Lines on stdout even on a terminal")

    output: str | None = _setting(
        None, "output", "write records here; - is stdout", "-o", "--output", metavar="FILE"
    )
    overwrite: bool = _setting(False, "output", "begin the output anew")
    resume: Literal["yes", "no", "verify"] = _setting(
        "yes", "output",
        "go on where an existing output ends; --resume=verify hashes again what is there; "
        "--no-resume refuses an existing output",
        metavar="[=verify]",
    )  # fmt: skip
    only: tuple[Wanted, ...] = _setting(
        (), "output", "show only these on stdout: nsfw, review, safe, error; repeatable", metavar="KIND"
    )
    fail_on: tuple[Wanted, ...] = _setting(
        (), "output", "exit 1 if something of this kind was found: nsfw, review, error", metavar="KIND"
    )
    errors_to: str | None = _setting(
        None, "output", "write the failed inputs here, one a line, ready for --files-from", metavar="FILE"
    )

    files_from: str | None = _setting(
        None, "sources", "read a list of paths from this file; - is stdin", metavar="FILE"
    )
    null: bool = _setting(False, "sources", "lists are separated by NUL bytes (find -print0)", "-0", "--null")
    include: tuple[str, ...] = _setting(
        (), "sources", "only files in folders that match (gitignore syntax); repeatable", metavar="GLOB"
    )
    exclude: tuple[str, ...] = _setting(
        (), "sources", "no files or folders that match (gitignore syntax); repeatable", metavar="GLOB"
    )
    max_depth: int | None = _setting(
        None, "sources", "how deep to walk; 1 is a folder's own files", metavar="N"
    )
    hidden: bool = _setting(False, "sources", "walk hidden files and folders too")
    follow: bool = _setting(False, "sources", "follow links found in folders")
    limit: int | None = _setting(None, "sources", "stop after this many inputs", metavar="N")
    dry_run: bool = _setting(
        False, "sources", "count what would be judged, by format, and stop", "-n", "--dry-run"
    )

    url_column: str = _setting("url", "urls", "the column of a table that holds the URLs", metavar="NAME")
    concurrency: int = _setting(64, "urls", "downloads at once", metavar="N")
    per_host: int = _setting(4, "urls", "downloads at once from one host", metavar="N")
    timeout: float = _setting(30.0, "urls", "how long one download may take, in seconds", metavar="S")
    retries: int = _setting(2, "urls", "tries after a 429, a 5xx or no connection", metavar="N")
    allow_private: bool = _setting(False, "urls", "ask private and loopback addresses too, on any port")
    allow_ports: str | None = _setting(
        None, "urls", "ask these ports besides 80 and 443, as 8080,8443", metavar="LIST"
    )
    header: tuple[str, ...] = _setting(
        (), "urls", "send 'Name: value' to the URLs' own hosts, not to redirects elsewhere; repeatable",
        metavar="HEADER", between="\n",
    )  # fmt: skip
    save_to: str | None = _setting(
        None, "urls", "keep what was downloaded in this folder, named by its SHA-256", metavar="DIR"
    )

    host: str = _setting(
        "127.0.0.1", "serve", "the address to listen at; any but loopback needs keys", metavar="ADDRESS"
    )
    port: int = _setting(8000, "serve", "the port to listen at; 0 takes a free one", metavar="N")
    public_url: str | None = _setting(
        None, "serve", "how the service is reached from outside, for links in answers", metavar="URL"
    )
    api_keys_file: str | None = _setting(
        None, "serve", "take API keys from this file, one a line (or from CLIPMOD_API_KEYS)", metavar="FILE"
    )
    no_auth: bool = _setting(False, "serve", "ask nobody for a key, at any address")
    allowed_host: tuple[str, ...] = _setting(
        (), "serve", "a name that requests may call this service by, besides loopback and that of "
        "--public-url; * for any; repeatable",
        metavar="NAME",
    )  # fmt: skip
    cors_origin: tuple[str, ...] = _setting(
        (),
        "serve",
        "an origin whose pages may use the API, as https://example.org; repeatable",
        metavar="ORIGIN",
    )
    rate_limit: int | None = _setting(None, "serve", "requests a minute for each key or address", metavar="N")
    max_requests: int = _setting(64, "serve", "requests at once; one more is answered 503", metavar="N")
    deadline: float = _setting(120.0, "serve", "after so many seconds a request is answered 504", metavar="S")
    grace: float = _setting(
        30.0, "serve", "how long what was taken may take when the service is ended", metavar="S"
    )
    max_image_mb: int = _setting(50, "serve", "the largest picture", metavar="MB")
    max_video_mb: int = _setting(500, "serve", "the largest video", metavar="MB")
    max_multi_files: int = _setting(10, "serve", "files in a request to /predict/multi", metavar="N")
    max_multi_mb: int = _setting(500, "serve", "their sum", metavar="MB")
    max_url_count: int = _setting(10, "serve", "URLs in a request to /predict/urls", metavar="N")
    max_stream_files: int = _setting(2500, "serve", "files in a request to /predict/streaming", metavar="N")
    max_stream_mb: int = _setting(1000, "serve", "their sum", metavar="MB")
    no_hosting: bool = _setting(False, "serve", "do not keep pictures for /image/...")
    image_expiry_hours: float = _setting(24.0, "serve", "how long pictures are kept", metavar="H")
    hosting_mb: int = _setting(2000, "serve", "how much they may take together; the oldest go", metavar="MB")
    no_predictions: bool = _setting(False, "serve", "write no prediction files")
    data_dir: str | None = _setting(
        None,
        "serve",
        "where pictures and predictions are kept (default: in the user data folder)",
        metavar="DIR",
    )
    heic: bool = _setting(False, "serve", "take HEIC pictures too (needs clipmod[heic])")
    classifier: tuple[str, ...] = _setting(
        (
            "Falconsai/nsfw_image_detection", "LukeJacob2023/nsfw-image-detector",
            "nateraw/vit-age-classifier", "nudenet",
        ),
        "serve", "a model that callers of the classifier API may name: OWNER/NAME, a folder, nudenet, "
        "or ALIAS=one of these; repeatable",
        metavar="MODEL",
    )  # fmt: skip
    access_log: bool = _setting(True, "serve", "write a line on stderr for each request")

    api_keys: tuple[str, ...] = _setting((), "secret", "API keys; only in the environment")


def option_of(name: str) -> Option:
    """Return how the setting of this name looks on the command line."""
    found: Option = next(f.metadata["option"] for f in fields(Settings) if f.name == name)
    return found


def flag_of(name: str) -> str:
    """Return the long option of a setting, as `--batch-size`."""
    flags = option_of(name).flags
    return flags[-1] if flags else "--" + name.replace("_", "-")
