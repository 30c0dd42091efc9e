"""`clipmod serve`: the same pipeline over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from clipmod_cli.cli.options import ENVIRONMENT_NOTE, WITHOUT_RISK, Flags, with_settings
from clipmod_cli.settings.definition import SERVE_DEFAULTS

if TYPE_CHECKING:
    from clipmod_cli.server.service import Service
    from clipmod_cli.settings.reading import Resolved

EXAMPLES = f"""
{ENVIRONMENT_NOTE}
\b
Examples:
  clipmod serve --policy nsfw                            at 127.0.0.1:8000/ui
  clipmod serve --host 0.0.0.0 --api-keys-file keys.txt  on the network
  clipmod serve --public-url https://moderation.example.org

Probes (/healthz, /readyz) need no key; Prometheus metrics: /metrics. After SIGTERM or Ctrl-C requests in
progress are answered within --grace, new ones 503 for --drain-s. docs/http.md: keys, limits, proxies.
"""


@with_settings(
    "judging",
    "serve",
    "access",
    "limits",
    "hosting",
    "downloads",
    "machine",
    "store",
    "talk",
    without=frozenset({"progress", "risk", "screen"}),
    defaults=SERVE_DEFAULTS,
    choices=WITHOUT_RISK,
)
def serve(*, flags: Flags) -> None:
    """Judge over HTTP: four interfaces, a page at /ui, and their description at /docs."""
    from clipmod_cli.cli.terminal.logs import resolve_settings

    raise typer.Exit(_serve(resolve_settings(flags, defaults=SERVE_DEFAULTS)))


def _serve(resolved: Resolved) -> int:
    from clipmod_cli.assemble import freeze_gc
    from clipmod_cli.cli.serving import bind, listen
    from clipmod_cli.server.app import create_app
    from clipmod_cli.server.gate.stack import gate_of

    gate_of(resolved.settings)  # checks address, keys and origins before models are loaded
    with bind(resolved.settings) as at:  # before models are loaded: a port in use fails at once
        service = _open(resolved)
        app = create_app(service, resolved.settings)
        freeze_gc()
        return listen(app, service, resolved.settings, at)


def _open(resolved: Resolved) -> Service:
    from clipmod_cli.assemble import policy_of
    from clipmod_cli.cli.choosing import choose_models
    from clipmod_cli.cli.terminal.progress import DownloadBar
    from clipmod_cli.cli.terminal.summary import command_line
    from clipmod_cli.cli.usage.effects import check_models, check_policy, check_values
    from clipmod_cli.server.service import check_early_exit, open_service

    settings = resolved.settings
    check_early_exit(settings)
    check_values(settings)
    policy = policy_of(resolved)
    check_policy(resolved, policy)
    choice, hub = choose_models(settings, policy)
    check_models(resolved, choice)
    with DownloadBar(quiet=settings.quiet) as progress:
        return open_service(resolved, choice, policy, hub, command=command_line(), progress=progress)
