"""Which addresses and URLs are allowed: examples by the rules, and laws."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.sources.web.addresses import AddressRules, check_redirect, check_url, is_public
from clipmod_cli.sources.web.errors import FetchError
from clipmod_cli.sources.web.fetch import host_of

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.0.1", "172.32.0.1", "168.63.129.15", "192.88.98.1",
    "2606:4700::1111", "2a00:1450:4001::5e", "2001:4860::8888", "2001:200::1", "::ffff:8.8.8.8",
]  # fmt: skip

NEVER = [
    "0.0.0.0", "0.1.2.3", "169.254.169.254", "168.63.129.16", "192.0.0.8", "192.0.0.9", "192.0.2.1",  # noqa: S104
    "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
    "255.255.255.255", "::", "::127.0.0.1", "::8.8.8.8", "::ffff:169.254.169.254", "::ffff:0:8.8.8.8",
    "64:ff9b::808:808", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::",
    "2001:1ff::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "3fff:fff::1",
    "4000::1", "5f00::1", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "2a00:1450::5efe:808:808",
    "2a00:1450::200:5efe:7f00:1", "2606:4700::1%1", "100.100.100.200", "fd00:ec2::254",
]  # fmt: skip
"""Not even for those who may ask private addresses: no host of anybody's network is there."""

PRIVATE = ["10.0.0.1", "127.0.0.1", "127.8.9.10", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
           "::1", "fc00::1", "fd12:3456::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"]  # fmt: skip

ADDRESSES = st.one_of(
    st.ip_addresses(v=4),
    st.ip_addresses(v=6),
    *(
        st.ip_addresses(network=n)
        for n in ("2000::/3", "::ffff:0:0/96", "2001::/16", "10.0.0.0/8", "192.0.0.0/8")
    ),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert AddressRules().allows(address)
    assert AddressRules(private=True).allows(address)


@pytest.mark.parametrize("address", NEVER)
def test_addresses_of_no_host_are_never_allowed(address: str) -> None:
    assert not AddressRules().allows(address)
    assert not AddressRules(private=True).allows(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_only_if_they_were_opened(address: str) -> None:
    assert not AddressRules().allows(address)
    assert AddressRules(private=True).allows(address)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "1.2.3.4.5", "8.8.8.8 ", "[::1]", "\uff18.8.8.8"])
def test_what_is_no_address_is_not_allowed(text: str) -> None:
    assert not AddressRules(private=True).allows(text)


@given(ADDRESSES)
def test_law_public_addresses_are_global_by_the_library_too(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    mapped = getattr(address, "ipv4_mapped", None) or address
    if is_public(address):
        assert mapped.is_global
        assert not any((mapped.is_multicast, mapped.is_reserved, mapped.is_private, mapped.is_link_local))
    assert AddressRules().allows(str(address)) == is_public(address)
    assert not is_public(address) or AddressRules(private=True).allows(str(address))


@given(st.ip_addresses(v=4))
def test_law_a_mapped_address_is_judged_as_what_it_maps(address: ipaddress.IPv4Address) -> None:
    assert is_public(ipaddress.IPv6Address(f"::ffff:{address}")) == is_public(address)


@given(st.ip_addresses(network="2000::/3"), st.ip_addresses(v=4), st.sampled_from([0x5EFE, 0x2005EFE]))
def test_law_no_interface_that_carries_an_ipv4_address_is_public(
    address: ipaddress.IPv6Address, inner: ipaddress.IPv4Address, mark: int
) -> None:
    upper = int(address) >> 64 << 64
    assert not is_public(ipaddress.IPv6Address(upper | mark << 32 | int(inner)))


@pytest.mark.parametrize(
    ("port", "allowed"), [(80, True), (443, True), (22, False), (8080, True), (8081, False)]
)
def test_ports(port: int, allowed: bool) -> None:
    assert AddressRules(ports=frozenset({80, 443, 8080})).allows_port(port) == allowed
    assert AddressRules(private=True).allows_port(port)


@pytest.mark.parametrize(
    "text",
    ["", "x.jpg", "www.example.com/x.jpg", "//example.com/x", "http:/example.com", "http:///x", "http://", "http://.",
     "file:///etc/passwd", "ftp://example.com/x", "gopher://example.com/", "data:image/png;base64,AAAA",
     "javascript:1", "ws://example.com/", "unix:///run/x", "http://user@example.com/", "http://user:pw@example.com/",
     "http://:pw@example.com/", "http://good.com\\@evil.com/", "http://exa mple.com/", "http://exa%6dple.com/",
     "http://example.com:0/", "http://example.com:99999/", "http://example.com:x/", "http://example.com:80:80/",
     "http://[::1", "http://[::1]x/", "http://[::1%25lo]/", "http://[fe80::1%lo]/", "http://a..b/", "http://.a/",
     "http://0177.0.0.1/", "http://999.1.1.1/", "http://①②⑦.0.0.1/", "http://exam\udcffple.com/",
     "http://example.com/\udcff", "http://exa\nmple.com/", "http://example.com/\0",
     "http://" + "a" * 300 + ".com/", "http://example.com/" + "a" * 70_000, "http://<b>/", "http://a,b/", "http://ﬁ.com/"],
)  # fmt: skip
def test_invalid_urls(text: str) -> None:
    with pytest.raises(FetchError) as caught:
        check_url(text)
    assert caught.value.code == "invalid_url"


@pytest.mark.parametrize(
    ("text", "host", "target"),
    [
        ("http://example.com", "example.com", b"/"),
        ("HTTPS://Example.COM:443/A b?q=é#part", "example.com", b"/A%20b?q=%C3%A9"),
        ("http://müller.de/", "xn--mller-kva.de", b"/"),
        ("http://[2606:4700::1]/x", "2606:4700::1", b"/x"),
        ("http://a_b.example.com./", "a_b.example.com.", b"/"),
        ("http://example.com:8080/", "example.com:8080", b"/"),
        ("http://127。0。0。1/", "127.0.0.1", b"/"),
    ],
)
def test_valid_urls(text: str, host: str, target: bytes) -> None:
    url = check_url(text)
    assert (host_of(url), url.raw_path) == (host, target)


@given(st.text())
def test_law_any_text_is_a_url_or_invalid(text: str) -> None:
    for candidate in (text, f"http://{text}", f"https://example.com/{text}"):
        try:
            url = check_url(candidate)
        except FetchError as e:
            code = e.code
        else:
            code = "invalid_url"
            assert url.scheme in ("http", "https")
            assert url.raw_host.decode("ascii")
            assert not url.userinfo
        assert code == "invalid_url"


@pytest.mark.parametrize(
    ("location", "code"),
    [("file:///etc/passwd", "invalid_url"), ("ftp://example.com/", "invalid_url"),
     ("//u:p@example.com/", "invalid_url"), ("http://", "invalid_url"), ("http://a b/", "invalid_url"),
     ("https://[::1", "invalid_url"), ("http://example.com/", "blocked_address"),
     ("javascript:alert(1)", "invalid_url")],
)  # fmt: skip
def test_redirects_that_are_refused(location: str, code: str) -> None:
    with pytest.raises(FetchError) as caught:
        check_redirect(check_url("https://example.com/a"), location)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("here", "location", "there"),
    [
        ("http://example.com/a/b", "c", "http://example.com/a/c"),
        ("http://example.com/a/b", "/c?d", "http://example.com/c?d"),
        ("http://example.com/a", "//other.com/x", "http://other.com/x"),
        ("http://example.com/a", "https://example.com/a", "https://example.com/a"),
        ("https://example.com/a", "../../x", "https://example.com/x"),
    ],
)
def test_redirects_that_are_followed(here: str, location: str, there: str) -> None:
    assert str(check_redirect(check_url(here), location)) == there
