"""One definition of every setting: its flag, variable, key in the settings file, and default.

A setting is a field of `Settings`: an option of the command line (`clipmod_cli.cli.options`), the variable
`CLIPMOD_<NAME>`, and a key of the settings file. Values are read in `clipmod_cli.settings.reading`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from clipmod_cli.errors import ErrorCode

ENV_PREFIX = "CLIPMOD_"
Origin: TypeAlias = Literal["flag", "environment", "file", "default"]
Group: TypeAlias = Literal[
    "sources", "urls", "downloads", "judging", "serve", "access", "limits", "hosting", "output", "parts",
    "machine", "cache", "store", "talk", "secret",
]  # fmt: skip
"""Which settings a command takes together; in the order of help."""

Wanted: TypeAlias = Literal["nsfw", "review", "safe", "error"]
Retried: TypeAlias = Literal["errors", ErrorCode]
FailOn: TypeAlias = Literal["nsfw", "review", "error", "new-nsfw"]

DEFAULT_POLICY = "nsfw"
SERVE_DEFAULTS: Mapping[str, Any] = MappingProxyType({"policy": "female-presence"})
"""Defaults of `clipmod serve` that differ: its clients expect the categories of the documented service."""


@dataclass(frozen=True, slots=True)
class Option:
    """How a setting looks on the command line.

    Attributes:
        help: one clause of about 50 characters, so that it fits a line; the default is appended.
        flags: its option names; derived from the field's name if empty.
        metavar: the placeholder of the value in help; the values themselves if None.
        between: the separator of several values in a variable or in a text of the settings file.
        rare: listed by `--help-all` alone.
    """

    help: str
    group: Group
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    between: str = ","
    rare: bool = False


def _setting(
    default: Any,
    group: Group,
    text: str,
    *flags: str,
    metavar: str | None = None,
    between: str = ",",
    rare: bool = False,
) -> Any:
    return field(default=default, metadata={"option": Option(text, group, flags, metavar, between, rare)})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting with its resolved value."""

    # pydantic's own, so not a setting; coerce: `workers = 4` in the file
    __pydantic_config__ = {"coerce_numbers_to_str": True}  # noqa: RUF012

    models: tuple[str, ...] = _setting(
        ("auto",), "judging",
        "auto, ensemble, fallback, open_nsfw, owen-s, nudenet, onnx:PATH, or others, with weights",
        metavar="SPEC",
    )  # fmt: skip
    policy: str = _setting(DEFAULT_POLICY, "judging", "a built-in policy or a TOML file", metavar="NAME|FILE")
    classes: str | None = _setting(
        None, "judging", "your own classes instead of a policy, as 'cat, dog'", metavar="WORDS"
    )
    unsafe: str | None = _setting(None, "judging", "which of the --classes are UNSAFE", metavar="WORDS")
    sensitivity: Literal["low", "medium", "high", "ultra"] = _setting(
        "medium", "judging", "which threshold: low, medium, high, ultra", metavar="LEVEL"
    )
    threshold: float | None = _setting(None, "judging", "the NSFW threshold itself, 0..1", metavar="X")
    bank: tuple[str, ...] = _setting(
        (), "judging", "known: NSFW (deny:FILE[:BITS]) or Safe (allow:FILE)",
        metavar="KIND:FILE",
    )  # fmt: skip
    allow_partial: bool = _setting(
        False, "judging", "allow models that cannot see all UNSAFE categories (all results need review)",
        rare=True,
    )  # fmt: skip
    decode: Literal["fast", "exact"] = _setting(
        "fast", "judging", "scaled decoding, or exactly each model's own transform", rare=True
    )
    coverage: str = _setting(
        "full", "judging",
        "full, centre, tiles=N: show the models all of a picture, in several views, or the middle that each "
        "model cuts out",
        metavar="HOW", rare=True,
    )  # fmt: skip
    early_exit: Literal["off", "exact", "calibrated"] = _setting(
        "off", "judging", "skip models whose scores are not needed"
    )
    risk: float = _setting(
        0.001, "judging", "share of pictures that --early-exit calibrated may wrongly call Safe",
        metavar="X", rare=True,
    )  # fmt: skip
    screen: str = _setting(
        "none", "judging", "models after which safe pictures may exit early: none, auto, or a model",
        metavar="SPEC", rare=True,
    )  # fmt: skip
    frames: str = _setting("auto", "judging", "of videos: auto, key, fps=N, dense, max=N", metavar="WHICH")

    device: str = _setting("auto", "machine", "auto, cpu, cuda[:N], mps", metavar="NAME")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _setting(
        "auto",
        "machine",
        "precision of the models: auto, float32, bfloat16, float16",
        metavar="TYPE",
        rare=True,
    )
    compile: bool = _setting(
        False,
        "machine",
        "compile the vision towers first: takes a minute, up to 20 % faster on a GPU",
        rare=True,
    )
    batch_size: str = _setting("auto", "machine", "pictures in one forward pass", metavar="N|auto")
    workers: str = _setting("auto", "machine", "number of decoding workers", metavar="N|auto")
    isolate: bool = _setting(
        True, "machine", "decode in worker processes, so that a decoder crash or hang fails one input only",
        rare=True,
    )  # fmt: skip
    offline: bool = _setting(False, "machine", "never download weights or look them up")
    no_cache: bool = _setting(False, "cache", "do not read or write the evidence cache")
    cache_mb: int = _setting(1000, "cache", "largest size of the evidence cache", metavar="MB", rare=True)

    db: str | None = _setting(None, "store", "statistics [in the user data folder]", metavar="FILE")
    no_db: bool = _setting(False, "store", "keep no statistics")
    retention: int | None = _setting(
        None, "store", "delete statistics and cached evidence older than this", metavar="DAYS", rare=True
    )

    quiet: bool = _setting(False, "talk", "print errors only", "-q", "--quiet")
    verbose: bool = _setting(False, "talk", "print more, including tracebacks", "-v", "--verbose")
    progress: Literal["auto", "plain", "json", "none"] = _setting(
        "auto", "talk", "auto, plain, json, none", metavar="HOW"
    )
    log_file: str | None = _setting(None, "talk", "write a full log to this file", metavar="FILE")
    config: str | None = _setting(None, "talk", "settings file [in the user config folder]", metavar="FILE")

    output: str | None = _setting(
        None, "output", "write to this file, or parts to FOLDER/; - is stdout",
        "-o", "--output", metavar="FILE",
    )  # fmt: skip
    overwrite: bool = _setting(False, "output", "discard what the output contains")
    resume: Literal["yes", "no", "verify"] = _setting(
        "yes", "output",
        "continue an output; verify hashes its inputs again; --no-resume refuses an existing one",
        metavar="[=verify]",
    )  # fmt: skip
    retry: tuple[Retried, ...] = _setting(
        (), "output", "judge failed inputs again: errors, or one error code", metavar="errors|CODE"
    )
    prune: Literal["no", "yes", "all"] = _setting(
        "no", "output", "move records of gone files to OUT.gone.jsonl", metavar="[=all]"
    )
    record: Literal["full", "compact"] = _setting("full", "output", "full, or compact: what decisions need")
    only: tuple[Wanted, ...] = _setting(
        (), "output", "only these on stdout: nsfw, review, safe, error", metavar="KIND"
    )
    fail_on: tuple[FailOn, ...] = _setting(
        (), "output", "exit with 1 on nsfw, review, error, new-nsfw", metavar="KIND"
    )
    errors_to: str | None = _setting(
        None, "output", "write the failed inputs here, for --files-from", metavar="FILE"
    )
    stop_on_hit: bool = _setting(False, "output", "end an input at its first hit, for gates")
    evidence: str | None = _setting(
        None, "output", "store what the models saw here, for `clipmod rescore`", metavar="DIR"
    )
    frames_detail: bool = _setting(False, "output", "write the scores of every frame", rare=True)
    json: bool = _setting(False, "output", "JSON Lines on stdout even on a terminal")

    shard: str | None = _setting(
        None, "parts", "judge the parts of one of N processes; /N: an array job tells I", metavar="I/N",
        rare=True,
    )  # fmt: skip
    plan_only: bool = _setting(False, "parts", "list the inputs, plan their parts and exit", rare=True)
    extend: bool = _setting(False, "parts", "plan what is new or changed since the plan", rare=True)
    part_size: int = _setting(2000, "parts", "inputs in a part", metavar="N", rare=True)
    format: Literal["parquet", "jsonl"] = _setting(
        "parquet", "parts", "of the files of parts: parquet, jsonl", metavar="NAME", rare=True
    )

    engine: Literal["none", "ray"] = _setting(
        "none", "parts", "judge the parts of -o FOLDER/ on a cluster: none, ray", metavar="NAME", rare=True
    )
    address: str | None = _setting(
        None, "parts", "auto or HOST:PORT of the cluster [one on this machine, for this run]",
        metavar="ADDRESS", rare=True,
    )  # fmt: skip
    actors: str | None = _setting(
        None, "parts", "how many judge [as many as the cluster has room for]", metavar="N|MIN:MAX",
        rare=True,
    )  # fmt: skip
    cpus_per_actor: float | None = _setting(
        None, "parts", "CPUs of each [those of the largest node, shared by its GPUs]", metavar="C",
        rare=True,
    )  # fmt: skip
    gpus_per_actor: float | None = _setting(
        None, "parts", "GPUs of each [1 where the cluster has GPUs]", metavar="G", rare=True
    )

    files_from: str | None = _setting(
        None, "sources", "read a list from this file; - is stdin", metavar="FILE"
    )
    null: bool = _setting(False, "sources", "lists are separated by NUL bytes (find -print0)", "-0", "--null")
    include: tuple[str, ...] = _setting(
        (), "sources", "only matching files of folders (as .gitignore)", metavar="GLOB"
    )
    exclude: tuple[str, ...] = _setting((), "sources", "leave out matching files and folders", metavar="GLOB")
    max_depth: int | None = _setting(
        None, "sources", "how deep to walk; 1 is a folder's own files", metavar="N"
    )
    hidden: bool = _setting(False, "sources", "include hidden files and folders")
    follow: bool = _setting(False, "sources", "follow symbolic links in folders")
    newer_than: str | None = _setting(
        None, "sources", "only files of folders changed since: 24h, 7d, a time, a file",
        metavar="TIME",
    )  # fmt: skip
    unread: Literal["record", "skip"] = _setting(
        "record", "sources",
        "write an error record for each picture, film and archive of a format that is not read, or count it",
        rare=True,
    )  # fmt: skip
    limit: int | None = _setting(None, "sources", "stop after this many inputs", metavar="N")
    dry_run: bool = _setting(
        False, "sources", "count the inputs, estimate the time, and exit", "-n", "--dry-run"
    )

    url_column: str = _setting("url", "urls", "the column of a table that holds the URLs", metavar="NAME")
    keep_columns: tuple[str, ...] = _setting(
        (), "urls", "columns of the table to copy into the records", metavar="NAMES"
    )
    concurrency: int = _setting(64, "urls", "concurrent downloads", metavar="N")
    per_host: int = _setting(4, "urls", "concurrent downloads per host", metavar="N")
    timeout: float = _setting(30.0, "downloads", "time limit of one download, in seconds", metavar="S")
    retries: int = _setting(2, "urls", "retries after 429, 5xx or no connection", metavar="N")
    allow_private: bool = _setting(False, "urls", "allow private and loopback addresses, any port")
    allow_ports: str | None = _setting(
        None, "urls", "allow these ports besides 80 and 443: 8080,8443", metavar="LIST"
    )
    allow_host: tuple[str, ...] = _setting(
        (), "downloads", "private HOST:PORT that may be asked; repeatable", metavar="HOST"
    )
    header: tuple[str, ...] = _setting(
        (), "urls", "send 'Name: value' to the URLs' own hosts, not to redirects elsewhere; repeatable",
        metavar="HEADER", between="\n",
    )  # fmt: skip
    save_to: str | None = _setting(None, "urls", "keep the downloads here, named by SHA-256", metavar="DIR")

    host: str = _setting("127.0.0.1", "serve", "address; any but loopback needs API keys", metavar="ADDRESS")
    port: int = _setting(8000, "serve", "port; 0 chooses a free one", metavar="N")
    public_url: str | None = _setting(
        None, "serve", "the service as clients see it, for links in answers", metavar="URL"
    )
    api_keys_file: str | None = _setting(
        None, "access", "API keys, one a line (or in CLIPMOD_API_KEYS)", metavar="FILE"
    )
    no_auth: bool = _setting(False, "access", "ask for no API key, even on other than loopback addresses")
    server_name: tuple[str, ...] = _setting(
        (), "access", "name by which the service may be called, besides localhost and that of --public-url; "
        "* allows any; repeatable",
        metavar="NAME",
    )  # fmt: skip
    cors_origin: tuple[str, ...] = _setting(
        (), "access", "whose pages may use the API: https://example.org; repeatable", metavar="ORIGIN"
    )
    forwarded_allow_ips: tuple[str, ...] = _setting(
        (), "access",
        "address or network of a proxy whose X-Forwarded-For and X-Forwarded-Proto are believed; repeatable",
        metavar="IP",
    )  # fmt: skip
    rate_limit: int | None = _setting(
        None, "access", "requests a minute for each key or address", metavar="N"
    )
    max_requests: int = _setting(64, "limits", "concurrent requests; more are answered 503", metavar="N")
    max_requests_per_caller: int | None = _setting(
        None, "limits",
        "concurrent requests of one key or address; more are answered 429 [three quarters of --max-requests; "
        "all at a loopback address]",
        metavar="N", rare=True,
    )  # fmt: skip
    deadline: float = _setting(120.0, "limits", "seconds until a request is answered 504", metavar="S")
    grace: float = _setting(30.0, "limits", "seconds that requests may take when stopping", metavar="S")
    drain_s: float = _setting(5.0, "limits", "of these, with the port open, answering 503", metavar="S")
    unseen: Literal["error", "flag", "safe"] = _setting(
        "error", "serve",
        "answer to a picture without a hit of which something was not looked at: an error, NSFW, or Safe",
        metavar="ANSWER",
    )  # fmt: skip
    allow_policy: tuple[str, ...] = _setting(
        (), "serve", "policy that ?policy= may name; repeatable", metavar="POLICY"
    )
    allow_threshold: bool = _setting(
        False, "serve", "let requests choose the NSFW threshold (?threshold=)", rare=True
    )
    allow_coverage: bool = _setting(
        False, "serve", "let requests choose the coverage (?coverage=full, centre)", rare=True
    )
    v1_ignore_text: bool = _setting(
        False, "serve", "take no notice of text beside the pictures of /v1/moderations", rare=True
    )
    max_image_mb: int = _setting(50, "limits", "largest picture; 1 MiB is 1,048,576 bytes", metavar="MiB")
    max_video_mb: int = _setting(500, "limits", "largest video", metavar="MiB")
    max_multi_files: int = _setting(
        10, "limits", "files in a request to /predict/multi", metavar="N", rare=True
    )
    max_multi_mb: int = _setting(
        500, "limits", "size of a request to /predict/multi", metavar="MiB", rare=True
    )
    max_bodies_mb: int = _setting(
        4000, "limits", "size of all requests under way together", metavar="MiB", rare=True
    )
    max_url_count: int = _setting(10, "limits", "URLs in a request to /predict/urls", metavar="N", rare=True)
    max_stream_files: int = _setting(
        2500, "limits", "files in a request to /predict/streaming", metavar="N", rare=True
    )
    max_stream_mb: int = _setting(
        1000, "limits", "size of a request to /predict/streaming", metavar="MiB", rare=True
    )
    no_hosting: bool = _setting(False, "hosting", "do not keep pictures for /image/...")
    image_expiry_hours: float = _setting(
        24.0, "hosting", "how long pictures are kept", metavar="H", rare=True
    )
    hosting_mb: int = _setting(
        2000, "hosting", "size of kept pictures; the oldest are deleted", metavar="MiB"
    )
    hosting_files: int = _setting(
        100_000, "hosting", "number of kept pictures; the oldest are deleted", metavar="N", rare=True
    )
    keep_metadata: bool = _setting(
        False, "hosting", "keep pictures as they were sent, with EXIF, GPS and comments", rare=True
    )
    no_predictions: bool = _setting(False, "hosting", "do not write prediction files", rare=True)
    predictions_mb: int = _setting(
        500, "hosting", "size of prediction files; the oldest are deleted", metavar="MiB", rare=True
    )
    predictions_files: int = _setting(
        100_000, "hosting", "number of prediction files; the oldest are deleted", metavar="N", rare=True
    )
    data_dir: str | None = _setting(
        None, "hosting", "folder of both [in the user data folder]", metavar="DIR"
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
