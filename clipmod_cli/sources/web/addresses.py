"""Rules and limits of downloads: URLs and network addresses that are allowed.

Nothing here resolves a name or opens a connection; `clipmod_cli.sources.web.guard` applies the rules at the
moment a connection is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

import httpx2

from clipmod_cli.errors import SettingsError
from clipmod_cli.sources.web.errors import FetchError

Address: TypeAlias = IPv4Address | IPv6Address

HostAndPort: TypeAlias = tuple[str, int]
"""A name in lower case without a final dot, or an address as `ipaddress` writes it; and a port."""

WEB_PORTS = frozenset({80, 443})
VIDEO_S = 300.0
"""Enough for a video of 500 MB at 14 Mbit/s."""

MAX_HOST_CHARS = 253
"""The longest name that DNS can carry."""

_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")
"""A name in ASCII (others are in punycode by now) or an IPv6 address; a scope (`%eth0`) fits neither."""

_ALLOWED_HOST = re.compile(r"(?:\[[^/?#@\s]+\]|[^/?#@:\s\\]+)(?::([0-9]+))?")

_SPECIAL_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's own host agent, in public space
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays to 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
"""Listed one by one: `is_global` has changed between Python's releases."""

_UNICAST_V6 = IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
"""The upper half of an interface identifier that carries an IPv4 address in its lower half."""

_PRIVATE_V4 = tuple(
    IPv4Network(text)
    for text in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)
_PRIVATE_V6 = (IPv6Network("::1/128"), IPv6Network("fc00::/7"))
_METADATA = frozenset({ip_address("100.100.100.200"), ip_address("fd00:ec2::254")})
"""Cloud metadata services in private ranges, never allowed: they give out credentials. The usual one,
169.254.169.254, is link-local, which is never allowed either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRules:
    """Where downloads may go.

    Attributes:
        private: allow private and loopback addresses too, and any port.
        ports: allowed on public addresses.
        hosts: to which a connection may go although their addresses are private, at these ports alone.
        literal: one more address that is allowed, whichever it is.
    """

    private: bool = False
    ports: frozenset[int] = WEB_PORTS
    hosts: frozenset[HostAndPort] = frozenset()
    literal: str | None = None

    def of_connection(self, host: str, port: int) -> AddressRules:
        """Return the rules for the addresses of this host: other ones if it is in `hosts`.

        The addresses of a name may be private then, but not link-local, as those of cloud metadata services
        are: such an address has to be in `hosts` itself.
        """
        name = _canonical(host)
        return replace(self, private=True, literal=name) if (name, port) in self.hosts else self

    def allows_port(self, port: int) -> bool:
        """Return whether this port may be connected to."""
        return self.private or port in self.ports

    def allows(self, text: str) -> bool:
        """Return whether this address, as a resolver writes it, may be connected to."""
        try:
            address = ip_address(text)
        except ValueError:
            return False
        address = _unwrap(address)
        return is_public(address) or (self.private and _is_private(address)) or str(address) == self.literal


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """Allowed addresses and limits of one download.

    Attributes:
        access: allowed addresses and ports.
        headers: sent to the host of the given URL, never to another one.
        total_s: of one try with its redirects, without waiting for a slot.
        connect_s: of making a connection.
        read_s: of waiting for the next bytes.
        max_bytes: of a picture.
        max_redirects: that are followed.
        video_bytes: of a video or an archive.
        video_s: in place of `total_s` for a video or an archive.
        archives: download archives too; the caller unpacks them.
    """

    access: AddressRules = field(default_factory=AddressRules)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # may hold a token
    total_s: float = 30.0
    connect_s: float = 5.0
    read_s: float = 10.0
    max_bytes: int = 50_000_000
    max_redirects: int = 3
    video_bytes: int = 500_000_000
    video_s: float = VIDEO_S
    archives: bool = False


def is_public(address: Address) -> bool:
    """Return whether an address belongs to one host of the public internet."""
    address = _unwrap(address)
    if isinstance(address, IPv4Address):
        special = any(address in network for network in _SPECIAL_V4)
    else:
        special = (
            address not in _UNICAST_V6
            or address.scope_id is not None
            or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
            or any(address in network for network in _SPECIAL_V6)
        )
    return not special and address.is_global


def _unwrap(address: Address) -> Address:
    """Return the IPv4 address inside `::ffff:a.b.c.d`, other addresses as they are."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None and address.scope_id is None:
        return address.ipv4_mapped
    return address


def _is_private(address: Address) -> bool:
    if isinstance(address, IPv6Address):
        private = address.scope_id is None and any(address in network for network in _PRIVATE_V6)
    else:
        private = any(address in network for network in _PRIVATE_V4)
    return private and address not in _METADATA


def _canonical(host: str) -> str:
    """Return a host as `HostAndPort` has it."""
    try:
        return str(_unwrap(ip_address(host)))
    except ValueError:
        return host.lower().removesuffix(".")


def allowed_hosts(texts: Iterable[str]) -> frozenset[HostAndPort]:
    """Return what `--allow-host HOST[:PORT]` names; without a port, both of the web's own.

    Raises:
        SettingsError: one is not a host with a port.
    """
    return frozenset(one for text in texts for one in _read_allowed_host(text.strip()))


def _read_allowed_host(text: str) -> Iterator[HostAndPort]:
    parts = _ALLOWED_HOST.fullmatch(text)
    try:
        url = check_url(f"http://{parts[0] if parts else ''}")
    except FetchError as e:
        raise SettingsError(
            "--allow-host must be a host or an address, perhaps with a port, as images.example.org:8080 or "
            f"[fd00::1]:8080, not {text!r}"
        ) from e
    host, port = _canonical(url.raw_host.decode("ascii")), parts[1] if parts else None
    return ((host, number) for number in ([int(port)] if port else sorted(WEB_PORTS)))


def check_url(text: str) -> httpx2.URL:
    """Return the URL if it is http or https, with a plain host and no user name.

    Raises:
        FetchError: `invalid_url`.
    """
    try:
        url = httpx2.URL(text)
        host, port = url.raw_host.decode("ascii"), url.port
    except (httpx2.InvalidURL, ValueError) as e:  # half a surrogate pair, a number over all bounds
        raise FetchError("invalid_url", "this is not a valid URL") from e
    if url.scheme not in ("http", "https"):
        raise FetchError("invalid_url", "the URL does not begin with http:// or https://")
    if url.userinfo:
        raise FetchError("invalid_url", "the URL carries a user name or a password")
    if len(host) > MAX_HOST_CHARS or not _HOST.fullmatch(host):
        raise FetchError("invalid_url", "the URL has no valid host")
    if port is not None and not 0 < port < 65536:
        raise FetchError("invalid_url", "the URL's port is not within 1..65535")
    return url


def port_of(url: httpx2.URL) -> int:
    """Return the port of a URL, by default that of its scheme."""
    return url.port or (443 if url.scheme == "https" else 80)


def check_redirect(here: httpx2.URL, location: str) -> httpx2.URL:
    """Return the target of a redirect.

    Raises:
        FetchError: `invalid_url`, or `blocked_address` where it leaves https for http.
    """
    try:
        there = check_url(str(here.join(location)))
    except (httpx2.InvalidURL, ValueError, FetchError) as e:
        raise FetchError("invalid_url", "the target of the redirect is not an allowed URL") from e
    if here.scheme == "https" and there.scheme == "http":
        raise FetchError("blocked_address", "the redirect leaves https for http")
    return there
