"""Policies: the built-in ones, TOML files, and the words of `--classes`.

Reads them and hands them on as values (`clipmod_cli.judge.policy.values`, whose names are
also found here). How a file is checked is in `clipmod_cli.judge.policy.check` and
`clipmod_cli.judge.policy.rules`; judging by a policy is not done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from clipmod_cli.errors import PolicyError
from clipmod_cli.judge.policy.check import check_shape, is_plain
from clipmod_cli.judge.policy.report import did_you_mean, parse, quoted
from clipmod_cli.judge.policy.rules import check_meaning, same_words
from clipmod_cli.judge.policy.values import (
    Category,
    Policy,
    Safety,
    Sensitivity,
    complete_thresholds,
    doubts,
    seen_categories,
    unseen_categories,
)

__all__ = [
    "DEFAULT_POLICY",
    "Category",
    "Policy",
    "Safety",
    "Sensitivity",
    "builtin_names",
    "builtin_text",
    "doubts",
    "load_policy",
    "parse_policy",
    "policy_from_classes",
    "read_policy",
    "seen_categories",
    "unseen_categories",
]

DEFAULT_POLICY: Final = "female-presence"
BUILTIN: Final = (DEFAULT_POLICY, "female-presence-3", "nsfw", "nsfw-any", "general", "attributes")

MAX_BYTES: Final = 1_000_000
# A policy of ten thousand prompts is smaller; a picture given by mistake is told at once.

CLASS_TEMPLATES: Final = ("{}", "a photo of {}", "a photo of a {}", "an image showing {}")
# Words given with --classes come with an article and without, in one and in many
# ("gore", "a dog", "people dancing"), so no single sentence fits them all.


def builtin_names() -> tuple[str, ...]:
    """Return the names of the built-in policies, the default first."""
    return BUILTIN


def builtin_text(name: str) -> str:
    """Return the TOML text of a built-in policy.

    Raises:
        PolicyError: there is none of this name.
    """
    if name not in BUILTIN:
        raise PolicyError(
            f"no built-in policy is named {quoted(name)}{did_you_mean(name, BUILTIN)}; "
            f"there are {', '.join(BUILTIN)}. "
            'A file\'s path begins with "/", "./", "../" or "~", or ends in ".toml"'
        )
    return (files("clipmod_cli.judge") / "policies" / f"{name}.toml").read_text(encoding="utf-8")


def load_policy(name_or_path: str) -> Policy:
    """Return a built-in policy, or that of a TOML file where the argument is a path.

    Raises:
        PolicyError: there is no such policy, or it cannot be read, or it is inconsistent;
            the message has a line for each fault.
    """
    if name_or_path.startswith(("/", "./", "../", "~")) or name_or_path.endswith(".toml"):
        return read_policy(name_or_path)
    return parse_policy(builtin_text(name_or_path), f"{name_or_path}.toml")


def read_policy(path: str) -> Policy:
    """Return the policy of a TOML file, whatever its name.

    Raises:
        PolicyError: as `load_policy`.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"cannot read the policy {path}: {error.strerror or error}") from error
    except (ValueError, RuntimeError) as error:  # a NUL in the name, a home folder of nobody
        raise PolicyError(f"cannot read the policy {path!r}: {error}") from error
    if len(data) > MAX_BYTES:
        raise PolicyError(f"{path}: larger than {MAX_BYTES} bytes; this cannot be a policy")
    try:
        text = data.decode("utf-8-sig")  # Windows editors put a mark before the text
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PolicyError(f"{path}:{line}: not UTF-8 text; a policy is a TOML file") from error
    return parse_policy(text, path)


def parse_policy(text: str, where: str) -> Policy:
    """Return the policy that a TOML text describes; `where` names it in messages.

    Raises:
        PolicyError: with a line `where:line: message` for each fault.
    """
    table, report = parse(text)
    if not report.problems:
        check_shape(report, table)
        check_meaning(report, table)
    if report.problems:
        raise PolicyError(
            "\n".join(f"{where}:{line}: {message}" for line, message in sorted(set(report.problems)))
        )
    return _build(table)


def policy_from_classes(classes: str, unsafe: str | None = None) -> Policy:
    """Return a policy named `classes` with a category for each comma-separated word.

    Args:
        classes: at least two different words.
        unsafe: which of them are UNSAFE, without regard to capitals; None for none.

    Raises:
        PolicyError: a word is missing, doubled or not plain text, `unsafe` has one that is
            not in `classes`, or leaves none SAFE.
    """
    words = _words(classes, "--classes")
    if len(words) < 2:
        raise PolicyError("--classes needs at least two words: a picture is told from something else")
    marked = {} if unsafe is None else _words(unsafe, "--unsafe")
    strange = [quoted(word) for same, word in marked.items() if same not in words]
    if strange:
        raise PolicyError(f"--unsafe has words that are not among --classes: {', '.join(strange)}")
    if len(marked) == len(words):
        raise PolicyError("--unsafe names every class, so every picture would be NSFW: leave one SAFE")
    return Policy(
        name="classes",
        description="the user's own classes",
        templates=CLASS_TEMPLATES,
        categories=tuple(
            Category(name=word, safety="UNSAFE" if same in marked else "SAFE", prompts=(word,))
            for same, word in words.items()
        ),
    )


def _words(text: str, option: str) -> dict[str, str]:
    """Return the words as given, by what CLIP makes of them."""
    words: dict[str, str] = {}
    for word in (part.strip() for part in text.split(",")):
        if not is_plain(word):
            raise PolicyError(f"{option} has an empty word or a control sign in {quoted(text)}")
        if same_words(word) in words:
            raise PolicyError(f"{option} has {quoted(word)} twice")
        words[same_words(word)] = word
    return words


def _build(table: Mapping[str, Any]) -> Policy:
    """Return the policy of a table in which no fault was found."""
    video = table.get("video", {})
    band = table.get("review_band")
    return Policy(
        name=table["name"],
        description=table.get("description", ""),
        templates=tuple(table.get("templates", ("{}",))),
        agreement_threshold=float(table.get("agreement_threshold", 0.7)),
        review_band=None if band is None else (float(band[0]), float(band[1])),
        thresholds=complete_thresholds(table.get("thresholds", {})),
        persistence_s=float(video.get("persistence_s", 0.0)),
        max_gap_s=float(video.get("max_gap_s", 10.0)),
        categories=tuple(_category(c) for c in table["categories"]),
    )


def _category(table: Mapping[str, Any]) -> Category:
    return Category(
        name=table["name"],
        safety=table["safety"],
        label=table.get("label", ""),
        description=table.get("description", ""),
        otherwise=table.get("otherwise", False),
        prompts=tuple(table.get("prompts", ())),
        labels={spec: tuple(labels) for spec, labels in table.get("labels", {}).items()},
    )
