"""The layers in their order, and what they need to know of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fastapi import APIRouter
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from clipmod_cli.server.asked import Observer, Watched
from clipmod_cli.server.gate.bodies import Paced
from clipmod_cli.server.gate.bugs import BugsAnswered
from clipmod_cli.server.gate.headers import Guarded
from clipmod_cli.server.gate.hosts import HostChecked, names_of
from clipmod_cli.server.gate.keys import Identified, KeyRequired, Keys, keys_of
from clipmod_cli.server.gate.login import Sessions, login_router
from clipmod_cli.server.gate.origins import OriginChecked, read_origin
from clipmod_cli.server.gate.rate import RateLimited
from clipmod_cli.server.gate.room import RoomChecked
from clipmod_cli.server.service import Load
from clipmod_cli.settings import Settings

SENT = ("X-API-Key", "Authorization", "Content-Type", "X-Request-ID")
READ = ("X-Request-ID", "Retry-After")
"""Headers that a page of an allowed origin may send, and read."""


@dataclass(frozen=True)
class Gate:
    """Who may ask a service with these settings.

    Attributes:
        origins: of pages elsewhere that may use the API; `*` is all.
        own_origins: under which the service itself is known outside.
    """

    settings: Settings
    keys: Keys
    origins: frozenset[str]
    own_origins: frozenset[str]
    sessions: Sessions = field(default_factory=Sessions)

    @property
    def login(self) -> APIRouter:
        """The endpoints at which a person gives a key."""
        public = self.settings.public_url or ""
        return login_router(self.keys, self.sessions, secure=public.lower().startswith("https:"))

    def layers(self, observers: Sequence[Observer], load: Load) -> list[Middleware]:
        """Return the layers, the outermost first."""
        return list(self._layers(observers, load))

    def _layers(self, observers: Sequence[Observer], load: Load) -> Iterator[Middleware]:
        settings, origins = self.settings, self.origins
        yield Middleware(Watched, observers=observers)
        yield Middleware(Guarded, embeddable=bool(origins))
        yield Middleware(BugsAnswered)
        yield Middleware(HostChecked, names=None if self.keys.wanted else names_of(settings))
        if origins:  # outside of the keys: a browser asks first without any, and refusals are to be readable
            yield Middleware(
                CORSMiddleware,
                allow_origins=sorted(origins),
                allow_methods=["GET", "POST"],
                allow_headers=SENT,
                expose_headers=READ,
            )
        yield Middleware(OriginChecked, origins=origins | self.own_origins)
        yield Middleware(Identified, keys=self.keys, sessions=self.sessions)
        if settings.rate_limit is not None:
            yield Middleware(RateLimited, a_minute=settings.rate_limit)
        yield Middleware(KeyRequired, keys=self.keys)
        yield Middleware(RoomChecked, load=load)
        yield Middleware(Paced)


def gate_of(settings: Settings) -> Gate:
    """Return the gate that the settings describe.

    Raises:
        UsageError: if there is no key where others could ask, and nobody said `--no-auth`; if an
            origin is none.
    """
    origins = frozenset("*" if o == "*" else read_origin(o, "--cors-origin") for o in settings.cors_origin)
    own = frozenset([read_origin(settings.public_url, "--public-url")] if settings.public_url else [])
    return Gate(settings, keys_of(settings), origins, own)
