"""Who a request is counted for: its API key, else its address, an IPv6 one by its network."""

from __future__ import annotations

import ipaddress
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from clipmod_cli.server.request_info import RequestInfo

REMEMBERED: Final = 4_096
"""Addresses whose parts are known: to parse one takes as long as a small request's routing."""

NETWORK_BITS: Final = 64
"""Of an IPv6 address: one customer has a whole network."""

REQUEST: Final[ContextVar[RequestInfo | None]] = ContextVar("clipmod_request", default=None)
"""The request that is being answered, also in the tasks and threads that work for it."""


def current_caller() -> str:
    """Return the caller of the request that is being answered; empty outside of one."""
    info = REQUEST.get()
    return "" if info is None else info.caller


@lru_cache(REMEMBERED)
def network_of(address: str) -> str:
    """Return an IPv4 address as it is, of an IPv6 address its network."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    if found.version == 4 or found.is_loopback:
        return address
    return str(ipaddress.ip_network((int(found), NETWORK_BITS), strict=False))


@lru_cache(REMEMBERED)
def may_be_many(caller: str) -> bool:
    """Return whether a caller may be a proxy on this machine, which all its clients come through."""
    try:
        return not caller or ipaddress.ip_address(caller).is_loopback
    except ValueError:  # a key, or a network
        return False
