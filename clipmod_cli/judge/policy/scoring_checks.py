"""Checks of a policy's `scoring`, and of the `negatives` and the `head` of its categories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from clipmod_cli.judge.policy.threshold_checks import Categories
from clipmod_cli.judge.policy.values import Safety
from clipmod_cli.toml_lines import TomlPath

SAFETIES = get_args(Safety)


def useless_scoring(scoring: Any, categories: Categories) -> Iterator[tuple[TomlPath, str]]:
    """Yield the path and the fault of independent scoring where nothing is SAFE, or nothing UNSAFE."""
    found = [category.get("safety") for _, category in categories]
    if scoring != "independent" or not all(safety in SAFETIES for safety in found):
        return
    for safety in SAFETIES:
        if safety not in found:
            yield (
                ("scoring",),
                f"independent scoring compares UNSAFE categories with SAFE ones, and none is {safety}",
            )


def useless_negatives(scoring: Any, categories: Categories) -> Iterator[tuple[TomlPath, str]]:
    """Yield the path and the fault of each list of `negatives` that nothing is compared with."""
    for path, category in categories:
        if "negatives" not in category:
            continue
        if category.get("safety") == "SAFE":
            fault = '"negatives" is for an UNSAFE category: put these texts into the "prompts" of a SAFE one'
        elif scoring != "independent":
            fault = (
                '"negatives" needs scoring = "independent" at the top of the policy; with softmax scoring, '
                'put these texts into the "prompts" of a SAFE category'
            )
        elif "prompts" not in category:
            fault = '"negatives" is for a category with "prompts", which are compared with them'
        else:
            continue
        yield (*path, "negatives"), fault


def useless_heads(scoring: Any, categories: Categories) -> Iterator[tuple[TomlPath, str]]:
    """Yield the path and the fault of each head that would have no effect, or leaves pictures no category."""
    heads = [(path, category) for path, category in categories if "head" in category]
    for path, category in heads:
        for key in ("prompts", "negatives"):
            if key in category:
                yield (*path, "head"), f'"head" stands in place of "{key}": leave one of them out'
        if scoring == "independent" and category.get("safety") == "SAFE":
            yield (
                (*path, "head"),
                "with independent scoring only UNSAFE categories have heads: this one would change no score",
            )
    if heads and not any("prompts" in one or one.get("otherwise") is True for _, one in categories):
        yield (
            (*heads[0][0], "head"),
            'what no head recognises needs a category: give a SAFE one "prompts", or `otherwise = true`',
        )
