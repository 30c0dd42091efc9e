"""`clipmod serve`: the same pipeline over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from clipmod_cli.cli.options import Flags, with_settings

if TYPE_CHECKING:
    from clipmod_cli.server.service import Service
    from clipmod_cli.settings import Resolved

EXAMPLES = """
\b
Examples:
  clipmod serve --policy nsfw          on this machine alone; the page is at http://127.0.0.1:8000/ui
  clipmod serve --host 0.0.0.0 --api-keys-file keys.txt
                                       for others, who send X-API-Key or Authorization: Bearer
  clipmod serve --models ensemble --public-url https://moderation.example.org

Probes are at /healthz and /readyz, open to all; numbers for Prometheus at /metrics. SIGTERM and Ctrl-C
let what was taken be answered, within --grace. docs/http.md tells of keys, limits and proxies.
"""


@with_settings("judging", "serve", "machine", "store", "talk", without=frozenset({"json", "progress"}))
def serve(*, flags: Flags) -> None:
    """Judge over HTTP: three known interfaces, a page at /ui, and their description at /docs."""
    from clipmod_cli.cli.terminal.logs import begin

    resolved = begin(flags)
    raise typer.Exit(_serve(resolved))


def _serve(resolved: Resolved) -> int:
    from clipmod_cli.assemble import freeze_gc
    from clipmod_cli.cli.serving import bind, listen
    from clipmod_cli.server.app import create_app

    check_address(resolved)
    with bind(resolved.settings) as at:  # before models are loaded: a port that is taken is said at once
        service = _open(resolved)
        app = create_app(service, resolved.settings)
        freeze_gc()
        return listen(app, service, resolved.settings, at)


def check_address(resolved: Resolved) -> None:
    """Refuse to listen where others can ask without a key, unless that is wanted; before models are loaded.

    Raises:
        UsageError: if there is no key, and the address is not loopback, and `--no-auth` was not given; if
            keys or origins cannot be read.
    """
    from clipmod_cli.server.gate.stack import gate_of

    gate_of(resolved.settings)


def _open(resolved: Resolved) -> Service:
    from clipmod_cli.assemble import choose, describe_choice, policy_of
    from clipmod_cli.cli.terminal.download_bar import DownloadBar
    from clipmod_cli.cli.terminal.summary import command_line, say
    from clipmod_cli.models.hub.client import Hub
    from clipmod_cli.server.opening import open_service

    settings = resolved.settings
    policy = policy_of(resolved)
    hub = Hub.from_environment(offline=settings.offline)
    choice = choose(settings.models, policy, hub)
    if choice.auto and not settings.quiet:
        say(f"clipmod: {describe_choice(choice)}")
    with DownloadBar(quiet=settings.quiet) as progress:
        return open_service(resolved, choice, policy, hub, command=command_line(), progress=progress)
