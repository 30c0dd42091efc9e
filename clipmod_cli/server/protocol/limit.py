"""How many connections are open at once, in all and from one address: each takes a descriptor."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from clipmod_cli.server.fairness.callers import network_of
from clipmod_cli.server.fairness.places import share_of

log = logging.getLogger(__name__)

MOST_DESCRIPTORS: Final = 65_536
"""What the process asks for; the kernel may grant less."""
FEWEST: Final = 64
TOLD_EVERY_S: Final = 60.0

REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: 35\r\n\r\n"
    b'{"detail": "Too many connections."}'
)


@dataclass
class ConnectionLimit:
    """Counts the open connections. Used in the event loop only.

    Attributes:
        most: of all addresses together; one has three quarters, but all at a loopback address, where a proxy
            hides its clients.
    """

    most: int
    now: int = 0
    _by_network: Counter[str] = field(default_factory=Counter, repr=False)
    _told_at: float = field(default=-TOLD_EVERY_S, repr=False)

    def take(self, address: str) -> bool:
        """Count a connection; false if there are too many, which is logged once a minute."""
        network = network_of(address)
        if self.now >= self.most or self._by_network[network] >= share_of(self.most, network):
            self._tell(network)
            return False
        self.now += 1
        self._by_network[network] += 1
        return True

    def give(self, address: str) -> None:
        """Count a connection no more."""
        network = network_of(address)
        self.now -= 1
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]

    def _tell(self, network: str) -> None:
        if time.monotonic() - self._told_at >= TOLD_EVERY_S:
            self._told_at = time.monotonic()
            count = self._by_network[network]
            log.warning("connections are refused: %d are open, %d of them from %s", self.now, count, network)


def connection_limit() -> ConnectionLimit:
    """Raise the process's limit of descriptors, and return one of connections: half of these.

    The other half is for the files of requests, decoders and pictures.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return ConnectionLimit(MOST_DESCRIPTORS // 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MOST_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    granted = MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    return ConnectionLimit(max(FEWEST, granted // 2))
