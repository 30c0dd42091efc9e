"""Policies from their sources: built in, a TOML file, or the words of `--classes`. Judges nothing."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from clipmod_cli.errors import PolicyError, did_you_mean
from clipmod_cli.judge.policy.checking import check_toml
from clipmod_cli.judge.policy.expectations import PolicyTest
from clipmod_cli.judge.policy.heads import Head, read_head
from clipmod_cli.judge.policy.tables import is_printable_name, normalise, quoted
from clipmod_cli.judge.policy.tuning import PlattCalibration, Promise, TunedModel, Tuning
from clipmod_cli.judge.policy.values import DEFAULT_THRESHOLDS, Category, Policy
from clipmod_cli.toml_lines import locate

BUILTIN: Final = ("nsfw", "graphic", "general", "female-presence", "female-presence-3", "attributes")
"""The names of the built-in policies."""

MAX_BYTES: Final = 1_000_000
# Ten thousand prompts are smaller; an image given by mistake is refused before it is parsed.

CLASS_TEMPLATES: Final = ("{}", "a photo of {}", "a photo of a {}", "an image showing {}")
# Words of --classes may have an article or none and may be plural ("gore", "a dog",
# "people dancing"), so no single sentence fits them all.

CLASSES = "classes"
"""The name of the policy that `--classes` makes."""


def builtin_text(name: str) -> str:
    """Return the TOML text of a built-in policy.

    Raises:
        PolicyError: no built-in policy has this name.
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
        PolicyError: no such policy, not readable, or inconsistent; a line for each fault.
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
    except (ValueError, RuntimeError) as error:  # NUL in the name; "~" of an unknown user
        raise PolicyError(f"cannot read the policy {path!r}: {error}") from error
    if len(data) > MAX_BYTES:
        raise PolicyError(f"{path}: larger than {MAX_BYTES} bytes; this cannot be a policy")
    try:
        text = data.decode("utf-8-sig")  # editors on Windows write a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PolicyError(f"{path}:{line}: not UTF-8 text; a policy is a TOML file") from error
    return parse_policy(text, path, Path(path).expanduser().absolute().parent)


def parse_policy(text: str, where: str, folder: Path | str | None = None) -> Policy:
    """Return the policy of a TOML text.

    Args:
        text: of a file.
        where: names the text in messages.
        folder: that paths in it are relative to; None is the working directory.

    Raises:
        PolicyError: with a line `where:line: message` for each fault.
    """
    table = check_toml(text, where)
    tables = _with_heads(table.pop("categories"), text, where, Path(folder or ""))
    categories = tuple(Category(**category) for category in tables)
    thresholds = {**DEFAULT_THRESHOLDS, **table.pop("thresholds", {})}
    tests = tuple(PolicyTest(**test) for test in table.pop("tests", ()))
    video, tuned = table.pop("video", {}), table.pop("tuned", None)
    policy = Policy(
        **video,
        **table,
        thresholds=thresholds,
        categories=categories,
        tests=tests,
        text=text,
        folder=None if folder is None else str(folder),
    )
    return policy if tuned is None else _tuned(policy, tuned, where)


def _with_heads(
    categories: list[dict[str, Any]], text: str, where: str, folder: Path
) -> list[dict[str, Any]]:
    """Return tables of categories with the heads that they name by path."""
    faults = []
    for number, category in enumerate(categories):
        if "head" not in category:
            continue
        try:
            category["head"] = _head_of(category, folder)
        except PolicyError as error:
            line = locate(text).get(("categories", number, "head"), 1)
            faults.append(f"{where}:{line}: {error}")
    if faults:
        raise PolicyError("\n".join(faults))
    return categories


def _head_of(category: dict[str, Any], folder: Path) -> Head:
    head, _ = read_head(folder / Path(category["head"]).expanduser())
    if head.category != category["name"]:
        raise PolicyError(
            f"{category['head']} is a head for {quoted(head.category)}, not for {quoted(category['name'])}"
        )
    return head


def _tuned(policy: Policy, table: dict[str, Any], where: str) -> Policy:
    """Return a policy with the thresholds of its `[tuned]` table."""
    tuning = Tuning(
        base_hash=table["base_hash"],
        tuned_on=table["date"],
        labels=table.get("labels_sha256"),
        models=tuple(TunedModel(**model) for model in table["models"]),
        promises=tuple(Promise(**promise) for promise in table["promises"]),
        calibration=PlattCalibration(**table["calibration"]) if "calibration" in table else None,
    )
    if policy.hash != tuning.base_hash:
        line = locate(policy.text)["tuned", "base_hash"]
        raise PolicyError(
            f"{where}:{line}: the policy above was changed since it was tuned ({tuning.base_hash}, now "
            f"{policy.hash}), so nothing is promised any more: tune again, or delete the [tuned] tables"
        )
    return policy.with_tuning(tuning)


def policy_from_classes(classes: str, unsafe: str | None = None) -> Policy:
    """Return a policy named `classes` with a category for each comma-separated word.

    Args:
        classes: at least two different words.
        unsafe: which of them are UNSAFE, without regard to capitals; None for none.

    Raises:
        PolicyError: a word is missing, repeated or not printable, or `unsafe` has a word that is
            not in `classes`, or has them all.
    """
    words = _split_words(classes, "--classes")
    if len(words) < 2:
        raise PolicyError(
            "--classes needs at least two classes: zero-shot scores are relative, "
            "so one class always scores 100 %"
        )
    marked = {} if unsafe is None else _split_words(unsafe, "--unsafe")
    unknown = [quoted(word) for key, word in marked.items() if key not in words]
    if unknown:
        raise PolicyError(f"--unsafe has words that are not among --classes: {', '.join(unknown)}")
    if len(marked) == len(words):
        raise PolicyError("--unsafe names every class, so every image would be NSFW: leave one SAFE")
    return Policy(
        name=CLASSES,
        description="the user's own classes",
        templates=CLASS_TEMPLATES,
        categories=tuple(
            Category(name=word, safety="UNSAFE" if key in marked else "SAFE", prompts=(word,))
            for key, word in words.items()
        ),
    )


def _split_words(text: str, option: str) -> dict[str, str]:
    """Return the words as given, by their normalised form."""
    words: dict[str, str] = {}
    for word in (part.strip() for part in text.split(",")):
        if not is_printable_name(word):
            raise PolicyError(f"{option} has an empty word or a control character in {quoted(text)}")
        if normalise(word) in words:
            raise PolicyError(f"{option} has {quoted(word)} twice")
        words[normalise(word)] = word
    return words
