"""The layers in their order, set up from the settings."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from fastapi import APIRouter
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from clipmod_cli.errors import UsageError
from clipmod_cli.server.configuration import MB
from clipmod_cli.server.fairness.bodies import BODIES_PER_PLACE, OpenBodies
from clipmod_cli.server.fairness.places import ServiceLoad
from clipmod_cli.server.gate.authentication import (
    IdentityMiddleware,
    KeyMiddleware,
    Sessions,
    login_router,
)
from clipmod_cli.server.gate.capacity import BodiesMiddleware, CapacityMiddleware
from clipmod_cli.server.gate.keys import ApiKeys, keys_of
from clipmod_cli.server.gate.middleware import (
    BodyPaceMiddleware,
    EncodingMiddleware,
    HeadersMiddleware,
    HostMiddleware,
    InternalErrorMiddleware,
    OriginMiddleware,
    ProtocolFaultMiddleware,
    names_of,
    read_origin,
)
from clipmod_cli.server.gate.rate import RateLimitMiddleware
from clipmod_cli.server.protocol.methods import MethodsMiddleware
from clipmod_cli.server.request_info import ObserverMiddleware, RequestObserver
from clipmod_cli.settings.definition import Settings

SENT = ("X-API-Key", "Authorization", "Content-Type", "X-Request-ID")
READ = (
    "X-Request-ID",
    "Retry-After",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "RateLimit-Policy",
    "RateLimit",
)
"""Headers that a page of an allowed origin may send, and read."""


@dataclass(frozen=True)
class Gate:
    """The checks that every request passes.

    Attributes:
        origins: other origins whose pages may use the API; `*` is all.
        own_origins: the service's own public origin.
    """

    settings: Settings
    keys: ApiKeys
    origins: frozenset[str]
    own_origins: frozenset[str]
    sessions: Sessions = field(default_factory=Sessions)

    @property
    def login(self) -> APIRouter:
        """The login endpoints of the page."""
        public = self.settings.public_url or ""
        return login_router(self.keys, self.sessions, secure=public.lower().startswith("https:"))

    def layers(
        self,
        observers: Sequence[RequestObserver],
        load: ServiceLoad,
        judging_paths: tuple[str, ...],
        shaping: Sequence[Callable[[ASGIApp], ASGIApp]] = (),
    ) -> Iterator[Middleware]:
        """Yield the layers, the outermost first; `shaping` are those that change the shape of errors."""
        settings, origins = self.settings, self.origins
        if settings.forwarded_allow_ips:
            yield Middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.forwarded_allow_ips))
        yield Middleware(ObserverMiddleware, observers=observers)
        yield from map(Middleware, shaping)
        yield Middleware(HeadersMiddleware, embeddable=bool(origins))
        yield Middleware(InternalErrorMiddleware)
        yield Middleware(ProtocolFaultMiddleware)
        yield Middleware(HostMiddleware, names=None if self.keys.required else names_of(settings))
        if origins:  # before the keys: preflight requests carry none, and pages must be able to read refusals
            yield Middleware(
                CORSMiddleware,
                allow_origins=sorted(origins),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=SENT,
                expose_headers=READ,
            )
        yield Middleware(OriginMiddleware, origins=origins | self.own_origins)
        yield Middleware(IdentityMiddleware, keys=self.keys, sessions=self.sessions)
        if settings.rate_limit is not None:
            yield Middleware(RateLimitMiddleware, a_minute=settings.rate_limit)
        yield Middleware(KeyMiddleware, keys=self.keys)
        yield Middleware(EncodingMiddleware)
        yield Middleware(CapacityMiddleware, load=load, judging_paths=judging_paths)
        yield Middleware(BodiesMiddleware, bodies=_bodies_of(settings), judging_paths=judging_paths)
        yield Middleware(BodyPaceMiddleware)
        yield Middleware(MethodsMiddleware)


def _check_network(text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError as e:  # also of *: whatever address a client makes up would be believed
        raise UsageError(
            f"--forwarded-allow-ips {text!r} is no address or network; write it as 10.0.0.7 or 10.0.0.0/8"
        ) from e


def _bodies_of(settings: Settings) -> OpenBodies:
    own = settings.max_requests_per_caller
    return OpenBodies(
        most=BODIES_PER_PLACE * settings.max_requests,
        most_bytes=settings.max_bodies_mb * MB,
        most_per_caller=None if own is None else BODIES_PER_PLACE * own,
    )


def gate_of(settings: Settings) -> Gate:
    """Return the gate of these settings.

    Raises:
        UsageError: if required keys are missing, or an origin or a proxy's address is invalid.
    """
    for proxy in settings.forwarded_allow_ips:
        _check_network(proxy)
    origins = frozenset("*" if o == "*" else read_origin(o, "--cors-origin") for o in settings.cors_origin)
    own = frozenset([read_origin(settings.public_url, "--public-url")] if settings.public_url else [])
    return Gate(settings, keys_of(settings), origins, own)
