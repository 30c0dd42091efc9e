"""Which models a command takes, and what it says of `auto`."""

from __future__ import annotations

import logging

from clipmod_cli.cli.terminal.notices import is_news
from clipmod_cli.cli.terminal.stdout import say
from clipmod_cli.judge.choice import ModelChoice, choose, describe_choice
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.specs import AUTO, parse_models
from clipmod_cli.output.resuming.card import RunCard
from clipmod_cli.runs.facts import choose_again
from clipmod_cli.settings.definition import Settings

log = logging.getLogger(__name__)


def choose_models(settings: Settings, policy: Policy, card: RunCard | None = None) -> tuple[ModelChoice, Hub]:
    """Return the models of the settings, and the hub that has them; say what `auto` took, once.

    On an existing output `auto` takes the models that wrote it.

    Raises:
        OutputMismatchError: one of them is not on this machine.
    """
    hub = Hub.from_environment(offline=settings.offline)
    facts = {} if card is None else card.facts
    if facts and parse_models(settings.models) == AUTO and facts["policy"]["hash"] == policy.hash:
        return choose_again(facts["models"], policy, hub, settings.output or ""), hub
    choice = choose(settings.models, policy, hub)
    if choice.auto:
        text = describe_choice(choice, policy)
        log.debug("%s", text)  # into the log file, and with --verbose
        if not (settings.quiet or settings.verbose) and is_news("auto", policy.name, ", ".join(choice.names)):
            say(f"clipmod: {text} (said once)")
    return choice, hub
